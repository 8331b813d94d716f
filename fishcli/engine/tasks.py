"""The work of the model thread for one client: speech, codes to decode, or anything that is done piece by piece."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fishcli import text
from fishcli.engine.prepared import Prepared
from fishcli.engine.sequence import Sequence
from fishcli.engine.streams import Channel, Later
from fishcli.engine.vocoder import Decode, Playback, Vocoder, piece_size
from fishcli.request import AudioChunk, Codes, Frame, Samples, Span, TextFeed

_CAPACITY = 64  # frames of a sample that the vocoder may be behind
_MAX_EARLY = 4096  # frames of a sample whose chunks are generated before their turn


class Sample:
    """One of the results of a request: its sequences are generated in parallel and put in the order of the text."""

    def __init__(self, task: SpeechTask, index: int, vocoder: Vocoder | None) -> None:
        self.task, self.index, self.vocoder = task, index, vocoder
        self.playback = Playback()
        self.sequences: list[Sequence] = []  # those whose frames are to come, in the order of the text
        self._early: dict[Sequence, list[Frame]] = {}  # frames of sequences whose turn has not come

    def take(self, sequence: Sequence, frames: list[Frame]) -> None:
        """Pass on frames, and what has waited for them."""
        self._early.setdefault(sequence, []).extend(frames)
        while self.sequences and self.sequences[0] in self._early:
            for each in self._early.pop(self.sequences[0]):
                self._pass_on(each)
            if not self.sequences[0].finished:
                break
            del self.sequences[0]

    def has_room(self, sequence: Sequence) -> bool:
        """Whether a frame of the sequence has a place: its reader is not too far behind."""
        if self.sequences[:1] != [sequence]:
            return sum(map(len, self._early.values())) < _MAX_EARLY
        waiting = self.vocoder.waiting if self.vocoder else 0
        return self.task.channel.room > 0 and waiting < _CAPACITY

    @property
    def has_piece(self) -> bool:
        """Whether a piece of audio can be decoded, and its reader has a place for it."""
        return bool(self.vocoder and self.vocoder.waiting and not self.vocoder.missing and self.task.channel.room > 0)

    def decode_piece(self, now: Callable[[], float], frame_rate: float) -> None:
        """Decode a piece of audio and deliver it. Raises RuntimeError for a sample of frames alone."""
        if self.vocoder is None:
            raise RuntimeError("A sample of frames alone has no audio.")
        frame, samples = self.vocoder.decode()
        frames = frame.codes.shape[1]
        seed = self.task.prepared.request.seed + self.index

        def complete(samples: Samples) -> AudioChunk:
            return AudioChunk(**frame._asdict(), samples=samples, seed=seed)

        self.task.channel.put(samples.then(complete) if isinstance(samples, Later) else complete(samples), frames)
        self.playback.deliver(frames / frame_rate, now())

    @property
    def finished(self) -> bool:
        """Whether nothing of the sample is left to make."""
        while self.sequences and self.sequences[0].finished and self.sequences[0] not in self._early:
            del self.sequences[0]  # its text ended after its last chunk
        return not self.sequences and not (self.vocoder and self.vocoder.waiting)

    def _pass_on(self, frame: Frame) -> None:
        if self.vocoder:
            self.vocoder.push(frame)
        else:
            self.task.channel.put(frame, frame.codes.shape[1])


class SpeechTask:
    """A request under way: its samples, and the sequences that wait for a slot. It reads a text that arrives over time.

    The thread that feeds the text calls `feed`, `flush` and `close`, which add chunks; the model thread calls the rest.
    """

    def __init__(
        self, prepared: Prepared, channel: Channel[Any], vocoders: Iterable[Vocoder | None], wake: Callable[[], None]
    ) -> None:
        self.prepared, self.channel = prepared, channel
        channel.waits_for_text = self._waits_for_text
        self.waiting: deque[Sequence] = deque()
        self.samples = [Sample(self, i, vocoder) for i, vocoder in enumerate(vocoders)]
        self._wake = wake
        self._places = 0  # sequences of each sample so far
        request = prepared.request
        self._script: text.IncrementalScript | None = None
        if prepared.script:
            self._add(prepared.script.spans, last=True)
        else:
            self._script = text.IncrementalScript(request.chunk_length, request.language, request.normalize)

    @property
    def finished(self) -> bool:
        """Whether every sample is complete."""
        return self._script is None and all(sample.finished for sample in self.samples)

    @property
    def wants_slot(self) -> bool:
        """Whether a sequence waits for a slot, has a chunk to generate, and its reader has room."""
        first = next(iter(self.waiting), None)
        return first is not None and bool(first.chunks) and self.samples[first.sample].has_room(first)

    def positions(self, sequence: Sequence) -> int:
        """Return the positions of the KV cache that a sequence needs; once it has begun, as many as it had."""
        if sequence.started:
            return sequence.columns.shape[1]
        return self.prepared.positions(() if sequence.open else tuple(sequence.chunks))

    def feed(self, piece: str, /) -> None:
        """Take a piece of a text that arrives over time. Raises InputError."""
        if self._script:
            self._add(self._script.feed(piece))

    def flush(self) -> None:
        """Take the text so far as complete."""
        if self._script:
            self._add(self._script.flush())

    def close(self) -> None:
        """Take the text as complete: nothing follows."""
        if self._script:
            try:
                self._add(self._script.close(), last=True)
            except BaseException:
                self._extend([], last=True)  # the feeder gets the error; the reader hears what came before
                raise
            finally:
                self._script = None
                self._wake()

    def release(self) -> None:
        """Detach the text and let go of decoders and tensors: the stream has ended."""
        if isinstance(feed := self.prepared.request.text, TextFeed):
            feed.detach()
        self.prepared.cached = None
        for sample in self.samples:
            sample.vocoder, sample.sequences = None, []

    def _waits_for_text(self) -> bool:
        pending = any(each.chunks for sample in self.samples for each in list(sample.sequences))
        unheard = any(sample.vocoder and sample.vocoder.waiting for sample in self.samples)
        return self._script is not None and not pending and not unheard

    def _add(self, spans: tuple[Span, ...] | list[Span], last: bool = False) -> None:
        """Give chunks to the sequences: one for each sample that reads on, or one for each chunk."""
        for span in spans:
            self.prepared.check(span)
        if self.prepared.request.iterative_prompt:
            self._extend(list(spans), last)
        else:
            for span in spans:
                self._start([span], open=False)
        if spans:
            self._wake()

    def _extend(self, spans: list[Span], last: bool) -> None:
        if not self._places:
            if spans:
                self._start(spans, open=not last)
            return
        for sample in self.samples:
            for sequence in list(sample.sequences):  # the model thread drops those that are complete
                sequence.chunks.extend(spans)
                sequence.open = not last

    def _start(self, spans: list[Span], open: bool) -> None:
        for sample in self.samples:
            sequence = Sequence(self.prepared, sample.index, self._places)
            sequence.chunks.extend(spans)
            sequence.open = open
            sample.sequences.append(sequence)
            self.waiting.append(sequence)
        self._places += 1


class PieceTask:
    """Work in pieces, between which others are served: a recording to encode, or a part of the model to load.

    `start` returns the results, one for each piece of work; it runs on the model thread as they do.
    """

    def __init__(self, start: Callable[[], Iterator[Any]], channel: Channel[Any]) -> None:
        self.channel, self.finished = channel, False
        self._start = start
        self._pieces: Iterator[Any] | None = None

    def run(self) -> None:
        """Do the next piece of work and deliver its result."""
        if self._pieces is None:
            self._pieces = self._start()
        for result in self._pieces:
            self.channel.put(result, 0)
            return
        self.finished = True

    def release(self) -> None:
        """No resources to release."""


class DecodeTask:
    """Codes on their way to audio, in pieces of the sizes that speech has."""

    def __init__(self, codes: Codes, decode: Decode, channel: Channel[Samples]) -> None:
        self.channel, self.playback = channel, Playback()
        self._codes, self._decode = codes, decode
        self._decoded = 0  # frames

    @property
    def task(self) -> DecodeTask:
        """The task of its pieces, as a sample has one."""
        return self

    @property
    def has_piece(self) -> bool:
        """Whether there is a piece to decode and its reader has a place for it."""
        return not self.finished and self.channel.room > 0

    @property
    def finished(self) -> bool:
        """Whether all codes are decoded."""
        return self._decoded == self._codes.shape[1]

    def decode_piece(self, now: Callable[[], float], frame_rate: float) -> None:
        """Decode a piece of audio and deliver it."""
        piece = self._codes[:, self._decoded : self._decoded + piece_size(self._decoded)]
        self._decoded += piece.shape[1]
        self.channel.put(self._decode(piece), piece.shape[1])
        self.playback.deliver(piece.shape[1] / frame_rate, now())

    def release(self) -> None:
        """No resources to release."""


Task = SpeechTask | PieceTask | DecodeTask
