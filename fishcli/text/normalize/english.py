"""English normalisation: numbers, dates, money, units, abbreviations and addresses as words.

An ordered list of rules, each a pattern and its words. Rules with more context come first, so that "3/4/2024" is a
date before "3/4" can be a fraction; plain numbers come last. Text without digits, symbols and the abbreviations below
stays unchanged. American forms: March fourth, no "and" in numbers.
"""

from collections.abc import Callable
from functools import cache
from unicodedata import digit, normalize

import regex
from regex import Match, Pattern

from fishcli.text.normalize.numerals import (
    CURRENCIES,
    UNITS,
    cardinal,
    coins,
    counted,
    fraction,
    in_pairs,
    number,
    ordinal,
    plural,
    roman,
    spelled,
    year,
)

# Repetitions are bounded or follow a lookbehind, so that no rule takes quadratic time on a hostile text.
_NUM = r"(?:(?:\d{1,3}(?:,\d{3}){1,6}(?!,?\d)|\d+)(?:\.\d+)?|(?<!\d)\.\d+)"
_ALONE = r"(?<![\w.,:/])"  # not inside a longer number or code

# Addresses.

_SIGNS = {
    "@": "at", ".": "dot", "/": "slash", "-": "dash", "_": "underscore", ":": "colon", "?": "question mark",
    "=": "equals", "&": "and", "#": "hash", "%": "percent", "~": "tilde", "+": "plus",
}  # fmt: skip
_DOMAINS = "com|org|net|edu|gov|io|dev|ai|app|info|co|uk|de|fr|eu|ca|au|jp|cn|in|us|me|tv"


def _address(match: Match[str]) -> str:
    address = regex.sub(r"^https?://|/$", "", match[0])
    parts = regex.findall(r"[^\W\d_]+|\d+|[^\w\s]|_", address)
    said = [spelled(part) if part.isdigit() else _SIGNS.get(part, part) for part in parts]
    return " ".join("w w w" if part == "www" else part for part in said)


# Dates and times.

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_MONTH = "(?P<month>" + "|".join(rf"{name[:3]}(?:{name[3:]}|t?\.|(?<=Sep)t\b)?" for name in _MONTHS) + ")"
_HALF = r"(?:[ \u00a0\u202f]?(?P<half>[AaPp])(?:[Mm]\b(?!\.\w)|\.[ ]?[Mm]\.?))"
_DASH = r"(?:\s[–-]\s|[–-])"
_STARTERS = (
    "The|An?|It|He|She|They|We|You|I|This|That|These|Those|There|In|On|At|But|And|So|Then|When|If|As|For|My|Our|His|Her"
    "|Its|Their|What|Who|How|Why|Where|After|Before|No|Yes"
)
_AFTER_STOP = regex.compile(rf"""["”’)\]]*(?:\s*\Z|[ \t]*\n|\s+["“(]?(?:{_STARTERS})\b)""")


def _stop(match: Match[str]) -> str:
    """Return a full stop if the one of the abbreviation ends the sentence too, else nothing."""
    return "." if match[0].endswith(".") and _AFTER_STOP.match(match.string, match.end()) else ""


def _full_year(written: str) -> int:
    return int(written) + (0 if len(written) > 2 else 2000 if int(written) < 50 else 1900)


def _date(match: Match[str]) -> str:
    """Read a date in digits, month first where possible: "3/4/2024", "25/12/2024", "2024-03-04", "4.3.2024"."""
    groups = match.groupdict()
    first, second = int(match["a"]), int(match["b"])
    day_first = "dot" in groups or first > 12
    day, month = (first, second) if day_first else (second, first)
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match[0]
    said = f"{_MONTHS[month - 1]} {ordinal(day)}"
    return f"{said}, {year(_full_year(match['year']))}" if "year" in groups else said


def _month(match: Match[str]) -> str:
    return next(name for name in _MONTHS if name.startswith(match["month"][:3]))


def _month_day(match: Match[str]) -> str:
    said = f"{_month(match)} {ordinal(int(match['day']))}"
    said += f" to {ordinal(int(match['last']))}" if match["last"] else ""
    return said + (f", {year(int(match['year']))}" if match["year"] else "")


