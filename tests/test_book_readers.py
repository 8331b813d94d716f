"""Books in Markdown and EPUB: chapters and paragraphs in order, and files that are refused."""

import sys
import zipfile
from pathlib import Path

import pytest
import sample_book

from fishcli.errors import FishError, InputError
from fishcli.jobs import marks
from fishcli.jobs.readers import chapters, epub, markdown, xhtml

BOOK = sample_book.chapters(30)


@pytest.fixture(params=["md", "epub"])
def job(request, tmp_path):
    path = tmp_path / f"book.{request.param}"
    if request.param == "md":
        path.write_text(sample_book.markdown(BOOK), encoding="utf-8")
        return markdown.read(path)
    return epub.read(sample_book.pack(path, sample_book.epub_members(BOOK)))


def test_every_paragraph_is_there_once_in_order(job):
    assert job.problems == ()
    assert job.title == "A Book of Days"
    assert [chapter.title for chapter in job.chapters] == [chapter.title for chapter in BOOK]
    for index, chapter in enumerate(BOOK):
        lines = [line for line in job.lines if line.chapter == index]
        assert [line.text for line in lines if not line.heading] == list(map(marks.bracketed, chapter.paragraphs))
        assert [line.text for line in lines if line.heading][-1] == chapter.title
        assert [line.id for line in lines] == [f"{index + 1:02}-{place:04}" for place in range(1, len(lines) + 1)]
    assert [line.number for line in job.lines] == list(range(1, len(job.lines) + 1))


MARKDOWN = """---
title: "My Book"
---
Before.

# Part *One*

## Chapter 1

Hello **world** and [a link](http://x.y "t") ![pic](a.png) `code` <!-- no --> end[^1].
wrapped <i>line</i>. <break time="500ms"/> [voice:Bob] yes<br>no

<break time="2s"/>

> quoted
> more

1. first
2. second
   - nested

   goes on

| a | b |
|---|---|
| 1 | 2 |

```python
code
```

    code

<div>Inside <b>html</b></div>

[^1]: a note

<!-- several

lines -->

### Sub

***

Text [pause:99s] bad.

第一行
第二行 &amp; \\*star\\*
"""


def test_markdown(tmp_path):
    (tmp_path / "a.md").write_bytes(MARKDOWN.replace("\n", "\r\n").encode())
    job = markdown.read(tmp_path / "a.md")
    assert [(line.id, line.text, line.heading) for line in job.lines] == [
        ("01-0001", "Before.", False),
        ("02-0001", "Part One", True),
        ("02-0002", "Chapter 1", True),
        (
            "02-0003",
            "Hello world and a link  code  end. wrapped line. [pause:500ms] [voice:Bob] yes\u2028no [pause:2s]",
            False,
        ),
        ("02-0004", "quoted more", False),
        ("02-0005", "1. first", False),
        ("02-0006", "2. second", False),
        ("02-0007", "nested", False),
        ("02-0008", "goes on", False),
        ("02-0009", "a, b", False),
        ("02-0010", "1, 2", False),
        ("02-0011", "Inside html", False),
        ("02-0012", "Sub", True),
        ("02-0014", "第一行第二行 & *star*", False),
    ]
    assert [(each.number, each.id) for each in job.problems] == [(14, "02-0013")]
    assert "[pause:99s]" in job.problems[0].message
    assert (job.title, [each.title for each in job.chapters]) == ("My Book", ["My Book", "Part One, Chapter 1"])


def test_markdown_without_headings(tmp_path):
    (tmp_path / "walk.md").write_text("[pause:1s]\n\nOne.\n\n[pause:2s]\n\n...\n\nTwo.")
    job = markdown.read(tmp_path / "walk.md")
    assert [(line.id, line.text) for line in job.lines] == [("0001", "[pause:1s]One. [pause:2s]"), ("0002", "Two.")]
    assert [each.title for each in job.chapters] == ["walk"]


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "no words"), (b"```\ncode\n```", "no words"), (b"\xff\xfe", "not UTF-8"), (b"a" * (2**24 + 1), "larger")],
)
def test_markdown_that_cannot_be_read(tmp_path, data, said):
    (tmp_path / "a.md").write_bytes(data)
    with pytest.raises(InputError, match=said):
        markdown.read(tmp_path / "a.md")


def test_an_overlong_paragraph_and_a_control_character_are_problems(tmp_path):
    (tmp_path / "a.md").write_text("One.\n\n" + "word " * 4_001 + "\n\nT\x1bwo.\n\nThree.")
    job = markdown.read(tmp_path / "a.md")
    assert [line.text for line in job.lines] == ["One.", "Three."]
    assert [each.number for each in job.problems] == [2, 3]
    assert "at most 20,000" in job.problems[0].message
    assert "U+001B" in job.problems[1].message


@pytest.mark.parametrize(
    "part", ["[", "*a ", "> ", "`", "<!--", "- ", "[a](", "![[", "<a ", "&", "_", "[^", "<br", "|a|\n|-|\n"]
)
def test_markdown_takes_linear_time(part):
    assert len(list(markdown.blocks(part * 1_000))) < 10_000


