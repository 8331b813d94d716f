"""Numbers that nothing else claims: ranges, decades, ordinals, years and quantities."""

import regex
from regex import Match

from fishcli.text.normalize.english.rules import NUM, THINGS, Rule
from fishcli.text.normalize.english.units import UNIT, unit_name
from fishcli.text.normalize.numerals import cardinal, in_pairs, number, ordinal, plural, year

_YEAR_BEFORE = regex.compile(
    r"(?:\b(?:in|since|of|by|from|until|till|before|after|during|year|circa|between|summer|winter|spring|fall|"
    r"autumn|(?:January|February|March|April|May|June|July|August|September|October|November|December),?)\s|\()\Z",
    regex.IGNORECASE,
)
_THINGS_AFTER = regex.compile(THINGS)


def _is_year(match: Match[str]) -> bool:
    """Return whether the number is a year: 1000 to 2099, not a count ("2024 reasons"); below 1100 only after "in"."""
    if not regex.fullmatch(r"1\d{3}|20\d\d", match[0]):
        return False
    if _YEAR_BEFORE.search(match.string[max(0, match.start() - 12) : match.start()]):
        return True
    return match[0] >= "1100" and not _THINGS_AFTER.match(match.string, match.end())


def _plain(match: Match[str]) -> str:
    before = match.string[match.start() - 1 : match.start()]
    if before.isalpha() and regex.fullmatch(r"[1-9]\d{2,3}", match[0]):
        said = in_pairs(int(match[0]))
    else:
        said = year(int(match[0])) if _is_year(match) else number(match[0])
    return f" {said}" if before == "," else said  # "1,2" are two words


def _plural_number(match: Match[str]) -> str:
    """Read "1990s", "'80s", "MP3s"."""
    return plural(year(int(match["n"])))


def _years(match: Match[str]) -> str:
    """Read "1914-18" and "2008-09" as years."""
    last = int(match[2])
    return f"{year(int(match[1]))} to {'oh ' if last < 10 else ''}{cardinal(last)}"


RANGES: list[Rule] = [
    (r"(?<=\b[A-Z]-)[1-9]\d\d\b(?![.,-]\d)", lambda m: in_pairs(int(m[0]))),
    (r"(?<=[\d%])/(?=(?:month|year|week|day|night|hour|minute|second|person)\b)", " per "),
    (rf"(?<=\d|\d\s?[$£€¥])/(?<per>{UNIT})(?![\w/²³])", lambda m: f" per {unit_name(m['per'])}"),
    (r"(?<!\d)([12]\d{3})[–-](\d\d)(?!\d|[–-])", _years),
    (
        rf"(?<![\w.,/-])({NUM}%?)(?:\s?–\s?|-(?!\d+[/⁄]\d)|\s-\s(?=\d+\s(?!(?:is|equals|was|gives|makes)\b)[a-z]))"
        rf"(?={NUM}(?!-?\d))",
        r"\1 to ",
    ),
    (r"(?<![\w)\]])[-−](?=\p{Sc}?\.?\d)", "minus "),
    (r"(?<=\d)x(?=\s?[-+=*/^²³)]|(?<=equals\s\d{1,9}x)(?!\w)|\s(?:plus|minus|equals|times|to\sthe\spower)\b)", " x"),
    (r"(?<=\d)[x×]\b", " times"),
]
DECADES: list[Rule] = [(r"(?<![\d.,])(?<!\w['’])['’$£€]?(?<n>\d{1,4})['’]?s\b", _plural_number)]
RULES: list[Rule] = [
    (r"(?<=\d)\s?(?:%|pct\b\.?)", " percent"),
    (
        r"(?i)(?<![\w.])(?<n>\d{1,3}(?:,\d{3}){1,4}|\d{1,15})(?:st|nd|rd|th)\b",
        lambda m: ordinal(int(m["n"].replace(",", ""))),
    ),
]
PLAIN: list[Rule] = [
    (r"(?<=\s|^)['’](?=\d\d\b)", ""),
    ("²", "2"),
    ("³", "3"),
    (NUM, _plain),
]
