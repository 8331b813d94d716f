"""Marks in a text: pauses, and voices that speak a part of it.

    [pause:1.5s]  [pause:300ms]  <break time="1.5s"/>     silence, 0 to 10 s
    [voice:NAME]                                          another voice, until the end of the paragraph
    [voice:]                                              the voice of the line again

A text that almost is a mark, such as `[pause 2]`, is an error: it is never spoken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import regex

from fishcli.errors import InputError
from fishcli.text import speakable

MAX_PAUSE = 10.0  # seconds
_MAX_NAME = 64  # characters

_MARK = regex.compile(
    r"\[(?:pause\b|voice[ \t]*+:)[^\[\]\n]*+(?:\]|(?=[\[\n])|\Z)|</?break\b[^<>\n]*+(?:>|(?=[<\n])|\Z)",
    regex.IGNORECASE,
)
_TIME = r"(?P<number>\d{1,6}(?:\.\d{1,6})?|\.\d{1,6})[ \t]*(?P<unit>ms|s)"
_PAUSE = regex.compile(rf"\[pause[ \t]*:[ \t]*{_TIME}[ \t]*\]", regex.IGNORECASE)
_BREAK = regex.compile(rf"<break\s+time\s*=\s*(?P<quote>[\"']?)[ \t]*{_TIME}[ \t]*(?P=quote)\s*/?>", regex.IGNORECASE)
_BREAK_END = regex.compile(r"</break\s*>", regex.IGNORECASE)
_VOICE = regex.compile(rf"\[voice[ \t]*:[ \t]*(?P<name>[^\[\]\n]{{0,{_MAX_NAME}}})\]", regex.IGNORECASE)
_PARAGRAPH_END = regex.compile(r"\n[ \t\r]*\n\s*|\u2029\s*")


class Speech(NamedTuple):
    """Words between marks, and the name of the voice that says them; None: the voice of the line."""

    text: str
    voice: str | None = None


class Pause(NamedTuple):
    """Silence."""

    seconds: float


def parse(text: str) -> list[Speech | Pause]:
    """Return the parts of a text between its marks, in order. A part without a letter or a number is left out.

    A text without marks is one Speech of the whole text. Raises InputError that names a malformed mark.
    """
    if not _MARK.search(text):
        return [Speech(text)]
    return list(_parts(text))


def _parts(text: str) -> Iterator[Speech | Pause]:
    start, voice = 0, None
    for mark in (*_MARK.finditer(text), None):
        for paragraph in _paragraphs(text[start : mark.start() if mark else len(text)]):
            if paragraph is None:
                voice = None
            elif speakable(paragraph):
                yield Speech(paragraph.strip(), voice)
        if mark is None:
            return
        start = mark.end()
        if (name := _voice(mark[0])) is not None:
            voice = name or None
        elif not _BREAK_END.fullmatch(mark[0]):
            yield Pause(_seconds(mark[0]))


def _paragraphs(text: str) -> Iterator[str | None]:
    """Yield the paragraphs of a part of a text, and None for each end of one between them."""
    first, *others = _PARAGRAPH_END.split(text)
    yield first
    for each in others:
        yield from (None, each)


def _voice(mark: str) -> str | None:
    """Return the name in a mark of a voice, "" for the line's own; None for another mark."""
    found = _VOICE.fullmatch(mark)
    if found is None and mark[1:6].lower() == "voice":
        raise InputError(f"{_quoted(mark)} is no mark of a voice; write [voice:NAME], of at most {_MAX_NAME} letters.")
    return found["name"].strip() if found else None


def _seconds(mark: str) -> float:
    found = _PAUSE.fullmatch(mark) or _BREAK.fullmatch(mark)
    if found is None:
        raise InputError(f'{_quoted(mark)} is no mark of a pause; write [pause:1.5s] or <break time="1.5s"/>.')
    seconds = float(found["number"]) / (1000 if found["unit"].lower() == "ms" else 1)
    if seconds > MAX_PAUSE:
        raise InputError(f"{_quoted(mark)} is longer than {MAX_PAUSE:g} s; use a shorter pause, or several.")
    return seconds


def _quoted(mark: str) -> str:
    return mark if len(mark) <= 40 else f"{mark[:40]}..."


def plain(text: str) -> str:
    """Return the text without marks, for counting and showing. Raises nothing: malformed marks go too."""
    return _MARK.sub("", text)


def bracketed(text: str) -> str:
    """Return the text with its `<break>` marks as `[pause:1.5s]`, which no reader of HTML drops."""
    return _BREAK.sub(lambda found: f"[pause:{found['number']}{found['unit']}]", _BREAK_END.sub("", text))


def is_mark(text: str) -> bool:
    """Return whether a text is one mark, or almost one."""
    return _MARK.fullmatch(text) is not None