XHTML = """<?xml version="1.0"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "http://www.w3.org/TR/xhtml11/DTD/xhtml11.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"><head><title>No</title>
<style>p {}</style></head><body>bare text<h1>One<br/>Two</h1><section><p>A&nbsp;<b>bold</b>
 word<sup><a href="#n">1</a></sup><a href="#m"><sup>[2]</sup></a>, E=mc<sup>2</sup> &hellip; &amp; &lt;.</p>
<div>in div<p>in p</p>after</div><blockquote>said</blockquote></section>
<span class="pagenum">12</span><span epub:type="pagebreak">13</span>
<p><span class="pagenum">[14]</span>end <a href="x">link</a> <img alt="no" src="x"/></p><pre><code>no</code></pre>
<ul><li>item <p>inner</p></li></ul><table><tr><td>a</td><td><p>b</p></td></tr></table>
<aside epub:type="footnote"><p>no</p></aside><p role="doc-endnote">no</p><p hidden="hidden">no</p>
<nav><ol><li>no</li></ol></nav><ruby>漢<rp>(</rp><rt>かん</rt></ruby><h3>Sub</h3>
<p>x <break time="1s"/> y</p><script>no</script><svg xmlns="http://www.w3.org/2000/svg"><text>no</text></svg></body></html>
"""


def test_xhtml():
    assert [(block.text, block.level) for block in xhtml.blocks(XHTML.encode(), "x")] == [
        ("bare text", 0),
        ("One\u2028Two", 1),
        ("A bold word, E=mc2 … & <.", 0),
        ("in div", 0),
        ("in p", 0),
        ("after", 0),
        ("said", 0),
        ("end link", 0),
        ("item", 0),
        ("inner", 0),
        ("a, b", 0),
        ("漢", 0),
        ("Sub", 3),
        ('x <break time="1s"/> y', 0),
    ]


def test_encodings():
    said = '<?xml version="1.0" encoding="{}"?><html><p>Ä—&amp;</p></html>'
    for name in ("utf-8", "utf-16", "windows-1252"):
        assert xhtml.blocks(said.format(name).encode(name), "x")[0].text == "Ä—&"


def ncx(*points: tuple[str, str]) -> str:
    found = "".join(
        f'<navPoint><navLabel><text>{title}</text></navLabel><content src="{src}"/></navPoint>' for title, src in points
    )
    return f'<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>{found}</navMap></ncx>'


def old_epub(documents: dict[str, str], contents: str) -> dict[str, str | bytes]:
    """An EPUB 2 of documents in a folder of their own, without headings of their own."""
    items = "".join(f'<item id="i{name}" href="text/{name}" media-type="text/html"/>' for name in documents)
    items += '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
    spine = "".join(f'<itemref idref="i{name}"/>' for name in documents)
    return {
        "META-INF/container.xml": sample_book.CONTAINER.replace("OEBPS/", ""),
        "content.opf": f'<package><manifest>{items}</manifest><spine toc="ncx">{spine}</spine></package>',
        "toc.ncx": contents,
        **{f"text/{name}": f"<html><body>{body}</body></html>" for name, body in documents.items()},
    }


def test_titles_come_from_the_table_of_contents_where_there_are_no_headings(tmp_path):
    documents = {"a b.html": "<p>1</p>", "b.html": "<p>2</p>", "c.html": "<h2>Own</h2><p>3</p>", "d.html": "<p>4</p>"}
    contents = ncx(
        ("First", "text/a%20b.html#top"), ("Again", "text/a%20b.html#x"), ("No", "text/c.html"), ("D", "text/d.html")
    )
    job = epub.read(sample_book.pack(tmp_path / "a.epub", old_epub(documents, contents)))
    assert [(line.id, line.text) for line in job.lines] == [
        ("01-0001", "1"),
        ("01-0002", "2"),
        ("02-0001", "Own"),
        ("02-0002", "3"),
        ("03-0001", "4"),
    ]
    assert [each.title for each in job.chapters] == ["First", "Own", "D"]


