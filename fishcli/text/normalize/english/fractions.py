"""Fractions and ratios: "2 1/2 tsp", "an 80/20 rule", "4/5 stars", "4/4 time"."""

import regex
from regex import Match

from fishcli.text.normalize.english.grammar import modifies_noun
from fishcli.text.normalize.english.rules import ALONE, NUM, Rule
from fishcli.text.normalize.english.units import UNIT, unit_name
from fishcli.text.normalize.numerals import cardinal, fraction, number, plural

_SET_PHRASES = {"24/7": "twenty four seven", "9/11": "nine eleven", "50/50": "fifty fifty", "20/20": "twenty twenty"}
_SHARES = "rule|split|chance|mix|ratio|blend|share|partnership|odds|deal|principle|division|balance"


_OF = regex.compile(r"\s(?:of|the)\b")


def _fraction(match: Match[str]) -> str:
    if match[0] in _SET_PHRASES:
        return _SET_PHRASES[match[0]]
    above, below, whole = int(match["above"]), int(match["below"]), int(match["whole"] or 0)
    part = _OF.match(match.string, match.end())
    if below in (10, 100) and not (whole or match["parts"] or match["unit"] or part):
        return f"{cardinal(above)} out of {cardinal(below)}"
    said = fraction(above, below, whole)
    return _with_unit(match, said) if match["unit"] else said


def _with_unit(match: Match[str], said: str) -> str:
    unit = unit_name(match["unit"])
    if modifies_noun(match):
        return f"{said.removesuffix('s')} {unit}"
    if match["whole"] or int(match["above"]) > int(match["below"]):
        return f"{said} {plural(unit)}"
    article = "an" if regex.match("[aeio]|hour", unit) else "a"
    return f"{said} {unit}" if match["above"] == "1" else f"{said} of {article} {unit}"


def _shares(match: Match[str]) -> str:
    first, second = int(match[1]), int(match[2])
    return f"{cardinal(first)} {cardinal(second)}" if first + second == 100 else match[0]


def _out_of(match: Match[str]) -> str:
    return f"{number(match[1])} out of {number(match[2])}"


_RATIO = "ratio|scale|mix|mixture|dilution|odds|win|victory|loss|lead|defeat|blend|solution|gear"
_RATIO_BEFORE = r"\b(?i:ratio|odds|scale|scored?|won|lost|diluted|mixed|leads?|led)(?:\s(?:is|was|of|are|by))?\s"
# Before times of day, which look the same.
RATIOS: list[Rule] = [
    (rf"(?<={_RATIO_BEFORE})(\d{{1,4}}):(?=\d{{1,4}}(?![\d:]))", r"\1 to "),
    (rf"{ALONE}(\d{{1,4}}):(?=\d{{1,4}}[\s-](?:{_RATIO})\b)", r"\1 to "),
]
RULES: list[Rule] = [
    (r"(?<![\w.,/-])(50)[/–-](50)(?![\w/-]|[.,]\d)", _shares),
    (rf"(?<![\w.,/-])(\d\d)[/–:-](\d\d)(?=[\s-](?:{_SHARES})s?\b)", _shares),
    (
        r"(?<![\w.,/-])(\d{1,2})/(2|4|8|16)(?=[\s-](?:time|signature|meter|beat)\b)",
        lambda m: f"{cardinal(int(m[1]))} {cardinal(int(m[2]))}",
    ),
    (rf"(?<![\w.,/-])({NUM})/(\d{{1,3}})(?=\s(?:stars?|points?|marks?)\b)", _out_of),
    (r"(?<![\w.,/-])(\d{1,3}\.\d{1,2})/(\d{1,3})(?![\d/]|\.\d)", _out_of),
    (
        r"(?<=\b(?i:rated|scored|(?:score|rating)(?:\s(?:of|is))?)\s(?:it\s|him\s|her\s)?)"
        rf"({NUM})/(\d{{1,3}})(?![\d/]|\.\d)",
        _out_of,
    ),
]
PARTS: list[Rule] = [
    (
        r"(?<![\d/.,])(?:(?<whole>\d{1,6})[ -](?=\d+[/⁄]))?(?<above>\d{1,3})[/⁄](?<below>\d{1,3})"
        rf"(?:(?<parts>(?:rd|th|nd)s?)\b|[\s-]?(?<unit>{UNIT})(?![\w/])(?:\.(?=\s[a-z]))?)?(?![\d/])",
        _fraction,
    ),
]
