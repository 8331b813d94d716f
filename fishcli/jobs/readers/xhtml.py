"""The headings and paragraphs of an XHTML document of a book, and XML without entities.

Left out: scripts, styles, pictures, code (`pre`), notes and their numbers, page numbers, tables of contents, what is
hidden, and the readings above ruby.
"""

from __future__ import annotations

import re
from html.entities import html5
from typing import TYPE_CHECKING, Any

import regex

from fishcli.errors import FishError, InputError
from fishcli.jobs.readers.chapters import Block
from fishcli.text.markup import LINE_END

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_MAX_DEPTH = 500
_EPUB_TYPE = "{http://www.idpf.org/2007/ops}type"
_BLOCK_TAGS = (
    "address article aside blockquote body caption center dd div dl dt figcaption figure footer header hr legend li "
    "main ol p section table tbody tfoot thead tr ul h1 h2 h3 h4 h5 h6"
)
_HIDDEN_TAGS = (
    "head script style svg math audio video object iframe template noscript img picture canvas map nav pre rt rp "
    "button select textarea form"
)
_NOTE_TYPES = (
    "footnote footnotes endnote endnotes rearnote rearnotes noteref note pagebreak page-list pagelist toc landmarks "
    "loi lot index biblioref"
)
_NOTE_CLASSES = (
    "pagenum pagenumber page-number pageno page-num pagebreak page-break-number noteref footnote footnotes endnote "
    "endnotes fnanchor fnref"
)
_BLOCKS, _HIDDEN = frozenset(_BLOCK_TAGS.split()), frozenset(_HIDDEN_TAGS.split())
_NOTES, _CLASSES = frozenset(_NOTE_TYPES.split()), frozenset(_NOTE_CLASSES.split())
_NOTE_NUMBER = re.compile(r"\s*[\[(]?\s*(?:\d{1,4}|[*†‡§]{1,3}|[a-z])\s*[\])]?\s*")
_ENTITY = re.compile(rb"&([A-Za-z][A-Za-z0-9]{1,31});")
_XML_ENTITIES = frozenset((b"amp", b"lt", b"gt", b"quot", b"apos"))
_SPACES = regex.compile(r"[^\S\u2028\xa0]+")


def tree(data: bytes, name: str) -> Element:
    """Return the root of an XML document. Raises InputError if it is damaged, declares entities or is too deep."""
    found: Element = _parse(data, name, None)
    return found


def blocks(data: bytes, name: str) -> list[Block]:
    """Return the headings and paragraphs of an XHTML document. Raises InputError as `tree` does."""
    target = _Blocks(name)
    _parse(data, name, target)
    return target.blocks


def _parse(data: bytes, name: str, target: _Blocks | None) -> Any:
    try:
        from defusedxml import DefusedXmlException
        from defusedxml.ElementTree import DefusedXMLParser, ParseError
    except ImportError:
        raise FishError("EPUB needs a further package; run `pip install 'fishcli[books]'`.") from None
    from xml.etree.ElementTree import TreeBuilder

    parser = DefusedXMLParser(target=target or _Shallow(TreeBuilder(), name), forbid_entities=True)
    try:
        parser.feed(_ENTITY.sub(_as_number, data))
        return parser.close()
    except DefusedXmlException as error:
        raise InputError(f"{name} declares entities or reads other files, as no book needs; it is not read.") from error
    except (ParseError, ValueError, LookupError) as error:
        raise InputError(f"{name} cannot be read ({str(error).rstrip('.')}); get the book again.") from error


def _as_number(entity: re.Match[bytes]) -> bytes:
    """Return an entity of HTML as XML knows it, by its number."""
    named = "" if entity[1] in _XML_ENTITIES else html5.get(f"{entity[1].decode()};", "")
    return "".join(f"&#{ord(letter)};" for letter in named).encode() or entity[0]


class _Shallow:
    """Builds a tree of a bounded depth."""

    def __init__(self, builder: Any, name: str) -> None:
        self._builder, self._name, self._depth = builder, name, 0
        self.data = builder.data

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth = _deeper(self._depth, self._name)
        self._builder.start(tag, attributes)

    def end(self, tag: str) -> None:
        self._depth -= 1
        self._builder.end(tag)

    def close(self) -> Any:
        return self._builder.close()


class _Blocks:
    """Collects the blocks of a document while it is parsed."""

    def __init__(self, name: str) -> None:
        self.blocks: list[Block] = []
        self._name = name
        self._depth = 0
        self._hidden = 0  # depth of the outermost hidden element; 0: none
        self._level = 0  # of the heading
        self._text: list[str] = []
        self._notes: list[tuple[str, int]] = []  # open `a` and `sup`, and where their text starts
        self._in_row = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth = _deeper(self._depth, self._name)
        tag = _local(tag)
        if self._hidden:
            return
        if tag in _HIDDEN or _is_aside(attributes):
            self._hidden = self._depth
        elif tag == "br":
            self._text.append(LINE_END)
        elif tag == "break":
            self._text.append(f'<break time="{attributes.get("time", "")}"/>')
        elif tag in ("td", "th"):
            self._text.append(", " if self._in_row and self._has_text else "")
        elif tag in ("a", "sup"):
            self._notes.append((tag, len(self._text)))
        elif tag in _BLOCKS and not (self._in_row and tag != "tr"):
            self._end_block()
            self._in_row = tag == "tr"
            self._level = int(tag[1]) if re.fullmatch(r"h[1-6]", tag) else self._level

    def end(self, tag: str) -> None:
        tag, depth, self._depth = _local(tag), self._depth, self._depth - 1
        if self._hidden:
            self._hidden = self._hidden if depth > self._hidden else 0
        elif tag in ("a", "sup") and self._notes:
            self._drop_note()
        elif tag in _BLOCKS and not (self._in_row and tag != "tr"):
            self._end_block()
            self._in_row = False
            self._level = 0 if re.fullmatch(r"h[1-6]", tag) else self._level

    def data(self, text: str) -> None:
        if not self._hidden:
            self._text.append(text)

    def close(self) -> None:
        self._end_block()

    @property
    def _has_text(self) -> bool:
        return any(part.strip() for part in self._text)

    def _drop_note(self) -> None:
        """Drop the number of a note: a raised link, `<a><sup>1</sup></a>` or `<sup><a>1</a></sup>`."""
        tag, start = self._notes.pop()
        outer = self._notes[-1][0] if self._notes else ""
        if {tag, outer} == {"a", "sup"} and _NOTE_NUMBER.fullmatch("".join(self._text[start:])):
            del self._text[start:]

    def _end_block(self) -> None:
        text = _SPACES.sub(" ", "".join(self._text)).replace("\xa0", " ").strip(f" {LINE_END}")
        if text:
            self.blocks.append(Block(text, self._level))
        self._text.clear()
        self._notes.clear()


def _is_aside(attributes: dict[str, str]) -> bool:
    """Return whether an element is hidden, or holds a note, a number of a page or a table of contents."""
    roles = f"{attributes.get(_EPUB_TYPE, '')} {attributes.get('role', '').replace('doc-', '')}".lower().split()
    classes = attributes.get("class", "").lower().split()
    hidden = "hidden" in attributes or attributes.get("aria-hidden") == "true"
    return hidden or not _NOTES.isdisjoint(roles) or not _CLASSES.isdisjoint(classes)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2].lower()


def _deeper(depth: int, name: str) -> int:
    if depth >= _MAX_DEPTH:
        raise InputError(f"{name} has elements nested more than {_MAX_DEPTH} deep; it is not read.")
    return depth + 1