MEMBERS = sample_book.epub_members(BOOK[:1])
FIRST, OPF = "OEBPS/chapter1.xhtml", "OEBPS/content.opf"
LOCK = (
    '<e xmlns="http://www.w3.org/2001/04/xmlenc#"><EncryptedData><EncryptionMethod Algorithm="{}"/></EncryptedData></e>'
)
ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]><html><p>&b;</p></html>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><html><p>&a;</p></html>'


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"../a": b""}, "no book has, '../a'"),
        ({"a/../../b": b""}, "no book has"),
        ({"/etc/passwd": b""}, "no book has"),
        ({"C:/a": b""}, "no book has"),
        ({"a\\b": b""}, "no book has"),
        ({FIRST: b"<html><p>" + b"a" * 2**25 + b"</p></html>"}, "unpacks to far more"),
        ({FIRST: b"<html><p>" + b"a" * 2**22 + b"</p></html>"}, "unpacks to far more"),
        ({FIRST: ENTITIES}, "declares entities"),
        ({FIRST: OUTSIDE}, "declares entities"),
        ({OPF: ENTITIES}, "declares entities"),
        ({FIRST: "<html><p>a</html>"}, "chapter1.xhtml cannot be read"),
        ({FIRST: "<a>" * 600 + "</a>" * 600}, "nested more than 500"),
        ({FIRST: b'<?xml version="1.0" encoding="nonsense"?><a/>'}, "cannot be read"),
        ({FIRST: "<html><p>...</p></html>"}, "no words"),
        ({FIRST: None}, "has no 'OEBPS/chapter1.xhtml'"),
        ({"META-INF/container.xml": None}, "is no EPUB: it has no META-INF/container.xml"),
        ({"META-INF/container.xml": "<container/>"}, "names no package"),
        ({OPF: None}, "has no 'OEBPS/content.opf'"),
        ({OPF: "<package><manifest/><spine/></package>"}, "its spine is empty"),
        ({OPF: '<package><spine><itemref idref="x"/></spine></package>'}, "does not list, 'x'"),
        ({OPF: "<package><spine><itemref/></spine></package>"}, "does not list, ''"),
        ({OPF: MEMBERS[OPF].replace("chapter1", "../../etc/passwd#")}, "has no '../etc/passwd'"),
        ({"META-INF/rights.xml": "<rights/>"}, "is locked"),
        ({"META-INF/encryption.xml": LOCK.format("http://www.w3.org/2001/04/xmlenc#aes128-cbc")}, "is locked"),
    ],
)
def test_a_hostile_or_damaged_epub_is_refused(tmp_path, changes, said):
    members = {name: data for name, data in {**MEMBERS, **changes}.items() if data is not None}
    path = sample_book.pack(tmp_path / "a.epub", members)
    with pytest.raises(InputError, match=said) as caught:
        epub.read(path)
    assert str(path) in str(caught.value) or "no words" in said


def test_obscured_fonts_are_no_lock(tmp_path):
    locked = {**MEMBERS, "META-INF/encryption.xml": LOCK.format("http://www.idpf.org/2008/embedding")}
    assert epub.read(sample_book.pack(tmp_path / "a.epub", locked)).lines


def test_links_encrypted_members_and_doubles_are_refused(tmp_path):
    path = tmp_path / "a.epub"
    with zipfile.ZipFile(sample_book.pack(path, MEMBERS), "a") as archive:
        link = zipfile.ZipInfo("OEBPS/link.xhtml")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match=r"no book has, 'OEBPS/link\.xhtml'"):
        epub.read(path)
    data = bytearray(sample_book.pack(path, MEMBERS).read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1  # in the directory
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"is locked: .* use a copy without a lock \(DRM\)"):
        epub.read(path)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(sample_book.pack(path, MEMBERS), "a") as archive:
        archive.writestr(FIRST, "other")
    with pytest.raises(InputError, match="no book has"):
        epub.read(path)


@pytest.mark.parametrize("data", [b"", b"PK", b"no ZIP at all" * 10, b"PK\5\6" + b"\xff" * 18, b"PK\5\6" + bytes(18)])
def test_what_is_no_zip_is_refused(tmp_path, data):
    (tmp_path / "a.epub").write_bytes(data)
    with pytest.raises(InputError, match="is no EPUB"):
        epub.read(tmp_path / "a.epub")


def test_cut_off_and_flipped_files_are_refused(tmp_path):
    whole = sample_book.pack(tmp_path / "a.epub", MEMBERS).read_bytes()
    path = tmp_path / "b.epub"
    for size in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError):
            epub.read(path)
    start = whole.index(FIRST.encode()) + len(FIRST) + 10
    path.write_bytes(whole[:start] + bytes([whole[start] ^ 255]) + whole[start + 1 :])
    with pytest.raises(InputError, match="damaged"):
        epub.read(path)


def test_many_members_are_refused_before_they_are_listed(tmp_path):
    path = tmp_path / "a.epub"
    data = sample_book.pack(path, MEMBERS).read_bytes()
    path.write_bytes(data[:-12] + (20_001).to_bytes(2, "little") + data[-10:])  # in the end of the directory
    with pytest.raises(InputError, match="too many members"):
        epub.read(path)


def test_without_the_extra_the_error_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "defusedxml", None)
    with pytest.raises(FishError, match=r"pip install 'fishcli\[books\]'"):
        epub.read(sample_book.pack(tmp_path / "a.epub", MEMBERS))


def test_chapters_share_headings_that_follow_each_other():
    blocks = [
        (*each, True) for each in [("Book", 1), ("Part", 1), ("One", 2), ("a", 0), ("Sub", 3), ("b", 0), ("Two", 2)]
    ]
    job = chapters.job([chapters.Block(*each) for each in blocks], "x", "Book")
    assert [each.title for each in job.chapters] == ["Part, One", "Two"]
    assert [line.heading for line in job.lines] == [True, True, True, False, True, False, True]
    assert [line.chapter for line in job.lines] == [0, 0, 0, 0, 0, 0, 1]
    assert Path(job.lines[0].id).name == job.lines[0].id
