"""Abbreviations. "Mr." and "Mrs." are the usual spellings; only ambiguous or unreadable ones are replaced."""

import regex
from regex import Match

from fishcli.text.normalize.english.grammar import STARTERS, stop
from fishcli.text.normalize.english.rules import TH, Rule, one_of

_TITLES = {
    "Dr": "Doctor", "Prof": "Professor", "St": "Saint", "Mt": "Mount", "Ft": "Fort", "Gen": "General", "Col": "Colonel",
    "Capt": "Captain", "Lt": "Lieutenant", "Sgt": "Sergeant", "Rev": "Reverend", "Gov": "Governor", "Sen": "Senator",
    "Rep": "Representative", "Pres": "President", "Hon": "Honorable",
}  # fmt: skip
_STREETS = {
    "St": "Street", "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road", "Dr": "Drive", "Ln": "Lane", "Hwy": "Highway",
    "Sq": "Square", "Pkwy": "Parkway", "Apt": "Apartment", "Fl": "Floor",
}  # fmt: skip
_STREET = "|".join(_STREETS)
_DIRECTIONS = {"N": "North", "S": "South", "E": "East", "W": "West"}
_NUMBERED = {
    "no": "number", "nos": "numbers", "fig": "figure", "figs": "figures", "vol": "volume", "vols": "volumes",
    "ch": "chapter", "p": "page", "pp": "pages", "pg": "page", "pgs": "pages", "sec": "section", "eq": "equation",
    "c": "circa", "ca": "circa", "ext": "extension", "art": "article", "apt": "apartment", "rm": "room", "op": "opus",
    "tel": "telephone", "ph": "phone", "para": "paragraph", "ver": "version", "rev": "revision", "qty": "quantity",
    "bldg": "building", "ste": "suite", "nr": "number", "max": "maximum", "min": "minimum",
    "tab": "table", "fn": "footnote",
    "rte": "route", "temp": "temperature", "pt": "part", "pts": "parts", "chs": "chapters",
}  # fmt: skip
_ABBREVIATIONS = {
    "e.g.": "for example", "i.e.": "that is", "etc.": "et cetera", "vs.": "versus", "approx.": "approximately",
    "dept.": "department", "est.": "estimated", "inc.": "incorporated", "corp.": "corporation", "ltd.": "limited",
    "bros.": "brothers", "jr.": "junior", "sr.": "senior", "ph.d.": "P H D", "a.k.a.": "also known as", "b.c.": "B C",
    "b.c.e.": "B C E", "a.d.": "A D", "avg.": "average", "misc.": "miscellaneous", "w/o": "without", "c/o": "care of",
}  # fmt: skip
_LIVES = {"b": "born", "d": "died", "est": "established", "r": "reigned"}
_NAME_AFTER = regex.compile(r"\s+\p{Lu}")
_SAYING = regex.compile(
    r"\b(?:said|says|say|saying|answer|answered|replied|shouted|whispered|cried|told\s\w{1,20}|answer\s(?:is|was)"
    r"|(?:is|was)\sa)\s\Z"
)


def _street(match: Match[str]) -> str:
    return _STREETS[match[0].rstrip(".")] + stop(match)


def _abbreviation(match: Match[str]) -> str:
    lists = match[0] == "etc." and _NAME_AFTER.match(match.string, match.end())  # a name starts a new sentence
    return _ABBREVIATIONS[match[0].lower()] + ("." if lists else stop(match))


def _numbered(match: Match[str]) -> str:
    """Read "No. 5" as "Number 5", but leave "He said no. 5 people left."."""
    if match["p"] == "no" and _SAYING.search(match.string[max(0, match.start() - 32) : match.start()]):
        return match[0]
    return f"{_NUMBERED[match['p'].lower()]} "


RULES: list[Rule] = [
    (rf"\b[NSEW]\.(?=\s(?:\d{{1,3}}{TH}|[A-Z]\w{{1,20}})\s(?:{_STREET})\b)", lambda m: _DIRECTIONS[m[0][0]]),
    (rf"(?<=\d(?:\s[A-Z]\w{{1,20}}){{1,3}}\s)(?:{_STREET})\b\.?", _street),
    (rf"(?<=\d{TH}\s)(?:{_STREET})\b\.?(?!(?<=Dr\.?)\s\p{{Lu}})", _street),
    (rf"(?<=[A-Z]\w{{1,20}}\s)(?:St|Ave|Blvd|Rd|Ln|Hwy|Pkwy)\.(?!\s+(?!(?:{STARTERS})\b)\p{{Lu}})", _street),
    (rf"\b(?:(?:{'|'.join(_TITLES)})\.|Dr|Prof)(?=\s+\p{{Lu}})", lambda m: _TITLES[m[0].rstrip(".")]),
    (r"(?<=[(,;]\s?)(?<p>b|d|r|est)\.\s?(?=(?:c\.\s?)?[1-9]\d{2,3}\b)", lambda m: f"{_LIVES[m['p']]} "),
    (r"(?i)(?<![\w.])(?<p>est)\.\s(?=1[5-9]\d\d\b|20\d\d\b)", lambda m: "established "),
    (rf"(?i)(?<![\w.])(?:{one_of(list(_ABBREVIATIONS))})(?!\w(?<=\.\w))", _abbreviation),
    (r"(?<=\w )vs(?= \w)", "versus"),
    (r"(?<=\p{Lu}\w{1,20} )v\.(?= \p{Lu})", "versus"),
    (rf"(?<=\d{TH}\s)eds?\.", lambda m: f"edition{stop(m)}"),
    (rf"(?i)\b(?<!\d\s?(?=min))(?<p>{'|'.join(_NUMBERED)})\.\s?(?=\d(?!\d{{0,2}}:))", _numbered),
    (r"\b(?<p>[Vv]ols?|[Cc]hs?|[Pp]ts?|[Ff]igs?)\.\s?(?=(?!I(?!\w))[IVXL]{1,7}(?!\w))", _numbered),
    (r"(?<!\w)w/\s?(?=[A-Za-z])", "with "),
    (r"№\s?|#(?=\d)|\b[Nn][°º]\s?(?=\d)", "number "),
    (r"(?<![\w.])(?:[A-Z]\.){2,}(?!\w)", lambda m: " ".join(m[0].replace(".", "")) + stop(m)),
]
