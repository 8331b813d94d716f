"""Fuzz the text: any bytes are chunks or one InputError, and no letter is lost, doubled or out of order.

Needs `pip install atheris hypothesis` and Python 3.11. Run it on demand, with any option of libFuzzer:
`python tests/fuzz_splitter.py -runs=1000000`
"""

import contextlib
import sys

import atheris
import regex

with atheris.instrument_imports():
    from fishcli.errors import InputError
    from fishcli.text import check, clean, decode, finished, guess_language, normalize, prepare, split

from texts import check_kept

LIMITS = (1, 7, 60, 200)


def one_input(data: bytes) -> None:
    """The first byte chooses the limit and whether numbers are read out first; the rest is the text."""
    choice = data[0] if data else 0
    with contextlib.suppress(InputError):
        text = clean(check(decode(data[1:])))
        _prepare(text, LIMITS[choice & 3])
        if choice & 4:
            text = normalize(text, "en")
            assert not any(digit in text for digit in "0123456789"), repr(text)
        _split(text, LIMITS[choice & 3])


def _prepare(text: str, limit: int) -> None:
    script = prepare(text, limit)
    check_kept(script.text, script.spans)
    for span in script.spans:
        assert clean(span.text) == finished(span.text) == span.text, repr(text)


def _split(text: str, limit: int) -> None:
    spans = split(text, limit)
    assert guess_language(text)
    check_kept(text, spans)
    for span in spans:
        assert span.text == regex.sub(r"\s+", " ", text[span.start : span.end]) == span.text.strip(), repr(text)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
