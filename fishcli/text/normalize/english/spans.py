"""Spans of time: "2h 15m", "wait 30s", "he ran it in 25:30"; and "100s of fans", which is none."""

from regex import Match

from fishcli.text.normalize.english.grammar import modifies_noun, stop
from fishcli.text.normalize.english.rules import ALONE, Rule
from fishcli.text.normalize.english.times import HALF
from fishcli.text.normalize.numerals import cardinal, counted

_UNITS = ("hour", "minute", "second")
_HOURS = r"(?<hour>\d{1,3})\s?(?:h|hrs?|hours?)\.?"
_MINUTES = r"(?<minute>\d{1,3})\s?m(?:ins?|inutes?)?"
_SECONDS = r"(?<second>\d{1,2})\s?s(?:ecs?|econds?)?\b"
_GOES_ON = r"(?:\.(?=\s[a-z]))?"  # the stop of "5 min. walk"
_SPAN_BEFORE = (
    r"\b(?i:in|took|takes|ran|run|lasts?|lasted|within|under|finished|clocked"
    r"|(?:time|duration|record|length|best)(?:\s(?:is|was|of))?)\s(?:it\sin\s|at\s)?"
)
_SECONDS_BEFORE = (
    r"(?:\d\sto|\b(?i:wait|waited|waits|for|after|in|within|every|takes?|took|lasts?|lasted|than|only|exactly|another|held|under"
    r"|over|hold|rest|pause|sleep|about|approximately|around|just))\s"
)
_CLAUSE_ENDS = (
    r"(?=\s?[.,;:!?)]|\s*\Z|\s(?:and|or|before|after|then|to|until|while|at|in|on|for|with|when|between|each|per|longer"
    r"|more|late|early|later|ago|if|so|please)\b)"
)
_LARGE = {
    "10": "tens", "100": "hundreds", "1000": "thousands", "10000": "tens of thousands",
    "100000": "hundreds of thousands", "1000000": "millions",
}  # fmt: skip


def _span(match: Match[str]) -> str:
    """Read hours, minutes and seconds one after the other: "2h 15m", "5m 30s"."""
    groups = match.groupdict()
    given = [(str(int(groups[unit])), unit) for unit in _UNITS if groups.get(unit)]
    if modifies_noun(match):
        return " ".join(f"{cardinal(int(value))} {unit}" for value, unit in given)
    return " ".join(counted(value, unit) for value, unit in given) + stop(match)


def _clocked(match: Match[str]) -> str:
    """Read the digits of a stopwatch: "25:30", "1:45:30"."""
    groups = match.groupdict()
    said = [counted(str(int(groups[unit])), unit) for unit in _UNITS if int(groups.get(unit) or 0)]
    return f"{' '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else said[0] if said else "zero seconds"


def _seconds(match: Match[str]) -> str:
    return counted(str(int(match[1])), "second")


RULES: list[Rule] = [
    (rf"(?<![\w.,:]){_HOURS}\s?{_MINUTES}\b(?:\.?\s?{_SECONDS})?{_GOES_ON}", _span),
    (rf"(?<![\w.,:]){_MINUTES}\.?\s?{_SECONDS}{_GOES_ON}", _span),
    (rf"(?<={_SPAN_BEFORE})(?<hour>\d{{1,2}}):(?<minute>[0-5]\d):(?<second>[0-5]\d)(?![\d:]|\.\d|{HALF})", _clocked),
    (rf"(?<={_SPAN_BEFORE})(?<minute>2[5-9]|[3-9]\d|1\d\d):(?<second>[0-5]\d)(?![\d:]|\.\d)", _clocked),
    (rf"{ALONE}(?<minute>2[5-9]|[3-9]\d|1\d\d):(?<second>[0-5]\d)(?=\s(?:long|minutes?|mark)\b)", _clocked),
]
# "30s" is thirty seconds after "wait" and the thirties after "the"; "3s" is more likely a plural than three seconds.
SECONDS: list[Rule] = [
    (
        r"(?<!\d[.,]?|[\w'’])(\d{2,3})s(?=\s(?:timeouts?|delays?|pauses?|intervals?|clips?|timers?)\b)",
        lambda m: f"{cardinal(int(m[1]))} second",
    ),
    (rf"(?<={_SECONDS_BEFORE})(\d{{1,3}})s\b{_CLAUSE_ENDS}(?!\sand\s\d{{1,3}}s)", _seconds),
    (r"(?<!\d[.,]?|[\w'’-]|\b(?:the|two|three|four|five|six|of)\s)([1-9][1-9])s\b", _seconds),
    (r"(?<![\w.])(10{1,3}|1,000|10{4,6}|100?,000)s(?=\s(?:of|more)\b)", lambda m: _LARGE[m[1].replace(",", "")]),
]
