"""Fuzz books in EPUB: an InputError, or a job whose lines can be spoken; nothing is written and no other file opened.

    pip install atheris && python tests/fuzz_epub.py -runs=1000000

Further arguments are libFuzzer's: a folder to keep the corpus in, `-max_total_time=300`, ...
"""

import io
import zipfile

import atheris

with atheris.instrument_imports(include=["fishcli.jobs", "zipfile", "defusedxml"]):
    from fishcli.errors import InputError
    from fishcli.jobs import marks
    from fishcli.jobs.readers import epub

import sample_book
from fuzzing import FOLDER, run

BOOK = FOLDER / "x.epub"
MEMBERS = {name: data.encode() for name, data in sample_book.epub_members(sample_book.chapters(4, 2)).items()}
NAMES = [
    *MEMBERS,
    "META-INF/encryption.xml",
    "META-INF/rights.xml",
    "OEBPS/toc.ncx",
    "OEBPS/../x",
    "/etc/passwd",
    "C:\\x",
    "a/",
    "mimetype\0",
]
PARTS = [
    *(
        b"<p>",
        b"</p>",
        b"<h1>",
        b"</h1>",
        b"<h2/>",
        b"<br/>",
        b"<pre>",
        b"<sup><a>1</a></sup>",
        b"<table><tr><td>",
        b"</td>",
    ),
    *(
        b"&nbsp;",
        b"&a;",
        b"&#0;",
        b"&#xD800;",
        b"<!--",
        b"-->",
        b"<![CDATA[",
        b"]]>",
        b"<?x ?>",
        b"\xff",
        b"\0",
        b"[pause:1s]",
    ),
    b'<!DOCTYPE a [<!ENTITY a "aaaa">]>',
    b'<!DOCTYPE a SYSTEM "file:///etc/passwd">',
    b'<?xml version="1.0" encoding="utf-16"?>',
    b'<?xml version="1.0" encoding="cp037"?>',
    b'<itemref idref="x"/>',
    b'<item id="x" href="%2e%2e/%2e%2e/etc/passwd" media-type="text/html"/>',
    b'<item id="x" href="http://[" media-type="text/html"/>',
    b'<break time="11s"/>',
    b'<nav epub:type="toc"><a href="chapter1.xhtml">x</a></nav>',
]
MODES = [0, 0o100644, 0o120777, 0o040755, 0o010644]
MOST = 2**16  # characters of the lines of a book of some kB

touched: list[str] = []


def look(event: str, arguments: tuple[object, ...]) -> None:
    """Keep what is opened, made or moved, other than the book and modules."""
    known = arguments and (str(arguments[0]) == str(BOOK) or str(arguments[0]).endswith((".py", ".pyc", ".so")))
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.symlink", "socket.connect") and not known:
        touched.append(f"{event} {arguments[0]!r}")


def packed(source: atheris.FuzzedDataProvider) -> bytes:
    """A ZIP of the members of a book, some of them changed, added or left out."""
    content = dict(MEMBERS)
    for _ in range(source.ConsumeIntInRange(0, 4)):
        name = NAMES[source.ConsumeIntInRange(0, len(NAMES) - 1)]
        content[name] = changed(content.get(name, b""), source)
    if source.ConsumeBool():
        content.pop(list(content)[source.ConsumeIntInRange(0, len(content) - 1)])
    method = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[source.ConsumeBool()]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = MODES[source.ConsumeIntInRange(0, len(MODES) - 1)] << 16 if source.ConsumeBool() else 0
            archive.writestr(info, data, method)
    made = bytearray(file.getvalue())
    for _ in range(source.ConsumeIntInRange(0, 4) if source.ConsumeBool() else 0):
        made[source.ConsumeIntInRange(0, len(made) - 1)] ^= source.ConsumeIntInRange(0, 255)
    return bytes(made)


def changed(data: bytes, source: atheris.FuzzedDataProvider) -> bytes:
    """A document with pieces put in and taken out."""
    for _ in range(source.ConsumeIntInRange(0, 6)):
        at = source.ConsumeIntInRange(0, len(data))
        part = PARTS[source.ConsumeIntInRange(0, len(PARTS) - 1)] if source.ConsumeBool() else source.ConsumeBytes(8)
        data = data[:at] + part + data[at + source.ConsumeIntInRange(0, 16) :]
    return data


def check(data: bytes) -> None:
    source = atheris.FuzzedDataProvider(data)
    BOOK.write_bytes(data[:-1] if source.ConsumeBool() else packed(source))
    touched.clear()
    try:
        job = epub.read(BOOK)
    except InputError:
        return
    finally:
        if touched:
            raise RuntimeError(f"{touched} while a book was read")
    if not job.lines and not job.problems:
        raise RuntimeError("a book without lines")
    if len({line.id for line in job.lines}) != len(job.lines):
        raise RuntimeError("two lines of one id")
    if sum(len(line.text) for line in job.lines) > MOST:
        raise RuntimeError("a bomb was unpacked")
    for line in job.lines:
        marks.parse(line.text)
        if line.chapter is None or not job.chapters[line.chapter].title:
            raise RuntimeError("a line without a chapter")


def main() -> None:
    whole = packed(atheris.FuzzedDataProvider(b""))
    BOOK.write_bytes(whole)
    epub.read(BOOK)
    # The provider takes numbers from the end.
    run(check, {"whole": whole + b"\1", "made": bytes(range(65))[::-1]}, look)


if __name__ == "__main__":
    main()
