"""A book in Markdown: its headings are chapters.

Paragraphs, quotations, items of lists and rows of tables are spoken. Left out are code blocks, pictures, the addresses
of links, footnotes, HTML and its comments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import regex

from fishcli.errors import InputError
from fishcli.files import open_regular
from fishcli.jobs import marks
from fishcli.jobs.line import Job
from fishcli.jobs.readers import chapters
from fishcli.jobs.readers.chapters import Block
from fishcli.text import decode
from fishcli.text.chunks import UNSPACED
from fishcli.text.markup import LINE_END, plain

if TYPE_CHECKING:
    from markdown_it.token import Token

MAX_BYTES = 2**24
_FRONT_MATTER = regex.compile(r"---[ \t]*\n((?:(?!(?:---|\.\.\.)[ \t]*\n)[^\n]*\n){0,200}+)(?:---|\.\.\.)[ \t]*\n")
_FRONT_TITLE = regex.compile(r"^title:[ \t]*(.+)$", regex.MULTILINE)
_COMMENT = regex.compile(r"<!--(?:.*?-->|.*\Z)", regex.DOTALL)
_NOTE = regex.compile(r"\[\^[^\[\]\s]+\]:")
_NOTE_MARK = regex.compile(r"\[\^[^\[\]\s]{1,50}+\]")
_WRAP = regex.compile(rf"(?<={UNSPACED.pattern})\n(?={UNSPACED.pattern})")
_LINE_BREAK = regex.compile(r"<br\s*/?>", regex.IGNORECASE)
_BLANK = regex.compile(rf"\n\s*\n|{LINE_END}")


def read(path: Path) -> Job:
    """Return the job of a Markdown file. Raises InputError for a file that cannot be read, or without words."""
    with open_regular(path) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES // 2**20} MiB; split it.")
    try:
        text = regex.sub(r"\r\n?", "\n", decode(data))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    front = _FRONT_MATTER.match(text)
    title = _FRONT_TITLE.search(front[1]) if front else None
    said = title[1].strip(" \t\"'") if title else None
    return chapters.job(blocks(text[front.end() if front else 0 :]), path.stem, said)


def blocks(text: str) -> Iterator[Block]:
    """Yield the headings and paragraphs of a Markdown text."""
    from markdown_it import MarkdownIt

    number = ""
    cells: list[str] | None = None  # of the row
    for before, token in _pairs(MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)):
        if token.type == "list_item_open":
            number = f"{token.info}. " if token.info else ""
        elif token.type == "html_block":
            yield from map(Block, _BLANK.split(plain(_COMMENT.sub("", marks.bracketed(token.content)))))
        elif token.type == "tr_open":
            cells = []
        elif token.type == "tr_close":
            yield Block(", ".join(filter(None, cells or ())))
            cells = None
        elif token.type == "inline":
            said = _words(token.children or ())
            if cells is not None:
                cells.append(said)
            elif before.type == "heading_open":
                yield Block(said, int(before.tag[1:]))
            elif not _NOTE.match(said):
                yield Block(number + said)
            number = ""


def _pairs(tokens: list[Token]) -> Iterator[tuple[Token, Token]]:
    """Yield each token with the one before it."""
    return zip(tokens[:1] + tokens[:-1], tokens, strict=True)


def _words(tokens: Sequence[Token]) -> str:
    """Return the words of the inside of a block."""
    text = "".join(_sound(token) for token in tokens if token.type != "image")
    text = text if _NOTE.match(text) else _NOTE_MARK.sub("", text)
    return marks.bracketed(_WRAP.sub("", text).replace("\n", " "))


def _sound(token: Token) -> str:
    if token.type == "html_inline":
        kept = token.content if marks.is_mark(token.content) else ""
        return LINE_END if _LINE_BREAK.fullmatch(token.content) else kept
    return {"softbreak": "\n", "hardbreak": LINE_END}.get(token.type, token.content)
