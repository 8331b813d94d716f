"""From the blocks of a book, its headings and paragraphs, to the lines and chapters of a job.

A heading of level 1 or 2 begins a chapter, and shares it with the headings right after it ("Part One", "Chapter 1").
The id of a line is that of its chapter and its place there, 03-0012; in a book without headings its place alone, 0012.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import regex

from fishcli.errors import InputError
from fishcli.jobs import marks
from fishcli.jobs.line import MAX_TEXT, Chapter, Job, Line, Problem
from fishcli.text import check, speakable

MAX_PARAGRAPHS = 200_000
_CHAPTER_LEVEL = 2
_MAX_TITLE = 200  # characters
_SPACES = regex.compile(r"[\s\u2028]+")


class Block(NamedTuple):
    """A paragraph, or a heading of `level` 1 to 6. `spoken` is False for a title that stands in no text."""

    text: str
    level: int = 0
    spoken: bool = True


@dataclass
class _Chapter:
    titles: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    @property
    def begun(self) -> bool:
        """Whether it has a paragraph."""
        return any(block.level == 0 for block in self.blocks)


def job(blocks: Iterable[Block], name: str, title: str | None = None) -> Job:
    """Return the job of a book. `name` stands for it in messages and titles a chapter without a heading.

    A block that cannot be spoken is one of the job's problems. Raises InputError for a book without words.
    """
    found = _chapters(blocks, name)
    title = _tidy(title or "") or _only_title(found)
    lines: list[Line] = []
    problems: list[Problem] = []
    numbered = len(found) > 1 or any(chapter.titles for chapter in found)
    number = 0
    for index, chapter in enumerate(found):
        for place, block in enumerate(chapter.blocks, 1):
            number += 1
            id = f"{index + 1:02}-{place:04}" if numbered else f"{place:04}"
            try:
                said = _checked(block.text)
                lines.append(Line(id, said, number, chapter=index, heading=block.level > 0))
            except InputError as error:
                problems.append(Problem(number, str(error), id))
    if not lines and not problems:
        raise InputError(f"{name} has no words to speak; give it some text.")
    return Job(tuple(lines), tuple(problems), title, tuple(Chapter(_title(each, title, name)) for each in found))


def _chapters(blocks: Iterable[Block], name: str) -> list[_Chapter]:
    chapters, pause = [_Chapter()], ""
    for count, block in enumerate(blocks):
        if count >= MAX_PARAGRAPHS:
            raise InputError(f"{name} has more than {MAX_PARAGRAPHS:,} paragraphs; split it.")
        if block.level == 0 and not _has_words(block.text):
            pause = _add_pause(chapters[-1], pause + _pauses(block.text))
            continue
        if 0 < block.level <= _CHAPTER_LEVEL:
            if chapters[-1].begun:
                chapters.append(_Chapter())
            chapters[-1].titles.append(_tidy(marks.plain(block.text)))
        if block.spoken and _has_words(block.text):
            chapters[-1].blocks.append(block._replace(text=f"{pause}{block.text.strip()}"))
            pause = ""
    return [chapter for chapter in chapters if chapter.blocks]


def _has_words(text: str) -> bool:
    """Return whether a block is to be spoken, or has a mark that is to be named."""
    try:
        return any(isinstance(part, marks.Speech) and speakable(part.text) for part in marks.parse(text))
    except InputError:
        return True


def _pauses(text: str) -> str:
    return "".join(f"[pause:{part.seconds:g}s]" for part in marks.parse(text) if isinstance(part, marks.Pause))


def _add_pause(chapter: _Chapter, pause: str) -> str:
    """Add pauses to the last line of a chapter. Return them for the next one if it has none."""
    if not chapter.blocks or not pause:
        return pause
    last = chapter.blocks[-1]
    chapter.blocks[-1] = last._replace(text=f"{last.text} {pause}")
    return ""


def _checked(text: str) -> str:
    """Return a text that can be spoken. Raises InputError."""
    if len(text) > MAX_TEXT:
        raise InputError(f"The paragraph has {len(text):,} characters and at most {MAX_TEXT:,} are taken; split it.")
    marks.parse(text)
    return check(marks.bracketed(text))


def _only_title(chapters: list[_Chapter]) -> str | None:
    """Return the title of a book that begins with its only heading of level 1, and has others below it."""
    headings = [block for chapter in chapters for block in chapter.blocks if 0 < block.level <= _CHAPTER_LEVEL]
    alone = sum(block.level == 1 for block in headings) == 1 and len(headings) > 1 and headings[0].level == 1
    return _tidy(marks.plain(headings[0].text)) if alone else None


def _title(chapter: _Chapter, title: str | None, name: str) -> str:
    own = [each for each in chapter.titles if each != title] or chapter.titles
    return ", ".join(own)[:_MAX_TITLE] or title or name


def _tidy(title: str) -> str:
    return _SPACES.sub(" ", title).strip()[:_MAX_TITLE]
