"""Rules: a pattern each, and the words for what it matches; and the parts that many patterns share.

Repetitions are bounded or follow a lookbehind, so that no rule takes quadratic time on a hostile text.
"""

from collections.abc import Callable
from functools import cache

import regex
from regex import Match, Pattern

Words = str | Callable[[Match[str]], str]
Rule = tuple[str, Words]

NUM = r"(?:(?:\d{1,3}(?:,\d{3}){1,6}(?!,?\d)|\d+)(?:\.\d+)?|(?<!\d)\.\d+)"
ALONE = r"(?<![\w.,:/])"  # not inside a longer number or code
THINGS = r"\s(?!(?:was|is|has|as|its|this|does|census|times)\b)(?:[a-z]+s|people)\b"  # what a number counts
TH = r"(?i:st|nd|rd|th)"


def one_of(words: list[str]) -> str:
    """Return a pattern of the words, the longest first."""
    return "|".join(sorted(map(regex.escape, words), key=len, reverse=True))


@cache
def compiled(pattern: str) -> Pattern[str]:
    return regex.compile(pattern)


def replaced(text: str, rule: Rule) -> str:
    """Return the text with the words of a rule; no word is glued to another, and sentences start with a capital."""
    pattern, said = rule

    def words(match: Match[str]) -> str:
        new = match.expand(said) if isinstance(said, str) else said(match)
        return new if new == match[0] else _apart(match, _capitalized(match, new))

    return compiled(pattern).sub(words, text)


def spaced(match: Match[str], words: str) -> str:
    """Return the words between spaces, where one may stand before the match already.

    A rule that started with an optional space would be tried at every space of the text.
    """
    return f"{'' if match.string[match.start() - 1 : match.start()].isspace() else ' '}{words} "


def _apart(match: Match[str], said: str) -> str:
    """Return the words, with spaces where a sign or a digit stood beside a letter or a digit: "A4", "4K"."""
    text, (start, end) = match.string, match.span()
    if said[:1].isalpha() and not match[0][:1].isalpha() and text[start - 1 : start].isalnum():
        said = f" {said}"
    if said[-1:].isalpha() and not match[0][-1:].isalpha() and text[end : end + 1].isalnum():
        said = f"{said} "
    return said


_SENTENCE_START = regex.compile(r"""(?:\A|[.!?…]["”’)]*\s+["“‘(]*|\n\s*)\Z""")
_ABBREVIATED = regex.compile(
    r"(?<!\w)(?:(?i:mr|mrs|ms|cf|al|op|rs|approx|ca|ed|eds|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed"
    r"|thu|thurs?|fri|sun|ave|blvd|rd|fl|bldg|max|min|incl|excl|resp|nr|lbs?|oz|ft|hrs?|mins?|secs?|yds?|qty|temp|ver"
    r"|est|v)|[a-z]|[ei]\.[eg])\.\s+\Z"
)


def _capitalized(match: Match[str], said: str) -> str:
    """Return the words, capitalised like the match or as a sentence start, which the splitter needs to see."""
    first, before = match[0][:1], match.string[max(0, match.start() - 12) : match.start()]
    starts = (first.isupper() or not first.isalpha()) and begins_sentence(before)
    capital = starts or (first.isupper() and match[0][1:2].islower())
    return said[:1].upper() + said[1:] if capital else said


def begins_sentence(before: str) -> bool:
    """Return whether a sentence begins after these characters; an abbreviation ends none."""
    found = _SENTENCE_START.search(before)
    return found is not None and not (found[0][:1] == "." and _ABBREVIATED.search(before))