def _day_month(match: Match[str]) -> str:
    said = f"the {ordinal(int(match['day']))} of {_month(match)}"
    return said + (f" {year(int(match['year']))}" if match["year"] else "")


def _time(match: Match[str]) -> str:
    groups = match.groupdict()
    hour, minute = int(match["hour"]), int(groups.get("minute", "0"))
    said = cardinal(hour)
    if minute:
        said += f" {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    elif not match["half"]:
        said = f"{said} hundred" if hour > 12 else f"{said} o'clock" if hour else "midnight"
    if groups.get("second"):
        said += f" and {counted(str(int(match['second'])), 'second')}"
    return said + (f" {match['half'].lower()} m{_stop(match)}" if match["half"] else "")


# Money, units, fractions.

_CURRENCY = "|".join(sorted(map(regex.escape, CURRENCIES), key=len, reverse=True))
_MULTIPLES = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "tn": "trillion"}
_UNIT = "|".join(sorted(map(regex.escape, UNITS), key=len, reverse=True))
_POWERS = {"2": "square ", "²": "square ", "3": "cubic ", "³": "cubic "}
_SET_PHRASES = {"24/7": "twenty four seven", "9/11": "nine eleven", "50/50": "fifty fifty", "20/20": "twenty twenty"}
_NOUN_AFTER = regex.compile(r"[\s-][a-z]")


def _money(match: Match[str]) -> str:
    groups = match.groupdict()
    written, multiple, article = match["num"], groups.get("multiple"), groups.get("article") or ""
    coin, small = CURRENCIES[match["currency"]]
    adjective = article and _NOUN_AFTER.match(match.string, match.end())
    if multiple:
        said = f"{number(written)} {_MULTIPLES.get(multiple.strip().lower(), multiple.strip())}"
        return f"{article}{said} {coin if adjective else plural(coin)}"
    if adjective:
        return f"{article}{number(written)} {coin}"
    return article + coins(written, coin, small)


def _measure(match: Match[str]) -> str:
    unit = _POWERS.get(match["power"] or "", "") + UNITS[match["unit"]]
    unit += f" per {UNITS[match['per']]}" if match["per"] else ""
    return f"{number(match['num'])}-{unit}" if match["hyphen"] else counted(match["num"], unit)


def _fraction(match: Match[str]) -> str:
    if match[0] in _SET_PHRASES:
        return _SET_PHRASES[match[0]]
    above, below = int(match["above"]), int(match["below"])
    if below in (10, 100) and not (match["whole"] or match["parts"]):
        return f"{cardinal(above)} out of {cardinal(below)}"
    return fraction(above, below, int(match["whole"] or 0))


# Abbreviations. "Mr." and "Mrs." are the usual spellings; only ambiguous or unreadable ones are replaced.

_TITLES = {
    "Dr": "Doctor", "Prof": "Professor", "St": "Saint", "Mt": "Mount", "Ft": "Fort", "Gen": "General", "Col": "Colonel",
    "Capt": "Captain", "Lt": "Lieutenant", "Sgt": "Sergeant", "Rev": "Reverend", "Gov": "Governor", "Sen": "Senator",
    "Rep": "Representative", "Pres": "President", "Hon": "Honorable",
}  # fmt: skip
_STREETS = {
    "St": "Street", "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road", "Dr": "Drive", "Ln": "Lane", "Hwy": "Highway",
    "Sq": "Square", "Pkwy": "Parkway", "Apt": "Apartment",
}  # fmt: skip
_NUMBERED = {
    "no": "number", "nos": "numbers", "fig": "figure", "figs": "figures", "vol": "volume", "ch": "chapter", "p": "page",
    "pp": "pages", "sec": "section", "eq": "equation", "c": "circa", "ca": "circa", "ext": "extension",
    "art": "article", "apt": "apartment", "rm": "room",
}  # fmt: skip
_ABBREVIATIONS = {
    "e.g.": "for example", "i.e.": "that is", "etc.": "et cetera", "vs.": "versus", "approx.": "approximately",
    "dept.": "department", "est.": "established", "inc.": "incorporated", "corp.": "corporation", "ltd.": "limited",
    "bros.": "brothers", "jr.": "junior", "sr.": "senior", "ph.d.": "P H D", "a.k.a.": "also known as", "b.c.": "B C",
    "b.c.e.": "B C E", "a.d.": "A D", "avg.": "average", "misc.": "miscellaneous", "w/o": "without",
}  # fmt: skip
_PARTS = (
    "Chapter|Part|Book|Volume|Act|Scene|Section|Article|War|Type|Phase|Level|Appendix|Class|Title|Stage|Bowl|Episode"
)
_NAME_AFTER = regex.compile(r"\s+\p{Lu}")
_KINGS = (
    "Henry|Louis|George|Elizabeth|Charles|Edward|James|William|Richard|John|Paul|Benedict|Pius|Leo|Philip|Napoleon"
    "|Frederick|Catherine|Nicholas|Alexander|Peter|Ivan|Gregory|Clement|Innocent|Urban|Mary|Ramses|Ptolemy|Darius|Xerxes"
)
_ROMAN = r"(?P<roman>X{0,3}(?:IX|IV|V?I{0,3}))"


