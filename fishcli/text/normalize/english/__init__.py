"""English normalisation: numbers, dates, money, units, abbreviations and addresses as words.

An ordered list of rules, each a pattern and its words, one file for each subject. Rules with more context come first,
so that "3/4/2024" is a date before "3/4" can be a fraction; plain numbers come last. Text without digits, symbols and
the abbreviations that the rules know stays unchanged. American forms: March fourth, no "and" in numbers.
"""

from itertools import groupby

import regex

from fishcli.text.normalize.english import (
    abbreviations,
    addresses,
    arithmetic,
    counts,
    dates,
    figures,
    fractions,
    money,
    roman,
    spans,
    telephone,
    times,
    units,
    verses,
)
from fishcli.text.normalize.english.rules import Rule, replaced
from fishcli.text.normalize.english.signs import folded

_WORDS = [*addresses.RULES, *abbreviations.RULES, *roman.RULES, *dates.NAMES, *units.WORDS]
_FIGURES = [
    *figures.RULES, *dates.RULES, *verses.RULES, *fractions.RATIOS, *spans.RULES, *times.RULES,
    *telephone.CODES, *figures.SPACED, *telephone.TELEPHONE,
    *fractions.RULES, *arithmetic.SIGNS, *arithmetic.BEFORE_NUMBERS, *money.RULES, *units.SIGNS, *counts.RANGES,
    *spans.SECONDS, *counts.DECADES, *money.AMOUNTS, *fractions.PARTS, *units.RULES, *counts.RULES,
    *arithmetic.RULES, *counts.PLAIN,
]  # fmt: skip
_FIGURE = regex.compile(r"[0-9²³&@#=+]")
_BLOCK = regex.compile(r"(?s).{1000,}?(?:\n\s*\n|\Z)|.+")  # whole paragraphs


def in_words(text: str) -> str:
    """Return English text with numbers, symbols and abbreviations as words; no digit is left."""
    text = _replaced(folded(text), _WORDS)
    blocks = groupby(_BLOCK.findall(text), key=_has_figures)  # most paragraphs of a novel have none
    return "".join(_replaced("".join(group), _FIGURES) if found else "".join(group) for found, group in blocks)


def _has_figures(text: str) -> bool:
    return _FIGURE.search(text) is not None


def _replaced(text: str, rules: list[Rule]) -> str:
    for rule in rules:
        text = replaced(text, rule)
    return text
