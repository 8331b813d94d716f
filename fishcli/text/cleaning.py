"""Decoding, checking and cleaning: is the input text, and can any of it be spoken?"""

import sys

import regex

from fishcli.errors import InputError

MAX_CHARACTERS = 1_000_000  # about 18 hours of speech, a long novel; more is rather a wrong file

_EMOJI = regex.compile("[\U0001f600-\U0001f64f\U0001f300-\U0001f5ff\U0001f680-\U0001f6ff\U0001f1e0-\U0001f1ff]+")
_COMMAS = regex.compile(",{2,}")
_SPEAKABLE = regex.compile(r"[\p{L}\p{N}]")
# What may stand last in a sentence: a letter, a number, a mark, or a sign that is read with the word before it.
_LAST = r"\p{L}\p{M}\p{N}\p{Sc}\p{Sentence_Terminal}…．།%‰°+#'’′″"
_SIGNS_AT_END = regex.compile(rf"(?<!(?=[^{_LAST}]|[\ufe0e\ufe0f]).)(?:[^{_LAST}]|[\ufe0e\ufe0f])++\Z", regex.DOTALL)
_CLOSING = regex.compile(r"""[\p{Pe}\p{Pf}"]""")
_CLOSING_ALONE = regex.compile(r"""[\p{Pe}\p{Pf}"\s]*""")
_TERMINAL = regex.compile(r"[\p{Sentence_Terminal}．།]\Z")
_ELLIPSIS = regex.compile(r"(?<!…)…++\Z")
_GREEK = regex.compile(r"\p{Greek}\Z")
_WIDE_SIGN = regex.compile("[，；：、～]")
_LAST_LETTER = regex.compile(r"(?r)\p{L}")
_MARKS = [
    (regex.compile(script), mark)
    for script, mark in (
        (r"[\p{Han}\p{Hiragana}\p{Katakana}ー]", "。"),
        (r"[\p{Devanagari}\p{Bengali}\p{Gurmukhi}\p{Oriya}]", "।"),
        (r"\p{Armenian}", "։"),
        (r"\p{Ethiopic}", "።"),
        (r"\p{Khmer}", "។"),
        (r"\p{Myanmar}", "။"),
        (r"\p{Tibetan}", "།"),
    )
]
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
    check_speakable(text)
    return text


def check_speakable(text: str) -> None:
    """Raise InputError for a text without words."""
    if not speakable(text):
        said = "There is nothing to speak: the text has neither a letter nor a number; give it some words."
        raise InputError(said, field="text")


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
        if "\udc80" <= bad[0] <= "\udcff":
            raise InputError(_undecoded(ord(bad[0]) - 0xDC00, offset + bad.start()))
        kind = "a lone surrogate" if "\ud800" <= bad[0] <= "\udfff" else "a control character"
        raise InputError(f"The text has {kind}, U+{ord(bad[0]):04X}, at character {offset + bad.start()}; remove it.")
    return text


def _undecoded(byte: int, place: int) -> str:
    """Return the message for a byte of an argument or a file that Python could not decode and kept as a surrogate."""
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8":
        return f"The text is not UTF-8: byte 0x{byte:02x} at character {place} cannot be read; give it as UTF-8."
    return (
        f"The text cannot be read in the encoding of this locale, {encoding}: byte 0x{byte:02x} at character {place}; "
        "set a UTF-8 locale, such as LC_ALL=C.UTF-8, and try again."
    )


def clean(text: str) -> str:
    """Return the text in the form that the model was trained on, character for character as the reference does it."""
    text = text.strip().replace("‘", "'").replace("’", "'")
    return _COMMAS.sub(",", _EMOJI.sub("", text))


def finished(text: str) -> str:
    """Return the text with a terminal mark of its script at the end, before closing quotes and brackets or behind them.

    A comma, colon, semicolon, dash or other sign at the end gives way to it, and "…" becomes "...". Without the mark
    the model often misses the end of speech (built-in voice, "Hi": up to 8 s, "Shopping list:": 4 s, "(Hi)": 17 s,
    where 1 s is right).
    """
    if not (words := _SIGNS_AT_END.sub("", text)):
        return text
    signs = text[len(words) :].rstrip()
    closing = signs if _CLOSING_ALONE.fullmatch(signs) else "".join(_CLOSING.findall(signs))
    if _ELLIPSIS.search(words):
        return _ELLIPSIS.sub("...", words) + closing
    return words + closing + ("" if _TERMINAL.search(words) else _mark(words, signs))


def _mark(words: str, signs: str) -> str:
    """Return the terminal mark for words that `signs`, which have none, follow."""
    if ";" in signs and _GREEK.search(words):
        return ";"  # the Greek question mark
    if _WIDE_SIGN.search(signs):
        return "。"
    letter = _LAST_LETTER.search(words)
    return next((mark for script, mark in _MARKS if letter and script.match(letter[0])), ".")


def speakable(text: str) -> bool:
    """Return whether the text has a letter or a number of any script; punctuation and emoji alone make no sound."""
    return _SPEAKABLE.search(text) is not None


def seconds(text: str) -> float:
    """Return the expected duration of the speech in seconds, at 15 letters or 4.5 syllabic characters a second."""
    syllabic = len(_SYLLABIC.findall(text))
    return len(text) / 15 + syllabic * (1 / 4.5 - 1 / 15)