def _street(match: Match[str]) -> str:
    return _STREETS[match[0].rstrip(".")] + _stop(match)


def _abbreviation(match: Match[str]) -> str:
    lists = match[0] == "etc." and _NAME_AFTER.match(match.string, match.end())  # a name starts a new sentence
    return _ABBREVIATIONS[match[0].lower()] + ("." if lists else _stop(match))


# Plain numbers, last.

_YEAR_BEFORE = regex.compile(
    r"(?:\b(?:in|since|of|by|from|until|till|before|after|during|year|circa|between|summer|winter|spring|fall|"
    r"autumn|(?:January|February|March|April|May|June|July|August|September|October|November|December),?)\s|\()\Z",
    regex.IGNORECASE,
)
_THINGS = r"\s(?!(?:was|is|has|as|its|this|does|census|times)\b)(?:[a-z]+s|people)\b"
_THINGS_AFTER = regex.compile(_THINGS)


def _is_year(match: Match[str]) -> bool:
    """Return whether the number is a year: 1000 to 2099, not a count ("2024 reasons"); below 1100 only after "in"."""
    if not regex.fullmatch(r"1\d{3}|20\d\d", match[0]):
        return False
    if _YEAR_BEFORE.search(match.string[max(0, match.start() - 12) : match.start()]):
        return True
    return match[0] >= "1100" and not _THINGS_AFTER.match(match.string, match.end())


def _plain(match: Match[str]) -> str:
    start, end, text = match.start(), match.end(), match.string
    after_letter = start > 0 and text[start - 1].isalpha()
    if after_letter and regex.fullmatch(r"[1-9]\d{2,3}", match[0]):
        said = in_pairs(int(match[0]))
    else:
        said = year(int(match[0])) if _is_year(match) else number(match[0])
    # "A4" and "1,2" are two words each.
    left = " " if after_letter or text[start - 1 : start] == "," else ""
    right = " " if end < len(text) and text[end].isalpha() else ""
    return f"{left}{said}{right}"


def _plural_number(match: Match[str]) -> str:
    """Read "1990s", "'80s", "MP3s". "3s" is a plural too: it is more likely than three seconds."""
    after_letter = match.string[match.start() - 1 : match.start()].isalpha()
    return " " * after_letter + plural(year(int(match["n"])))


def _telephone(match: Match[str]) -> str:
    return ("plus " if match[0][0] == "+" else "") + ", ".join(map(spelled, regex.findall(r"\d+", match[0])))


def _dotted(match: Match[str]) -> str:
    groups = match["groups"].split(".")
    said = " dot ".join(map(spelled, groups)) if len(groups) == 4 else " point ".join(map(number, groups))
    return ("version " if match["version"] else "") + said


