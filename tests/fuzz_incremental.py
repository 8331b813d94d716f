"""Fuzz text that arrives over time: its chunks are the same however it is cut, and no letter is lost.

Needs `pip install atheris hypothesis` and Python 3.11. Run it on demand, with any option of libFuzzer:
`python tests/fuzz_incremental.py -runs=1000000`
"""

import contextlib
import random
import sys

import atheris

with atheris.instrument_imports():
    from fishcli.errors import InputError
    from fishcli.text import IncrementalScript, decode

from texts import check_kept

CHUNK_LENGTHS = (1, 7, 60, 200)


def one_input(data: bytes) -> None:
    """The first byte chooses the chunk length and normalisation, the second the cuts and flushes; the rest is text."""
    if len(data) < 3:
        return
    with contextlib.suppress(InputError):
        text = decode(data[2:])
        chance = random.Random(data[1])
        flushes = {chance.randint(0, len(text)) for _ in range(data[1] % 3)}
        cuts = {chance.randint(0, len(text)) for _ in range(chance.randint(0, 10))}
        options = CHUNK_LENGTHS[data[0] & 3], None, bool(data[0] & 4)
        whole = _spans(text, set(), flushes, options)
        assert _spans(text, cuts, flushes, options) == whole, repr((text, cuts, flushes, options))
        assert _spans(text, set(range(len(text))), flushes, options) == whole, repr((text, flushes, options))
        if not data[0] & 4:
            check_kept(text, whole)


def _spans(text: str, cuts: set[int], flushes: set[int], options: tuple[int, None, bool]) -> list:
    script, spans, last = IncrementalScript(*options), [], 0
    for place in sorted(cuts | flushes | {len(text)}):
        spans += script.feed(text[last:place])
        last = place
        if place in flushes:
            spans += script.flush()
    return spans + script.close()


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
