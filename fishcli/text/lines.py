"""Lines: which line breaks end a line of their own, and which only wrap a paragraph at a width.

A paragraph stands between blank lines and lines that markup ends (U+2028). Its width is its longest line. It is prose
if a sentence ends in it. A line break in prose is a wrap, and becomes a space,

- where the next line starts in lower case, or with a mark that never starts a line,
- and where, at 40 columns and more, the next word would have made the line longer than the width.

In a paragraph of 40 columns and more, lines that go on in lower case are joined even if no sentence ends in it. All
other line breaks stay (headings, items, verse, addresses), and `end_lines` puts a mark before them.
"""

from itertools import pairwise

import regex

from fishcli.text.chunks import UNSPACED
from fishcli.text.cleaning import finished, speakable

_NARROWEST, _NARROWEST_UNSPACED = 40, 15  # columns of wrapped prose; scripts without spaces have wider characters
_RAGGED = 2  # columns that a line without spaces may lack, because some marks start no line
_SPACES = regex.compile(r"\s+")
_SENTENCE_END = regex.compile(r"[.!?…؟।][\"'”’»)\]]*(?:\s|\Z)|[。！？]")
_FIRST_WORD = regex.compile(r"\S{1,80}")
_GOES_ON = regex.compile(r"[\"'“‘(«]?\p{Ll}|[,;:.!?，。、；：！？)）」』”»–—]")


def join_wrapped(text: str, column: int = 0) -> str:
    """Return the text with wrapped lines joined: each newline that is left ends a line, and two end a paragraph.

    `column` is where the first line starts, if the text does not begin with it.
    """
    parts, start = [], 0
    for found in _SPACES.finditer(text):
        blank = found[0].count("\n") > 1 or "\u2029" in found[0]
        if not blank and "\u2028" not in found[0]:
            continue
        parts += [_joined(text[start : found.start()], 0 if start else column), "\n\n" if blank else "\n"]
        start = found.end()
    return "".join([*parts, _joined(text[start:], 0 if start else column)])


def _joined(paragraph: str, column: int) -> str:
    lines = [line.strip() for line in paragraph.split("\n")]
    if len(lines) == 1:
        return paragraph
    lengths = [len(line) for line in lines]
    lengths[0] += column
    prose, width = _SENTENCE_END.search(paragraph) is not None, max(lengths)
    parts = [lines[0]]
    for (line, following), length in zip(pairwise(lines), lengths, strict=False):
        goes_on = (prose or width >= _NARROWEST) and _GOES_ON.match(following) is not None
        wraps = goes_on or (prose and _is_full(line, following, length, width))
        parts += [_space(line, following) if wraps else "\n", following]
    return "".join(parts)


def _is_full(line: str, following: str, length: int, width: int) -> bool:
    """Return whether the first word of the next line had no room in this one."""
    if not following or not line:
        return False
    if UNSPACED.match(line[-1]) and UNSPACED.match(following):
        return width >= _NARROWEST_UNSPACED and length + _RAGGED >= width
    word = _FIRST_WORD.match(following)
    return width >= _NARROWEST and word is not None and length + 1 + len(word[0]) > width


def _space(line: str, following: str) -> str:
    """Return what stands for a wrap: nothing in a script without spaces and after the hyphen of a word."""
    unspaced = UNSPACED.match(line[-1:]) and UNSPACED.match(following)
    return "" if unspaced or regex.search(r"\p{L}-\Z", line) else " "


# Marks at the ends of lines.

_SHORT = 25  # characters of an item that shares a sentence with the next: "Apple, Banana, Cherry."
_ENDED = regex.compile(r"[^\p{L}\p{M}\p{N}\p{Sc}\p{Sk}%)\]'\"”’»）」』>+*=°′″]\Z")
_WIDE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}ー，。]")


def end_lines(text: str) -> str:
    """Return the text with a mark at the end of each line but the last.

    Lines that end in a mark keep it. Between short lines it is a comma, else the terminal mark of the script.
    """
    lines = [line.strip() for line in text.split("\n")]
    parts = []
    for line, following in pairwise(lines):
        if speakable(line) and not _ENDED.search(line):
            line = _listed(line) if _shares(line, following) else finished(line)
        parts += [line, "" if _WIDE.match(line[-1:]) and _WIDE.match(following) else "\n"]
    return "".join([*parts, lines[-1]])


def _shares(line: str, following: str) -> bool:
    short = 0 < len(following) <= _SHORT >= len(line) and speakable(following)
    return short and not _SENTENCE_END.search(line) and not _SENTENCE_END.search(following)


def _listed(line: str) -> str:
    return line + ("，" if _WIDE.match(line[-1]) else ",")
