"""The takes of a text: each chunk spoken, judged, spoken again where it came out wrong, and the best take kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fishcli.jobs.judge import Judge
from fishcli.jobs.line import SpokenChunk
from fishcli.request import Request, Samples

if TYPE_CHECKING:
    from fishcli.engine import Engine


class Spoken(NamedTuple):
    """The sound of a text: samples (N,), its codec frames in all, and its chunks in order."""

    samples: Samples
    frames: int
    chunks: tuple[SpokenChunk, ...]


def spoken(engine: Engine, request: Request, judge: Judge | None = None) -> Spoken:
    """Speak the text of a request, one sample of it, and return its sound once it is complete.

    The engine checks each chunk as the request says (`check`, `retries`); without a judge, silent and clipped chunks are
    marked, unless `check` is "off". A judge listens to each chunk, which is spoken again where it is suspect: at most
    `retries` times in all, each time with another seed. Raises as `Engine.speak` does.
    """
    raise NotImplementedError
