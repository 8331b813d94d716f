"""Figures as other countries write them, in the form that the rules know: "€1.299,00" as "€1299.00"."""

import regex
from regex import Match

from fishcli.text.normalize.english.money import AFTER, BEFORE
from fishcli.text.normalize.english.rules import Rule
from fishcli.text.normalize.english.units import UNIT

_DECIMAL_COMMA = r"\d{1,3}(?:\.\d{3}){1,5},\d{1,2}(?!\d|[.,]\d)"  # 1.971,13
_AMOUNT = rf"(?:{_DECIMAL_COMMA}|\d{{1,9}},\d\d?(?!\d|[.,]\d)|\d{{1,3}}(?:\.\d{{3}}){{2,5}}(?!\d|[.,]\d))"
_MILLION = r"\s?(?:million|billion|mn|bn)\b"


def _plain(match: Match[str]) -> str:
    return match[0].replace(".", "").replace(",", ".")


RULES: list[Rule] = [
    (rf"(?<={BEFORE}\s?){_AMOUNT}", _plain),
    (rf"(?<![\w.,]){_AMOUNT}(?=\s?(?:{AFTER}|euros?|{_MILLION}\s?{AFTER})(?!\w))", _plain),
    (rf"(?<![\w.,]){_DECIMAL_COMMA}", _plain),
    (rf"(?<![\w.,])\d{{1,3}},\d\d?(?=(?:\s?(?:%|(?:{UNIT})(?!\w))|{_MILLION}))", _plain),
    (r"(?<![\w.,])\d{1,3}(?:\.\d{3}){1,4}\.000(?!\d|[.,]\d)", _plain),
    (r"(?<![\w.,])\d{1,2}(?:,\d\d){1,4},\d{3}(?![\d,])", lambda m: m[0].replace(",", "")),
    (r"(?<![\w.,])\d{1,3}(?:['’]\d{3}){1,5}(?!\w|['’]\d)", lambda m: regex.sub("['’]", "", m[0])),
]
# Spaces between thousands; plain ones stand between numbers too, so there it must look like one number.
SPACED: list[Rule] = [
    (
        r"(?<![\w.,:/+)]|[\d)]\s)(?:[1-9]\d{0,2}(?:[\u00a0\u2009\u202f]\d{3}){1,5}|[1-9]\d?(?: \d{3}){2,5}"
        r"|[1-9]\d{0,2}(?: \d{3}){0,4} 000)(?!\s?\d|,\d|[/-]\d{3}(?!\s))",
        lambda m: regex.sub(r"\s", ",", m[0]),
    ),
]
