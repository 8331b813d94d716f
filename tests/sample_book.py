"""A book for the tests, of any number of paragraphs: chapters, dialogue, pauses, notes. The same for the same seed."""

import random
import zipfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

WORDS = """harbour lighthouse market orchard library station garden kitchen bridge workshop
Marta Oskar Ines Pavel Ruth Anselm Lena Tobias
lantern letter map kettle violin ledger compass key basket clock
carried lost repaired painted hid sold found borrowed"""
PLACES, PEOPLE, THINGS, VERBS = map(str.split, WORDS.splitlines())


class Chapter(NamedTuple):
    """A title and the paragraphs, with their marks."""

    title: str
    paragraphs: list[str]


def chapters(paragraphs: int, per_chapter: int = 12, seed: int = 0) -> list[Chapter]:
    """Return chapters with so many paragraphs in all, each paragraph different from all others."""
    draw = random.Random(seed)
    said = [_paragraph(draw, number) for number in range(1, paragraphs + 1)]
    parts = [said[start : start + per_chapter] for start in range(0, paragraphs, per_chapter)]
    return [
        Chapter(f"The {draw.choice(THINGS)} of {draw.choice(PEOPLE)}, part {number}", part)
        for number, part in enumerate(parts, 1)
    ]


def _paragraph(draw: random.Random, number: int) -> str:
    who, thing, place, verb = (draw.choice(words) for words in (PEOPLE, THINGS, PLACES, VERBS))
    kind = draw.randrange(4)
    if kind == 0:
        return f'"Who {verb} the {thing}?" asked {who}. [pause:300ms] "Not I," said the voice in the {place} {number}.'
    if kind == 1:
        return f"Day {number}: {who} {verb} the {thing} at the {place}."
    if kind == 2:
        return (
            f'{who} waited. <break time="0.5s"/> Then the {thing} fell, and the {place} was silent for {number} days.'
        )
    return f"In the {place}, {who} {verb} a {thing}; nobody saw it. It was the {number}th."


def markdown(book: list[Chapter], title: str = "A Book of Days") -> str:
    """Return the book as Markdown, with what is never spoken in between."""
    parts = [f"# {title}"]
    for chapter in book:
        parts += [f"## {chapter.title}", "<!-- never spoken -->", *chapter.paragraphs, "```\nnever spoken\n```"]
    return "\n\n".join(parts) + "\n"


CONTAINER = (
    '<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)


def epub_members(book: list[Chapter], title: str = "A Book of Days") -> dict[str, str]:
    """Return the members of the book as EPUB 3, by name: a document for each chapter, and the table of contents."""
    names = [f"chapter{number}.xhtml" for number in range(1, len(book) + 1)]
    items = [f'<item id="c{name}" href="{name}" media-type="application/xhtml+xml"/>' for name in names]
    items.append('<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>')
    spine = "".join(f'<itemref idref="c{name}"/>' for name in names)
    links = "".join(
        f'<li><a href="{name}">{escape(chapter.title)}</a></li>' for name, chapter in zip(names, book, strict=True)
    )
    return {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OEBPS/content.opf": (
            '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata '
            f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{escape(title)}</dc:title></metadata>'
            f"<manifest>{''.join(items)}</manifest><spine>{spine}</spine></package>"
        ),
        "OEBPS/nav.xhtml": _document(f'<nav epub:type="toc"><ol>{links}</ol></nav>'),
        **{f"OEBPS/{name}": _document("".join(_body(chapter))) for name, chapter in zip(names, book, strict=True)},
    }


def _body(chapter: Chapter) -> Iterator[str]:
    yield f"<h2>{escape(chapter.title)}</h2>"
    for number, paragraph in enumerate(chapter.paragraphs, 1):
        said = escape(paragraph, quote=False).replace("&lt;break", "<break").replace("/&gt;", "/>")
        yield f'<p>{said}<sup><a epub:type="noteref" href="#n{number}">{number}</a></sup></p>'
    yield '<aside epub:type="footnote" id="n1"><p>Never spoken.</p></aside><script>never()</script>'


def _document(body: str) -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml" '
        f'xmlns:epub="http://www.idpf.org/2007/ops"><head><title>Never spoken</title></head><body>{body}</body></html>'
    )


def pack(path: Path, members: dict[str, str | bytes]) -> Path:
    """Write members into a ZIP."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return path
