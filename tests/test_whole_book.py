"""A book from its text to its chapters, with `fish batch`: each paragraph once, in order, and all times right."""

import book_checks
import pytest
import sample_book


@pytest.mark.parametrize(
    ("paragraphs", "kind"),
    [(6, "epub"), pytest.param(320, "md", marks=pytest.mark.slow)],
)
def test_a_book(fish, micro, tmp_path, paragraphs, kind):
    book = sample_book.chapters(paragraphs, 3 if paragraphs < 10 else 16)
    path = tmp_path / f"book.{kind}"
    if kind == "md":
        path.write_text(sample_book.markdown(book), encoding="utf-8")
    else:
        sample_book.pack(path, sample_book.epub_members(book))
    model = ("--checkpoint-path", micro, "--max-new-tokens", 16, "--check", "off")
    result = fish("batch", path, "-o", tmp_path / "out", *model, "--subtitles", "json")
    assert result.code == 0, result.err
    book_checks.check(path, tmp_path / "out", book)
