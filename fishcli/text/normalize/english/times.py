"""Times of day: "7:30 pm", "17:45", "0800 hours", "9-5 pm"."""

from regex import Match

from fishcli.text.normalize.english.grammar import stop
from fishcli.text.normalize.english.rules import ALONE, Rule, spaced
from fishcli.text.normalize.numerals import cardinal, counted

HALF = r"(?:[ \u00a0\u202f]?(?P<half>[AaPp])(?:[Mm]\b(?!\.\w)|\.[ ]?[Mm]\.?))"
_DASH = r"(?:\s[–-]\s|[–-])"


def _time(match: Match[str]) -> str:
    groups = match.groupdict()
    hour, minute = int(match["hour"]), int(groups.get("minute", "0"))
    said = cardinal(hour)
    if minute:
        said += f" {_minutes(minute)}"
    elif not match["half"]:
        said = f"{said} hundred" if hour > 12 else f"{said} o'clock" if hour else "midnight"
    if groups.get("second"):
        said += f" and {counted(str(int(match['second'])), 'second')}"
    return said + (f" {match['half'].lower()} m{stop(match)}" if match["half"] else "")


def _military(match: Match[str]) -> str:
    """Read "0805 hours" as "oh eight oh five hours"."""
    hour, minute = int(match["hour"]), int(match["minute"])
    said = f"oh {cardinal(hour)}" if 0 < hour < 10 else cardinal(hour)
    return f"{said} {_minutes(minute) if minute else 'hundred'} hours"


def _minutes(minute: int) -> str:
    return f"oh {cardinal(minute)}" if minute < 10 else cardinal(minute)


RULES: list[Rule] = [
    (rf"{ALONE}(?<hour>0\d)(?<minute>[0-5]\d)\s(?:hours|hrs)\b", _military),
    (
        r"(?<=\b(?i:at|by|until|till|from|to|after|before|since|around|and)\s)"
        r"(?<hour>1\d|2[0-3])(?<minute>[0-5]\d)\s(?:hours|hrs)\b(?!\sof\b)",
        _military,
    ),
    (rf"{ALONE}(1[0-2]|[1-9]){_DASH}(?=(?:1[0-2]|[1-9])(?::[0-5]\d)?{HALF})", r"\1 to "),
    (
        rf"[–-](?:(?<=(?:\d{HALF}|\d:[0-5]\d).)|(?<=(?:\d{HALF}|\d:[0-5]\d)\s.)\s)(?=\d)",
        lambda m: spaced(m, "to"),
    ),
    (
        rf"{ALONE}(?<hour>[01]?\d|2[0-4])(?::|\.(?=\d\d ?[ap]\.?m))(?<minute>[0-5]\d)(?::(?<second>[0-5]\d))?"
        rf"(?!\d|[:.]\d){HALF}?",
        _time,
    ),
    (rf"{ALONE}(?<hour>1[0-2]|[1-9]){HALF}", _time),
]
