"""Arithmetic and comparison: "2-1=1", "x != 5", "√16", "10^-6", "<5%"."""

import regex
from regex import Match

from fishcli.text.normalize.english.rules import NUM, Rule, spaced
from fishcli.text.normalize.english.units import UNIT

_OPERATORS = {
    "+": "plus", "-": "minus", "−": "minus", "*": "times", "×": "times", "x": "times", "·": "times", "÷": "divided by",
    "/": "divided by", "=": "equals", "==": "equals", "≠": "does not equal", "!=": "does not equal",
    "<>": "does not equal", "≈": "equals about",
}  # fmt: skip
_COMPARISONS = {
    "<": "less than", ">": "greater than", "≤": "at most", "<=": "at most", "≥": "at least", ">=": "at least",
}  # fmt: skip
_TERM = rf"[-−]?(?:{NUM}|[a-z](?!\w))"
_OPERATION = rf"{_TERM}(?:\s?[-−+*×x÷/·]\s?{_TERM}){{1,20}}"
_DIGITS, _DIGITS_BEFORE = regex.compile(r"\d{1,15}"), regex.compile(r"\d{1,15}\Z")
_OPERATOR = regex.compile(r"(?<=\w)\s?([-−+*×x÷/·])\s?(?=[-−]?\.?\w)")


def _operation(match: Match[str]) -> str:
    return _OPERATOR.sub(_operator, match[0])


def _operator(match: Match[str]) -> str:
    """Return the word of an operator; "6/2" is a division, but "1/2" a fraction."""
    if match[0] == "/":
        above, below = _DIGITS_BEFORE.search(match.string[: match.start()]), _DIGITS.match(match.string, match.end())
        if above and below and float(above[0]) < float(below[0]):
            return match[0]
    return f" {_OPERATORS[match[1]]} "


# What is compared: a number, a variable, or a word after "if", with spaces around the sign.
_VALUE = regex.compile(r"(?:(?<!\w)\w|\w?[\d)%])(\s?)\Z")
_SUBJECT = regex.compile(r"\b(?:[Ii]f|[Ww]hen|[Ww]here|[Ww]hile|[Uu]nless|[Uu]ntil|that)\s(?:the\s)?\w{2,20}(\s)\Z")


def _comparison(match: Match[str]) -> str:
    """Read "x < 5" with "is", "it is <5%" and "<5% of them" without."""
    said = f"{_COMPARISONS[match[1]]} "
    before = match.string[max(0, match.start() - 36) : match.start()]
    left = _VALUE.search(before) or (_SUBJECT.search(before) if match[0][-1].isspace() else None)
    gap = "" if not before or before[-1].isspace() or before[-1] in "([" else " "
    return f"{gap}{'is ' if left else ''}{said}"


SIGNS: list[Rule] = [
    (r"(?<=\b(?:I|We|we)\s)<3(?=\s(?:you|u|my|this|it|the|your|him|her|them|[A-Z]))", "love"),
    (r"√\s?(?=\d)", "the square root of "),
    (r"∛\s?(?=\d)", "the cube root of "),
    (rf"(?<![\w.,/+−-]){_OPERATION}(?=\s?={{1,2}}\s?[-−]?[\d.]|\s?=\s?\p{{L}})", _operation),
    (rf"=(?<=\d\s?=)\s?{_OPERATION}(?![\w/-])", _operation),
    (r"(?:[*·](?<=\d\s?.)\s?(?=\d)|[x×](?<=\d\s?.)\s?(?=10\^))", lambda m: spaced(m, "times")),
    (rf"(?<=\d\s?(?:{UNIT})(?:/(?:{UNIT}))?)\^([23])\b", lambda m: "²" if m[1] == "2" else "³"),
    (r"(?<=[\w)])\^(?=[-−]?\d)", " to the power of "),
    (r"(?<=\d%?)\+(?=\s|[.,;:!?)]|\Z|-)", " plus"),
    (r"(==|!=|<>|≠|≈)(?<=[\w)]\s?..?)\s?(?=[-−]?\d)", lambda m: spaced(m, _OPERATORS[m[1]])),
    (r"(?<![<>=-])(<=|>=|[<>≤≥])\s?(?=[-−]?(?:\p{Sc}\s?)?\.?\d)", _comparison),
]
BEFORE_NUMBERS: list[Rule] = [
    (r"(?<![\w)\]+])\+(?=\p{Sc}?\.?\d)", "plus "),
    (r"([=+÷])(?<=[\w)%]\s?.)\s?(?=\p{Sc}?\d)", lambda m: spaced(m, _OPERATORS[m[1]])),
    (r"[~≈]\s?(?=\p{Sc}?\d)", "about "),
    (r"±\s?(?=\d)", "plus or minus "),
    (r"§\s?(?=\d)", "section "),
]
# Signs between numbers and words, last.
RULES: list[Rule] = [
    (r"(?<=\d):(?=\d)", " to "),
    (r"(?<=\w)²", " squared"),
    (r"(?<=\w)³", " cubed"),
    (r"[-−](?<=\d\s.)\s(?=\d)", "minus "),
    (r"×(?<=[\w)]\s?.)\s?(?=\d)", lambda m: spaced(m, "times")),
    (r"(?<=(?<!\w)\p{L})=(?=\p{L}{1,3}(?!\w))", " equals "),
    (r"([=+])(?<=\w\s.)\s(?=\w)", lambda m: f"{_OPERATORS[m[1]]} "),
    (r"(?<=\d)/(?=\d)", " slash "),
    (r"&(?<=\w\s?.)\s?(?=\w)", lambda m: spaced(m, "and")),
    (r"(?<=\s)@(?=\s)", "at"),
    (r"(?<=\b[A-Z])#", " sharp"),
    (r"(?<=\d)\s?‰", " per thousand"),
]