_OPERATORS = {
    "=": "equals", "+": "plus", "×": "times", "÷": "divided by", "<": "is less than", ">": "is greater than",
    "≤": "is at most", "≥": "is at least",
}  # fmt: skip
_Said = str | Callable[[Match[str]], str]
_RULES: list[tuple[str, _Said]] = [
    (r"(?:https?://|www\.)[^\s<>\"”]*[\w/]|(?<![\w.+-])[\w.+-]+@\w[\w-]*(?:\.\w[\w-]*){1,9}", _address),
    (rf"(?<![\w.@-])(?:\w[\w-]{{0,62}}\.){{1,9}}(?:{_DOMAINS})\b(?:/[\w/-]*\w)?(?![.-]?\w)", _address),
    (rf"(?<=\d(?:\s[A-Z]\w{{1,20}}){{1,3}}\s)(?:{'|'.join(_STREETS)})\b\.?", _street),
    (rf"(?<=[A-Z]\w{{1,20}}\s)(?:St|Ave|Blvd|Rd|Ln|Hwy|Pkwy)\.(?!\s+(?!(?:{_STARTERS})\b)\p{{Lu}})", _street),
    (rf"\b(?:(?:{'|'.join(_TITLES)})\.|Dr|Prof)(?=\s+\p{{Lu}})", lambda m: _TITLES[m[0].rstrip(".")]),
    (rf"(?i)(?<![\w.])(?:{'|'.join(map(regex.escape, _ABBREVIATIONS))})(?!\w(?<=\.\w))", _abbreviation),
    (rf"(?i)\b(?<p>{'|'.join(_NUMBERED)})\.\s?(?=\d)", lambda m: f"{_NUMBERED[m['p'].lower()]} "),
    (r"(?<!\w)w/\s?(?=[A-Za-z])", "with "),
    (r"№\s?|#(?=\d)", "number "),
    (r"(?<![\w.])(?:[A-Z]\.){2,}(?!\w)", lambda m: " ".join(m[0].replace(".", "")) + _stop(m)),
    (
        rf"(?<=\b(?:{_PARTS})\s)(?!I\s(?:am|was|have|had|will|would|do|did|can|could)\b){_ROMAN}\b(?<=[IVX])",
        lambda m: cardinal(roman(m["roman"])),
    ),
    (rf"(?<=\b(?:{_KINGS})\s)(?!I\b|[VX]\.\s){_ROMAN}\b(?<=[IVX])", lambda m: f"the {ordinal(roman(m['roman']))}"),
    # dates and times
    (rf"{_ALONE}(?<year>\d{{4}})-(?<a>\d\d)-(?<b>\d\d)(?![\d-])", _date),
    (rf"{_ALONE}(?<a>\d{{1,2}})/(?<b>\d{{1,2}})/(?<year>\d{{4}}|\d\d)(?![\d/])", _date),
    (rf"{_ALONE}(?<a>\d{{1,2}})-(?<b>\d{{1,2}})-(?<year>\d{{4}})(?![\d-])", _date),
    (rf"{_ALONE}(?<a>\d{{1,2}})(?<dot>\.)(?<b>\d{{1,2}})\.(?<year>\d{{4}})(?!\.?\d)", _date),
    (r"(?<=\b[Oo]n )(?<a>\d{1,2})/(?<b>\d{1,2})(?![\d/])", _date),
    (
        rf"\b{_MONTH} (?<day>[0-3]?\d)(?:st|nd|rd|th)?(?:\s?[–-]\s?(?<last>[0-3]?\d)(?:st|nd|rd|th)?)?"
        r"(?:,? (?<year>[12]\d{3}))?(?![\d:]|[.,/]\d)",
        _month_day,
    ),
    (
        rf"{_ALONE}(?:the )?(?<day>[0-3]?\d)(?:st|nd|rd|th)?(?: of)? {_MONTH}\b(?:,? (?<year>[12]\d{{3}})(?!\d|,\d))?",
        _day_month,
    ),
    (rf"\b{_MONTH}(?=,? [12]\d{{3}}\b)", _month),
    (rf"{_ALONE}(1[0-2]|[1-9]){_DASH}(?=(?:1[0-2]|[1-9])(?::[0-5]\d)?{_HALF})", r"\1 to "),
    (rf"(?<=\d{_HALF}|\d:[0-5]\d){_DASH}(?=\d)", " to "),
    (
        rf"{_ALONE}(?<hour>[01]?\d|2[0-4])(?::|\.(?=\d\d ?[ap]\.?m))(?<minute>[0-5]\d)(?::(?<second>[0-5]\d))?"
        rf"(?!\d|[:.]\d){_HALF}?",
        _time,
    ),
    (rf"{_ALONE}(?<hour>1[0-2]|[1-9]){_HALF}", _time),
    # spaces between thousands; plain ones stand between numbers too, so there it must look like one number
    (
        r"(?<![\w.,:/+)]|[\d)]\s)(?:[1-9]\d{0,2}(?:[\u00a0\u2009\u202f]\d{3}){1,5}|[1-9]\d?(?: \d{3}){2,5}"
        r"|[1-9]\d{0,2}(?: \d{3}){0,4} 000)(?!\s?\d|,\d|[/-]\d{3}(?!\s))",
        lambda m: regex.sub(r"\s", ",", m[0]),
    ),
    # codes
    (rf"{_ALONE}(?<version>[vV])?(?<groups>\d+(?:\.\d+){{2,9}})", _dotted),
    (rf"{_ALONE}[vV](?=\d)", "version "),
    (r"(?<![\w.,/-])(?:\+?1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?!\d)", _telephone),
    (r"(?<![\w.,/-])(?:\d{3}-\d{4}|\d{4}(?: \d{4}){2,3}|\d+(?:-\d+){2,9})(?![\d-])", _telephone),
    (r"(?<!\w)\+\d{1,3}(?:[ .-]\(?\d{1,4}\)?){2,5}(?!\d)", _telephone),
    (r"(?<=\d)/(?=(?:month|year|week|day|night|hour|minute|second|person)\b)", " per "),
    (rf"(?<=\d|\d\s?[$£€¥])/(?<per>{_UNIT})(?![\w/²³])", lambda m: f" per {UNITS[m['per']]}"),
    (r"(?<=\d)\s?[x×·]\s?(?=10\^)", " times "),
    (r"(?<=[\w)])\^(?=[-−]?\d)", " to the power of "),
    # ranges: what is counted follows the second number
    (rf"(?<cur>{_CURRENCY})({_NUM})\s?[–-]\s?(?:(?P=cur))?(?={_NUM})", lambda m: f"{m[2]} to {m['cur']}"),
    (r"(?<!\d)(?<first>[12]\d)(?<a>\d\d)[–-](?<b>\d\d)(?!\d|[–-])", r"\g<first>\g<a> to \g<b>"),
    (rf"(?<![\w.,/-])({_NUM}%?)(?:\s?–\s?|-(?!\d+[/⁄]\d))(?={_NUM}(?!-?\d))", r"\1 to "),
    (rf"(?<![\w)\]])[-−](?=(?:{_CURRENCY})?\.?\d)", "minus "),
    (r"(?<=\d)\s?[x×]\s?(?=\d)", " by "),
    (r"(?<=\d)[x×]\b", " times"),
    # decades, money, measures, fractions
    (r"(?<![\d.,])(?<!\w['’])['’]?(?<n>\d|\d0|\d{4})['’]?s\b", _plural_number),
    (
        rf"(?<article>\b[Aa]n?\s)?(?<currency>{_CURRENCY})\s?(?<num>{_NUM})"
        r"(?<multiple>(?:bn|mn|tn|[kKmMbB])\b|\s(?:thousand|million|billion|trillion)\b)?",
        _money,
    ),
    (rf"{_ALONE}(?<num>{_NUM})\s?(?<currency>{_CURRENCY})(?!\w)", _money),
    (
        rf"(?<![\w.,])(?!3M|[458]K)(?<num>{_NUM})(?<multiple>[mbt]n\b|[kKMB]\b(?:(?<=[1-9]\d*\.\d+.)|(?={_THINGS})))",
        lambda m: f"{number(m['num'])} {_MULTIPLES[m['multiple'].lower()]}",
    ),
    (
        r"(?<![\d/.,])(?:(?<whole>\d{1,6})[ -](?=\d+[/⁄]))?(?<above>\d{1,3})[/⁄](?<below>\d{1,3})"
        r"(?:(?<parts>(?:rd|th|nd)s?)\b)?(?![\d/])",
        _fraction,
    ),
    (r"(?<![\d.])(\d)(?:['′](\d{1,2})[\"″]|\s?ft\.?\s(\d{1,2})\s?in\b)", r"\1 foot \2\3"),
    (r"(?<=\d)(?:\s?in\.?(?=\s(?:wide|long|tall|high|thick|deep)\b)|″)", " inches"),
    (
        rf"(?<![\w.,])(?<num>{_NUM})(?:[ \u00a0\u202f]?|(?<hyphen>-))(?<unit>{_UNIT})(?<power>[23²³])?"
        rf"(?:/(?<per>{_UNIT}))?(?![\w²³'’])(?:\.(?=\s[a-z]))?",
        _measure,
    ),
    (r"(?<=\d)\s?%", " percent"),
    (
        r"(?<![\w.])(?<n>\d{1,3}(?:,\d{3}){1,4}|\d{1,15})(?:st|nd|rd|th)\b",
        lambda m: ordinal(int(m["n"].replace(",", ""))),
    ),
    # signs between and before numbers and words
    (r"(?<=\d):(?=\d)", " to "),
    (r"(?<=\w)²", " squared"),
    (r"(?<=\w)³", " cubed"),
    (r"(?<=\d)\s[-−]\s(?=\d)", " minus "),
    (r"(?<![\w)\]+])\+(?=\.?\d)", "plus "),
    (r"(?<=[\w)])\s?([=+×÷<>≤≥])\s?(?=\d)", lambda m: f" {_OPERATORS[m[1]]} "),
    (r"(?<=\w)\s([=+])\s(?=\w)", lambda m: f" {_OPERATORS[m[1]]} "),
    (r"(?<=\d)/(?=\d)", " slash "),
    (r"[~≈]\s?(?=\d)", "about "),
    (r"±\s?(?=\d)", "plus or minus "),
    (r"§\s?(?=\d)", "section "),
    (r"(?<=\w)\s?&\s?(?=\w)", " and "),
    (r"(?<=\s)@(?=\s)", "at"),
    (r"(?<=\b[A-Z])#", " sharp"),
    # the rest
    (r"(?<=\s|^)['’](?=\d\d\b)", ""),
    ("²", "2"),
    ("³", "3"),
    (_NUM, _plain),
]
_OTHER_DIGIT = regex.compile(r"[\p{Nd}--0-9]", regex.V1)
_OTHER_NUMBER = regex.compile(r"[\p{No}\p{Nl}--²³]", regex.V1)
_SENTENCE_START = regex.compile(r"""(?:\A|[.!?…]["”’)]*\s+["“‘(]*|\n\s*)\Z""")


