"""From a request to sound: the references, the engine's stream, and the bytes of the answer."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import anyio.to_thread
import numpy as np

from fishcli import audio
from fishcli.audio.prosody import Prosody
from fishcli.errors import EngineClosed, InputError
from fishcli.request import AudioChunk, Reference, Request, Samples, TextFeed
from fishcli.server.admission import Admission
from fishcli.server.drain import Drain
from fishcli.server.metrics import Metrics, SpeechTimer
from fishcli.server.settings import ServerSettings

if TYPE_CHECKING:
    from fishcli.engine import AudioStream, Engine
    from fishcli.voices import Library

T = TypeVar("T")


@dataclass
class Service:
    """The parts that all routes share: the engine, the voices, the limits, and the places in the engine."""

    engine: Engine
    library: Library
    settings: ServerSettings
    admission: Admission
    metrics: Metrics
    drain: Drain

    def __post_init__(self) -> None:
        # A thread for each request that runs or starts, and some for short work: none may wait for another.
        self._threads = anyio.CapacityLimiter(self.admission.places + self.settings.max_live + 32)

    def unready(self) -> str:
        """Return why no request can be served; empty if they can."""
        if self.drain.started:
            return "the server is shutting down"
        return "" if self.engine.healthy else "the engine has stopped"

    async def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Run blocking work in a thread. A cancelled caller goes on at once; the work must then be ended by others."""
        return await anyio.to_thread.run_sync(partial(function, *args), limiter=self._threads, abandon_on_cancel=True)


@dataclass(frozen=True)
class Order:
    """One text to speak, as a route understood it: a request, which gets its references when it is spoken.

    `voice` is a name in the library; `recordings` were sent along.
    """

    request: Request
    sound: audio.SoundFormat
    voice: str | None = None
    recordings: tuple[tuple[bytes, str], ...] = ()  # an audio file and its transcript, each
    speed: float = 1.0
    volume: float = 0.0  # dB

    @property
    def live(self) -> bool:
        """Whether its text arrives over time."""
        return isinstance(self.request.text, TextFeed)


class Piece(NamedTuple):
    """Some bytes of the answer, and the chunk that they came from; None for what the encoder held back at the end."""

    data: bytes
    chunk: AudioChunk | None


class Utterance:
    """Speaks one order. Its methods block, and are called in worker threads; `close` may be called from anywhere."""

    def __init__(self, service: Service, order: Order) -> None:
        self.order = order
        self._service = service
        self._encoder = audio.StreamEncoder(order.sound, service.engine.sample_rate)
        self._prosody = Prosody(service.engine.sample_rate, order.speed, order.volume)
        self._closed = threading.Event()
        self._stream: AudioStream | None = None

    def start(self) -> None:
        """Encode the references, and have the engine begin. Raises FishError for what cannot be spoken."""
        request = dataclasses.replace(self.order.request, references=self._references())
        self._stream = self._service.engine.speak(request)
        if self._closed.is_set():
            self._stream.close()

    def pieces(self) -> Iterator[Piece]:
        """Yield the bytes of the answer as the engine makes them."""
        if self._stream is None:
            raise EngineClosed("The utterance was not started.")
        for chunk in self._stream:
            samples = chunk.samples
            if chunk.ended is not None:
                samples = np.concatenate([samples, self._pause])
            yield Piece(self._encoder.encode(self._prosody.process(samples)), chunk)
        yield Piece(self._encoder.encode(self._prosody.finish()) + self._encoder.finish(), None)

    @property
    def waits_for_text(self) -> bool:
        """Whether all of its text has been spoken so far, and more may come."""
        return self._stream is not None and self._stream.waits_for_text

    def close(self) -> None:
        """Cancel the work in the engine; a thread that waits for it goes on."""
        self._closed.set()
        if self._stream is not None:
            self._stream.close()

    @property
    def _pause(self) -> Samples:
        """Silence behind a chunk of a text that arrives over time: with it the encoder gives the end of the chunk.

        Else the last syllable of a sentence would be heard with the next one, which may never come.
        """
        if not self.order.live:
            return np.zeros(0, np.float32)
        encoder = self._encoder.latency * self.order.speed * self._service.engine.sample_rate
        return np.zeros(self._prosody.latency + math.ceil(encoder), np.float32)

    def _references(self) -> list[Reference]:
        service, order = self._service, self.order
        engine, library = service.engine, service.library
        saved: list[Reference] = []
        if order.voice is not None:
            voice = library.find(order.voice)
            saved = list(library.references(voice, self._encode, engine.sample_rate))
        sent = [
            Reference(self._encode(self._decoded(data, number)), said)
            for number, (data, said) in enumerate(order.recordings, 1)
        ]
        return saved + sent

    def _decoded(self, data: bytes, number: int) -> Samples:
        name, limit = f"references: recording {number}", self._service.settings.max_audio_seconds
        try:
            samples = audio.read(data, self._service.engine.sample_rate, name=name, max_seconds=limit)
        except InputError as error:
            raise InputError(str(error), field="references") from error
        if not np.any(samples):
            raise InputError(f"{name} contains only silence; send another one.", field="references")
        return samples

    def _encode(self, samples: Samples) -> Any:
        return self._service.engine.encode(samples, self._closed)


async def speak(service: Service, utterance: Utterance, timer: SpeechTimer) -> AsyncGenerator[Piece]:
    """Yield the bytes of an answer as they are made. Closing the iterator cancels the work in the engine."""
    order = utterance.order
    try:
        await service.in_thread(utterance.start)
        pieces = utterance.pieces()
        while (piece := await service.in_thread(next, pieces, None)) is not None:
            if piece.chunk is not None:
                timer.audio(len(piece.chunk.samples) / service.engine.sample_rate / order.speed)
                if piece.chunk.ended is not None and order.live:
                    timer.pause()
            yield piece
    finally:
        utterance.close()
