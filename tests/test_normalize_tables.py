"""Normalisation by tables of sentences.

`normalise.tsv` came from field reports: the sentence, what is right (`||` separates alternatives), what was said then.
`normalise_more.tsv` holds siblings of those, and `normalise_held.tsv` sentences that were right already.
"""

from pathlib import Path

import pytest
import regex

from fishcli.text import needs_extra, normalize, prepare

DATA = Path(__file__).parent / "data"


def rows(name):
    return [line.split("\t") for line in (DATA / name).read_text("utf-8").splitlines()[1:]]


def words(text):
    """Return the words of a text with their capitals; marks only shape the pauses between them."""
    return regex.findall(r"[\w'’]+", text)


REMARK = regex.compile(r"\s*\((?:no|zh digits)[^()]*\)\s*")  # of the reporter, beside the right words
OPTIONAL = regex.compile(r"(?<=\w)\((\w+)\)")


def alternatives(spoken):
    """Yield a pattern of the words of each alternative; `…` stands for any, brackets within a word may be left out."""
    for each in REMARK.sub("", spoken).split(" || "):
        for variant in (OPTIONAL.sub("", each), OPTIONAL.sub(r"\1", each)):
            yield " ".join(regex.findall(r"[\w'’]+|…", variant)).replace(" … ", ".*")


@pytest.mark.parametrize(("written", "spoken"), [row[:2] for row in rows("normalise.tsv")])
def test_reported_sentences_are_right(written, spoken):
    script = prepare(written.replace("\\n", "\n"))
    if needs_extra(script.language):
        pytest.skip("the extra `normalize` is not installed")
    said = " ".join(words(" ".join(span.text for span in script.spans)))
    assert any(regex.fullmatch(each, said) for each in alternatives(spoken)), said


@pytest.mark.parametrize(("written", "spoken"), rows("normalise_more.tsv") + rows("normalise_held.tsv"))
def test_other_sentences_are_right(written, spoken):
    """Siblings of those, and sentences that were right before; what is spoken once stays as it is."""
    assert normalize(written, "en") == spoken
    assert normalize(spoken, "en") == spoken
