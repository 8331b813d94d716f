"""A book in EPUB 2 or 3: chapters from its spine and headings, and from its table of contents where it has no headings.

Nothing of it is written to the disk, and none of its links is followed out of the file.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from fishcli.errors import InputError
from fishcli.files import open_regular
from fishcli.jobs.line import Job
from fishcli.jobs.readers import chapters, xhtml
from fishcli.jobs.readers.archive import Archive
from fishcli.jobs.readers.chapters import Block

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_CONTAINER, _ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
_DOCUMENTS = ("application/xhtml+xml", "text/html", "application/xml", "text/x-oeb1-document")
_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")  # obscured, not the text
_NCX = "application/x-dtbncx+xml"
_MAX_SPINE = 10_000  # documents, and entries of the table of contents
_MAX_TEXTS = 50  # pieces of the title of an entry


@dataclass(frozen=True)
class _Item:
    """A file of the book, by its name in the archive."""

    member: str
    kind: str
    is_contents: bool = False


def read(path: Path) -> Job:
    """Return the job of an EPUB. Raises InputError for a file that is none, is locked, or is not safe to open."""
    with open_regular(path) as file:
        archive = Archive(file, str(path))
        _check_unlocked(archive, str(path))
        package, folder = _package(archive, str(path))
        items = _items(package, folder)
        title = next((each.text for each in _all(package, "title") if each.text), None)
        return chapters.job(_blocks(archive, package, items, str(path)), path.stem, title)


def _check_unlocked(archive: Archive, name: str) -> None:
    locked = {"META-INF/rights.xml", "META-INF/sinf.xml"} & archive.members.keys()
    if _ENCRYPTION in archive.members:
        root = xhtml.tree(archive.read(_ENCRYPTION), f"{name}: {_ENCRYPTION}")
        locked |= {each.get("Algorithm", "") for each in _all(root, "EncryptionMethod")}.difference(_FONTS)
    if locked:
        raise InputError(f"{name} is locked: its text is encrypted (DRM); use a copy without a lock.")


def _package(archive: Archive, name: str) -> tuple[Element, str]:
    """Return the package document and the folder in which it lies."""
    if _CONTAINER not in archive.members:
        raise InputError(f"{name} is no EPUB: it has no {_CONTAINER}; use another file.")
    root = xhtml.tree(archive.read(_CONTAINER), f"{name}: {_CONTAINER}")
    member = next((each.get("full-path") for each in _all(root, "rootfile") if each.get("full-path")), None)
    if not member:
        raise InputError(f"{name} is no EPUB: its {_CONTAINER} names no package; use another file.")
    return xhtml.tree(archive.read(member), f"{name}: {member}"), posixpath.dirname(member)


def _items(package: Element, folder: str) -> dict[str, _Item]:
    """Return the files that the package lists, by their id there."""
    return {
        each.get("id", ""): _Item(
            _resolved(folder, each.get("href", "")),
            each.get("media-type", "").lower(),
            "nav" in each.get("properties", "").split(),
        )
        for each in _all(package, "item")
    }


def _blocks(archive: Archive, package: Element, items: dict[str, _Item], name: str) -> Iterator[Block]:
    """Yield the blocks of the book in the order of its spine."""
    documents = _spine(package, items, name)
    titles = _titles(archive, package, items, name)
    for item in documents:
        found = xhtml.blocks(archive.read(item.member), f"{name}: {item.member}")
        if item.member in titles and not any(0 < block.level <= 2 for block in found):
            yield Block(titles[item.member], 1, spoken=False)
        yield from found


def _spine(package: Element, items: dict[str, _Item], name: str) -> list[_Item]:
    references = [each for each in _all(package, "itemref") if each.get("linear") != "no"]
    if len(references) > _MAX_SPINE:
        raise InputError(f"{name} has more than {_MAX_SPINE:,} parts; split it.")
    ids = [each.get("idref", "") for each in references]
    if lost := [id for id in ids if id not in items]:
        raise InputError(f"{name} names a part that it does not list, {lost[0]!r:.80}; get the book again.")
    found = [items[id] for id in ids]
    documents = [item for item in dict.fromkeys(found) if item.kind in _DOCUMENTS and not item.is_contents]
    if not documents:
        raise InputError(f"{name} is no EPUB with a text: its spine is empty; use another file.")
    return documents


def _titles(archive: Archive, package: Element, items: dict[str, _Item], name: str) -> dict[str, str]:
    """Return the first title of each document in the table of contents, by the name of the document's member."""
    contents = next((item for item in items.values() if item.is_contents), None)
    contents = contents or next((item for item in items.values() if item.kind == _NCX), None)
    if contents is None or contents.member not in archive.members:
        return {}
    root = xhtml.tree(archive.read(contents.member), f"{name}: {contents.member}")
    found: dict[str, str] = {}
    for href, title in islice(_links(root) if contents.is_contents else _points(root), _MAX_SPINE):
        if title:
            found.setdefault(_resolved(posixpath.dirname(contents.member), href), title)
    return found


def _links(root: Element) -> Iterator[tuple[str, str]]:
    """Yield address and title of the links of an EPUB 3 table of contents."""
    for nav in _all(root, "nav"):
        if "toc" in nav.get("{http://www.idpf.org/2007/ops}type", "toc").split():
            yield from ((link.get("href", ""), _text(link)) for link in _all(nav, "a"))


def _points(root: Element) -> Iterator[tuple[str, str]]:
    """Yield address and title of the points of an EPUB 2 table of contents."""
    for point in _all(root, "navPoint"):
        parts = {str(each.tag).rpartition("}")[2]: each for each in point}
        if {"navLabel", "content"} <= parts.keys():
            yield parts["content"].get("src", ""), _text(parts["navLabel"])


def _text(element: Element) -> str:
    return " ".join("".join(islice(element.itertext(), _MAX_TEXTS)).split())


def _all(root: Element, name: str) -> Iterator[Element]:
    """Yield the elements of a name in any namespace, in order."""
    return (each for each in root.iter() if isinstance(each.tag, str) and each.tag.rpartition("}")[2] == name)


def _resolved(folder: str, href: str) -> str:
    """Return the member that an address in a folder of the archive means. It is looked up there, never opened."""
    try:
        path = unquote(urlsplit(href).path)
    except ValueError:
        return ""
    return posixpath.normpath(posixpath.join(folder, path))