def in_words(text: str) -> str:
    """Return English text with numbers, symbols and abbreviations as words; no digit is left."""
    text = _OTHER_DIGIT.sub(lambda m: str(digit(m[0])), text)
    text = _OTHER_NUMBER.sub(
        lambda m: " " * m.string[m.start() - 1 : m.start()].isdigit() + normalize("NFKC", m[0]), text
    )
    for pattern, said in _compiled():
        text = _replaced(text, pattern, said)
    return text


@cache
def _compiled() -> list[tuple[Pattern[str], _Said]]:
    """Return the rules, compiled at the first use: it takes 0.2 s."""
    return [(regex.compile(pattern), said) for pattern, said in _RULES]


def _replaced(text: str, pattern: Pattern[str], said: _Said) -> str:
    def words(match: Match[str]) -> str:
        return _capitalized(match, match.expand(said) if isinstance(said, str) else said(match))

    return pattern.sub(words, text)


def _capitalized(match: Match[str], said: str) -> str:
    """Return the words, capitalised like the match or as a sentence start, which the splitter needs to see."""
    first, before = match[0][:1], match.string[max(0, match.start() - 8) : match.start()]
    starts = (first.isupper() or not first.isalpha()) and _SENTENCE_START.search(before)
    capital = starts or (first.isupper() and match[0][1:2].islower())
    return said[:1].upper() + said[1:] if capital else said
