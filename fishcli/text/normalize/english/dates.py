"""Dates: "3/4/2024", "March 5-9", "5 Feb 24", "2024-01-15T10:30Z", "Mon-Fri", "the class of '05"."""

import regex
from regex import Match

from fishcli.text.normalize.english.grammar import stop
from fishcli.text.normalize.english.rules import ALONE, TH, Rule
from fishcli.text.normalize.numerals import cardinal, ordinal, year

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_MONTH = "(?P<month>(?i:" + "|".join(rf"{name[:3]}(?:{name[3:]}|t?\.|(?<=Sep)t\b)?" for name in _MONTHS) + r"))(?!\w)"
_SHORT_MONTH = "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
_ANY_MONTH = "|".join([_SHORT_MONTH, *_MONTHS])
_DAYS = {
    "Mon": "Monday", "Tue": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Fri": "Friday", "Sat": "Saturday",
    "Sun": "Sunday",
}  # fmt: skip
_DAY = r"(?:Mon|Tues?|Wed|Thu(?:rs?)?|Fri|Sat|Sun)\b"
_YEAR = r"(?:,? (?:(?<year>[12]\d{3})(?!\d|,\d)|['’](?<short>\d\d)\b))?"
_LAST = rf"(?:\s?(?<to>[–-]|\b(?:to|through|and|or)\b)\s?(?<last>[0-3]?\d){TH}?(?!\w|[:.,/]\d))?"


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


def _iso_time(match: Match[str]) -> str:
    """Read the end of "2024-01-15T10:30:00+01:00" as ", 10:30, U T C plus one"."""
    seconds = f":{match['second']}" if match["second"] not in (None, "00") else ""
    zone = match["zone"] or ""
    if zone[1:]:
        zone = f", U T C {'plus' if zone[0] == '+' else 'minus'} {cardinal(int(zone[1:3]))}"
    return f", {match['time']}{seconds}{' U T C' if zone == 'Z' else zone}"


def _name(written: str) -> str:
    return next(name for name in _MONTHS if name.lower().startswith(written[:3].lower()))


def _is_date(match: Match[str], certain: bool) -> bool:
    """Return whether a month with a day is a date: "may 5 of them" and "June 45" are none."""
    days = [int(match[day]) for day in ("day", "last") if match[day]]
    if not all(1 <= day <= 31 for day in days):
        return False
    return certain or match["month"] not in ("may", "march", "mar")


_IN_MONTH = regex.compile(r"(?i)\b(?:in|during|last|this|every|next|late|early|mid)[\s-]\Z")
_WORD_AFTER = regex.compile(r"\s(?!was\b|is\b|and\b|to\b|at\b|for\b|when\b|we\b|they\b|he\b|she\b|the\b)[a-z]")


def _month_day(match: Match[str]) -> str:
    dated = match["year"] or match["short"] or match["th"]
    counts = _IN_MONTH.search(match.string[max(0, match.start() - 8) : match.start()]) and not dated
    if not _is_date(match, bool(dated)) or (counts and _WORD_AFTER.match(match.string, match.end())):
        return match[0]
    said = f"{_name(match['month'])} {ordinal(int(match['day']))}"
    if match["last"]:
        said += f" {match['to'] if match['to'].isalpha() else 'to'} {ordinal(int(match['last']))}"
    written = match["year"] or match["short"]
    return said + (f", {year(_full_year(written))}" if written else "")


def _day_month(match: Match[str]) -> str:
    written = match["year"] or match["short"] or match["end"]
    if not _is_date(match, bool(written or match["of"])):
        return match[0]
    article = "" if match.string[max(0, match.start() - 4) : match.start()].lower() == "the " else "the "
    said = f"{article}{ordinal(int(match['day']))}"
    if match["last"]:
        said += f" {match['to'] if match['to'].isalpha() else 'to'} the {ordinal(int(match['last']))}"
    return f"{said} of {_name(match['month'])}" + (f" {year(_full_year(written))}" if written else "")


def _season(match: Match[str]) -> str:
    """Read "2023/24" as two years if they follow each other."""
    first, last = int(match["first"]), int(match["last"])
    if last != (first + 1) % (100 if last < 100 else 10_000):
        return match[0]
    return f"{year(first)} to {year(last)}"


def _month(match: Match[str]) -> str:
    return _name(match["month"]) + stop(match)


def _day(match: Match[str]) -> str:
    return _DAYS[match[0][:3]] + stop(match)


