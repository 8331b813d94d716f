"""Decoding, checking and cleaning: is the input text, and can any of it be spoken?"""

import regex

from fishcli.errors import InputError

MAX_CHARACTERS = 1_000_000  # about 18 hours of speech; longer than any novel, so more is a wrong file or an attack

_EMOJI = regex.compile("[\U0001f600-\U0001f64f\U0001f300-\U0001f5ff\U0001f680-\U0001f6ff\U0001f1e0-\U0001f1ff]+")
_COMMAS = regex.compile(",{2,}")
_SPEAKABLE = regex.compile(r"[\p{L}\p{N}]")
_LAST = regex.compile(r"[\p{L}\p{M}\p{N}]")
_FULL_STOP_WIDE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]")
_DANDA = regex.compile(r"\p{Devanagari}")
_SYLLABIC = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]")
_PAGE_BREAKS = str.maketrans(dict.fromkeys("\v\f\x1c\x1d\x1e\x85", "\n"))
_REFUSED = regex.compile(r"[\p{Cc}\p{Cs}--[\t\r\n]]", regex.V1)


def decode(data: bytes) -> str:
    """Return the text of a file or of stdin: strict UTF-8, without its byte order mark. Raises InputError."""
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError(
            f"The text is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start} cannot be read; "
            "save it as UTF-8 and try again."
        ) from None


def check(text: str) -> str:
    """Return the text with page breaks as newlines. Raises InputError for one that is too long or cannot be spoken."""
    check_length(len(text))
    text = legible(text)
    if not speakable(text):
        raise InputError("There is nothing to speak: the text has neither a letter nor a number; give it some words.")
    return text


def check_length(characters: int) -> None:
    """Raise InputError for a text of more than MAX_CHARACTERS."""
    if characters > MAX_CHARACTERS:
        raise InputError(
            f"The text has {characters:,} characters and at most {MAX_CHARACTERS:,} are taken; split it into several."
        )


def legible(text: str, offset: int = 0) -> str:
    """Return the text with form feeds and other page breaks as newlines, one for one.

    Raises InputError for other control characters, with their position from `offset` on. They are refused, not dropped:
    a NUL means UTF-16 or a binary file, and an escape would leave its `[31m` to be read aloud.
    """
    text = text.translate(_PAGE_BREAKS)
    if bad := _REFUSED.search(text):
        kind = "a lone surrogate" if "\ud800" <= bad[0] <= "\udfff" else "a control character"
        raise InputError(f"The text has {kind}, U+{ord(bad[0]):04X}, at character {offset + bad.start()}; remove it.")
    return text


def clean(text: str) -> str:
    """Return the text in the form that the model was trained on, character for character as the reference does it."""
    text = text.strip().replace("‘", "'").replace("’", "'")
    return _COMMAS.sub(",", _EMOJI.sub("", text))


def finished(text: str) -> str:
    """Return the text with a terminal mark of its script where it ends in a letter or a number.

    Without one the model often misses the end of speech (built-in voice, "Hi": up to 8 s; "Hi.": 1 s).
    """
    if not _LAST.match(text[-1:]):
        return text
    return text + ("。" if _FULL_STOP_WIDE.match(text[-1]) else "।" if _DANDA.match(text[-1]) else ".")


def speakable(text: str) -> bool:
    """Return whether the text has a letter or a number of any script; punctuation and emoji alone make no sound."""
    return _SPEAKABLE.search(text) is not None


def seconds(text: str) -> float:
    """Return the expected duration of the speech in seconds, at 15 letters or 4.5 syllabic characters a second."""
    syllabic = len(_SYLLABIC.findall(text))
    return len(text) / 15 + syllabic * (1 / 4.5 - 1 / 15)
