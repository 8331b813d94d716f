"""Cut the text of a chunk into cues of subtitles: at most two lines of 42 columns each.

A cue takes as much as fits into two lines, and ends there after the last sentence, else after the last clause, if that
leaves it at least a third of a line long, else at the last space, else anywhere. Its two lines are cut after a clause
mark, else at a space, as near to the middle as they fit. Wide characters (Chinese, Japanese, Korean) have two columns.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate

import regex

from fishcli.text.chunks import UNSPACED

COLUMNS = 42
_SHORTEST = COLUMNS // 3
_WINDOW = 8 * COLUMNS  # characters that are looked at for a cue, marks without a width included
_SENTENCE_END = regex.compile(r"[.!?…][\p{Pe}\p{Pf}\"']*(?=\s|\Z)|[。！？．][\p{Pe}\p{Pf}\"']*")
_CLAUSE_END = regex.compile(r"[,;:–—][\p{Pe}\p{Pf}\"']*(?=\s|\Z)|[、，；：][\p{Pe}\p{Pf}\"']*")
_GRAPHEME = regex.compile(r"\X")
_STAYS = regex.compile(r"[\p{Pe}\p{Pf}\p{Po}ーっッゃャゅュょョ]")  # never begins a line
_SPACES = regex.compile(r"\s+")
_PLACES = (_SENTENCE_END, _CLAUSE_END)


def cut(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the cues of a text, each as its one or two lines. All words are there, in order."""
    text = _SPACES.sub(" ", text).strip()
    at = 0
    while at < len(text):
        window = text[at : at + _WINDOW]
        end = _end(window)
        yield _lines(window[:end].strip())
        at += end
        at += text[at : at + 1] == " "


def width(text: str) -> int:
    """Return the columns of a text."""
    return sum(map(_columns, text))


@lru_cache(2**12)
def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _end(window: str) -> int:
    """Return where the first cue of a text ends."""
    reach = _fits(window)
    reach += _fits(window[reach:].lstrip()) + len(window[reach:]) - len(window[reach:].lstrip())
    if reach >= len(window):
        return len(window)
    for place in _PLACES:
        ends = [found.end() for found in place.finditer(window) if found.end() <= reach]
        if ends and width(window[: ends[-1]]) >= _SHORTEST:
            return ends[-1]
    return reach


def _fits(text: str) -> int:
    """Return how many characters fit into a line, cut at a space if there is one."""
    ends = accumulate(map(_columns, text))
    room = next((index for index, columns in enumerate(ends) if columns > COLUMNS), len(text))
    if room == len(text) or text[room] == " ":
        return room
    cuts = [index for index in range(room, 0, -1) if _may_cut(text, index)]
    if cuts:
        return cuts[0]
    whole = [found.end() for found in _GRAPHEME.finditer(text, 0, room + 1) if found.end() <= room]
    return whole[-1] if whole else max(room, 1)


def _may_cut(text: str, at: int) -> bool:
    """Return whether a line may end before a character: a space, or one of a script without spaces."""
    if text[at] == " ":
        return True
    wide = UNSPACED.match(text[at]) or UNSPACED.match(text[at - 1])
    return bool(wide) and not _STAYS.match(text[at]) and _columns(text[at]) > 0 and text[at - 1] not in "「『（《“("


def _lines(cue: str) -> tuple[str, ...]:
    if width(cue) <= COLUMNS:
        return (cue,)
    first = list(accumulate(map(_columns, cue), initial=0))  # columns before each place
    second = [first[-1] - columns - (cue[at : at + 1] == " ") for at, columns in enumerate(first)]
    fitting = [at for at in range(1, len(cue)) if max(first[at], second[at]) <= COLUMNS and _may_cut(cue, at)]
    clauses = {found.end() for place in _PLACES for found in place.finditer(cue)}
    cuts = [at for at in fitting if at in clauses] or fitting or [_fits(cue)]  # the last: in a word longer than a line
    at = min(cuts, key=lambda at: abs(first[at] - second[at]))
    return (cue[:at].strip(), cue[at:].strip())