NAMES: list[Rule] = [
    (
        rf"\b(?<a>{_DAY})\.?(?:\s?[–-]\s?|\sto\s)(?<b>{_DAY})\.?",
        lambda m: f"{_DAYS[m['a'][:3]]} to {_DAYS[m['b'][:3]]}{stop(m)}",
    ),
    (rf"\b{_DAY}\.?(?=,? (?:{_ANY_MONTH})\b|, \d{{1,2}}\b|,? \d{{1,2}}{TH}?(?: of)? (?:{_ANY_MONTH})\b)", _day),
    (rf"\b{_DAY}\.?(?=:? \d{{1,2}}(?::\d\d)?(?: ?[AaPp]\.?[Mm]\b| ?[–-] ?\d)|\.? at \d)", _day),
    (rf"\b{_DAY}\.?(?=(?:, | and | & |/){_DAY})", _day),
    (rf"(?<=(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day(?:, | and |, and | & |/)){_DAY}\.?", _day),
    (r"\b(?:Tues?|Thu(?:rs?)?)\b(?:\.|(?!\w|['’]))", _day),
    (rf"(?<=\b(?i:on|every|next|last|this|until|by|since)\s)(?!Sun\b){_DAY}\.?(?!['’]\w)", _day),
    (rf"\b{_DAY}\.(?=\s[a-z])", _day),
    (
        rf"\b(?<a>{_ANY_MONTH})\.?(?:\s?[–-]\s?)(?<b>{_ANY_MONTH})\b\.?(?!\s?\d\d?\b)",
        lambda m: f"{_name(m['a'])} to {_name(m['b'])}{stop(m)}",
    ),
    (rf"\b{_MONTH}(?=,? [12]\d{{3}}\b)", lambda m: _name(m["month"]) if m["month"][0].isupper() else m[0]),
    (rf"\b(?<month>{_SHORT_MONTH})\.(?=\s[a-z])", _month),
    (
        r"(?<=\b(?i:in|since|until|till|late|early|mid|last|next)[\s-])(?!Jan\s[a-z]|Mar\sdel\b)"
        rf"(?<month>{_SHORT_MONTH})\b(?:\.|(?!\w|['’]))",
        _month,
    ),
]
_TIME = r"T(?<time>\d\d:\d\d)(?::(?<second>\d\d)(?:\.\d{1,9})?)?(?<zone>Z\b|[+-]\d\d:?\d\d\b)?"
RULES: list[Rule] = [
    (rf"(?<=\b\d{{4}}-\d\d-\d\d){_TIME}", _iso_time),
    (rf"{ALONE}(?<year>\d{{4}})-(?<a>\d\d)-(?<b>\d\d)(?![\d-])", _date),
    (rf"{ALONE}(?<year>[12]\d{{3}})(?<sep>[/.])(?<a>\d{{1,2}})(?P=sep)(?<b>\d{{1,2}})(?![\d/]|\.\d)", _date),
    (rf"{ALONE}(?<a>\d{{1,2}})/(?<b>\d{{1,2}})/(?<year>\d{{4}}|\d\d)(?![\d/])", _date),
    (rf"{ALONE}(?<a>\d{{1,2}})-(?<b>\d{{1,2}})-(?<year>\d{{4}})(?![\d-])", _date),
    (rf"{ALONE}(?<a>\d{{1,2}})(?<dot>\.)(?<b>\d{{1,2}})\.(?<year>\d{{4}})(?!\.?\d)", _date),
    (
        r"(?<=\b(?:[Oo]n|due|until|since|deadline|dated|(?:date|deadline|due|birthday) (?:is|was|on)|date:) )"
        r"(?<a>\d{1,2})/(?<b>\d{1,2})(?![\d/]|\.\d|\sof\b)",
        _date,
    ),
    (
        rf"{ALONE}(?<a>0[1-9]|1[0-2])/(?<year>(?:19|20)\d\d)(?![\d/])",
        lambda m: f"{_MONTHS[int(m['a']) - 1]} {year(int(m['year']))}",
    ),
    (rf"{ALONE}(?<first>(?:19|20)\d\d)/(?<last>\d\d|(?:19|20)\d\d)(?![\d/])", _season),
    (
        rf"{ALONE}(?<day>\d\d?){TH}?{_LAST}(?<of> of)? {_MONTH}"
        rf"(?:,? (?:(?<year>[12]\d{{3}})(?!\d|,\d)|['’](?<short>\d\d)\b|(?<end>\d\d)(?=\s*(?:[.,;)!?](?!\d)|\Z))))?",
        _day_month,
    ),
    (
        rf"{ALONE}(?<day>[0-3]?\d)-(?<last>)(?<of>){_MONTH}-(?<year>[12]\d{{3}}|\d\d)(?<short>)(?<end>)(?![\w-])",
        _day_month,
    ),
    (rf"\b{_MONTH} (?<day>[0-3]?\d)(?<th>{TH})?{_LAST}(?!{TH}){_YEAR}(?![\d:]|[.,/]\d)", _month_day),
    (r"(?<=\byear )\d{4}(?![\d%]|,\d)", lambda m: year(int(m[0]))),
    (r"(?<=\s|^|\()['’]0([1-9])\b", lambda m: f"oh {cardinal(int(m[1]))}"),
]
