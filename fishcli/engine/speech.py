"""How a request becomes frames of codes, and these become sound. The Engine gives them what they run on."""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import numpy as np

from fishcli.engine.batch import Batch
from fishcli.lm.prompt import Columns, PromptBuilder
from fishcli.request import AudioChunk, Codes, Frame, Request, Samples, Span
from fishcli.text import spoken

log = logging.getLogger(__name__)

# Frames decoded at once. On a CPU, one alone takes twice as long as one of four does; a hundred milliseconds of waiting
# for the first sound then buy a tenth of the time of all others.
FIRST_PUSH, LONGEST_PUSH = 4, 32
_RESERVE = 1024  # frames kept free for a chunk that may last as long as the context holds
_ROWS = 8  # spoken side by side; on a CPU more of them are not faster


def speeches(request: Request, prompts: PromptBuilder) -> list[Speech]:
    """What has to be spoken for a request, in the order in which it is begun. Raises InputError for what cannot be.

    A sample whose chunks do not see each other is as many speeches as it has chunks.
    """
    spans = spoken(request.text, request.chunk_length, request.language)
    reserve = min(request.sampling.max_new_tokens or _RESERVE, prompts.max_seq_len // 2)
    prefix = prompts.prefix(request.references)
    for span in spans:  # what cannot be asked fails here, before anything was spoken
        prompts.build(span.text, prefix, (), reserve)
    parts = [spans] if request.iterative_prompt else [[span] for span in spans]
    samples = range(request.num_samples)
    return [
        Speech(i, place, part, request, prompts, prefix, reserve) for place, part in enumerate(parts) for i in samples
    ]


def frames(batch: Batch, wanted: Sequence[Speech]) -> Iterator[Frame]:
    """Speak them, a few side by side; the frames of each sample come in the order of its text."""
    turns: dict[int, deque[Speech]] = defaultdict(deque)
    for speech in wanted:
        turns[speech.sample].append(speech)
    early: dict[Speech, list[Frame]] = defaultdict(list)  # those of a chunk whose turn has not come
    for speech, frame in _side_by_side(batch, wanted):
        early[speech].append(frame)
        turn = turns[speech.sample]
        while turn and turn[0] in early:
            yield from early.pop(turn[0])
            if not turn[0].done:
                break
            turn.popleft()


def _side_by_side(batch: Batch, wanted: Sequence[Speech]) -> Iterator[tuple[Speech, Frame]]:
    waiting = deque(wanted)
    speaking = {}
    while waiting or batch.rows:
        while waiting and len(batch.rows) < _ROWS:
            speech = waiting.popleft()
            row = batch.join(speech.sampling, speech.seed)
            speaking[row] = speech
            batch.ask(row, speech.prompt(), speech.opening)
        for row, codes in batch.step():
            speech = speaking[row]
            yield speech, speech.take(codes.astype(np.int16), row.ended)
            if row.ended is not None and speech.done:
                batch.leave(row)
            elif row.ended is not None:
                batch.ask(row, speech.prompt(), speech.opening)


def sound(
    events: Iterable[Frame], decoders: Sequence[Callable[[Codes], Samples]], request: Request, frame_rate: float
) -> Generator[AudioChunk]:
    """Frames as sound, piece by piece, by a decoder for each sample. A piece never spans two chunks of the text."""
    schedules = [Schedule(frame_rate) for _ in decoders]
    waiting: list[list[Codes]] = [[] for _ in decoders]
    for sample, span, codes, ended in events:
        waiting[sample].append(codes)
        if ended is None and len(waiting[sample]) < schedules[sample].size:
            continue
        piece = np.concatenate(waiting[sample], axis=1)
        waiting[sample] = []
        samples = decoders[sample](piece)
        schedules[sample].sent(piece.shape[1])
        yield AudioChunk(sample, span, piece, ended, samples, request.seed + sample)


class Schedule:
    """How many frames make the next piece of sound: few at first, and twice as many whenever that leaves no gap.

    Large pieces are decoded faster, but whoever listens must not run out of sound while one is made. Where frames
    come slower than they are played, there are gaps anyhow, and fewer of them with large pieces.
    """

    def __init__(self, frame_rate: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self.size = FIRST_PUSH
        self._frame_rate, self._clock = frame_rate, clock
        self._frames = 0  # sent so far
        self._first: tuple[float, int] | None = None  # when the first piece was sent, and its frames

    def sent(self, frames: int) -> None:
        """Note that a piece was handed over just now."""
        now = self._clock()
        self._frames += frames
        if self._first is None:
            self._first = now, frames
            return
        started, first = self._first
        pace = (now - started) / max(1, self._frames - first)  # seconds to make a frame
        ahead = self._frames / self._frame_rate - (now - started)  # seconds of sound that wait to be played
        larger = min(2 * self.size, LONGEST_PUSH)
        if pace * self._frame_rate > 1 or larger * pace < ahead:
            self.size = larger


class Speech:
    """One sample, or a chunk of one, on its way through its text."""

    def __init__(
        self,
        sample: int,
        place: int,
        spans: Sequence[Span],
        request: Request,
        prompts: PromptBuilder,
        prefix: Columns,
        reserve: int,
    ) -> None:
        self.sample = sample
        self.sampling = request.sampling
        self.seed = _seed(request.seed + sample, place)
        self.opening = prefix.shape[1] if request.references else 0
        self._left = list(spans)
        self._request = request
        self._prompts, self._prefix, self._reserve = prompts, prefix, reserve
        self._codes: list[Codes] = []  # of the chunk that is being spoken
        self._spoken: list[Columns] = []  # the turns of earlier chunks

    @property
    def done(self) -> bool:
        return not self._left

    def prompt(self) -> Columns:
        """What asks for the next chunk."""
        text = self._left[0].text
        if self._request.iterative_prompt:
            self._spoken = self._prompts.fit(text, self._prefix, self._spoken, self._reserve)
        else:
            self._spoken = []
        prompt = self._prompts.build(text, self._prefix, self._spoken, self._reserve)
        log.debug("sample %d: %r after a prompt of %d positions", self.sample, text, prompt.shape[1])
        return prompt

    def take(self, codes: Codes, ended: bool | None) -> Frame:
        """Note what was spoken of the current chunk; after its end the next one is current."""
        span = self._left[0]
        self._codes.append(codes)
        if ended is not None:
            chunk = np.concatenate(self._codes, axis=1)
            if chunk.shape[1]:
                self._spoken.append(self._prompts.turn(span.text, chunk))
            self._left, self._codes = self._left[1:], []
        return Frame(self.sample, span, codes, ended)


def _seed(seed: int, place: int) -> int:
    """The seed of the place-th of the parts that a sample is spoken in; of the first, the sample's own."""
    return seed if place == 0 else int(np.random.SeedSequence((seed, place)).generate_state(1, np.uint64)[0])
