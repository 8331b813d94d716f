"""Speak through a server in place of an engine: the same chunks of audio, without loading a model."""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from fishcli.checkpoints import local
from fishcli.cli import console, inputs, keys
from fishcli.cli.pipes import is_stream
from fishcli.client import discovery
from fishcli.client.request import Recording, SpeechRequest
from fishcli.errors import FishError, NetworkError, SettingError
from fishcli.jobs import takes
from fishcli.request import AudioChunk, Codes, Fault, Request, SamplingParams, Script, Span

if TYPE_CHECKING:
    from fishcli.cli.options import ModelOptions, ServerOptions, SpeakingOptions, TextOptions, VoiceOptions
    from fishcli.client.http import Answer, FishClient
    from fishcli.engine import AudioStream, Engine
    from fishcli.jobs.judge import Judge
    from fishcli.jobs.takes import TakeStream

log = logging.getLogger(__name__)

_SAMPLE_RATE, _FRAME_RATE = 44_100, 44_100 / 2048  # Hz, of Fish Speech 1.5
_STRANGE = "The server sent an event that is not understood."
_FAULTS = (None, *get_args(Fault))


@dataclass(frozen=True)
class Order:
    """All that `fish say` is to speak. `source` is the text as given, `typed` the options of the model as typed."""

    source: str
    script: Script
    text: TextOptions
    speech: SpeakingOptions
    voice: VoiceOptions
    model: ModelOptions
    where: ServerOptions
    streamed: bool
    typed: list[str]
    judge: Judge | None = None

    def start(self) -> tuple[Engine | Speaker, Request, AudioStream | SpokenStream | TakeStream]:
        """Return an engine, or a server in its place, the request, and its audio. A local server that fails is left."""
        sources = inputs.sources(self.voice, self.voice.voice)
        try:
            if speaker := self._speaker():
                return speaker, *self._ask(speaker, sources)
        except FishError as error:
            if self.where.server:
                raise
            log.debug("The local server does not speak; this command runs the model itself: %s", error)
        engine = self.model.load()
        references = inputs.references(engine, sources)
        request = self.speech.request(engine, self.script, references, self.streamed and self.judge is None)
        with console.status("Loading the model"):
            return engine, request, takes.speak(engine, request, self.judge)

    def _speaker(self) -> Speaker | None:
        """Return the server to ask: the one that was named, or a local one with the same model; None: no server."""
        if self.where.no_server:
            return None
        reason = self._why_not()
        if self.where.server:
            if reason:
                raise SettingError(f"{reason}; leave out --server.")
            return Speaker.at(self.where.server, keys.api_key(self.where.api_key_file))
        found = discovery.find(self.model.identity()) if discovery.running() else None
        if found is None:
            return None
        if reason:
            log.debug("%s: this command runs the model itself", reason)
            return None
        log.debug("a local server speaks: process %d, port %d", found.pid, found.port)
        speaker = Speaker.of(found, local.find(self.model.checkpoint_path, needed=()))
        self.model.say_which(speaker.model.built_in)
        return speaker

    def _why_not(self) -> str | None:
        """Return why no server can do it."""
        if self.judge is not None:
            return "A server does not listen to its speech"
        if self.speech.num_samples > 1:
            return "A server makes one sample at a time"
        if any(path.suffix == ".npy" or is_stream(path) for path in self.voice.ref or []):
            return "A server takes recordings that are files, no codes"
        own = self.typed if self.where.server else [name for name in self.typed if name in ("--device", "--threads")]
        return f"{own[0]} is about a model in this command" if own else None

    def _ask(self, speaker: Speaker, sources: Sequence[inputs.Source]) -> tuple[Request, SpokenStream]:
        request = self.speech.request(speaker, self.script, (), self.streamed)
        try:
            recordings = inputs.recordings(sources)
            with console.status("Waiting for the server"):
                return request, speaker.speak(request, self.source, self.text.normalize, recordings)
        except BaseException:
            speaker.close()
            raise


class Speaker:
    """A server in the place of an engine. `model` is the model that it serves, as far as that is known."""

    sampling = SamplingParams()  # the server knows the defaults of its model

    def __init__(self, client: FishClient, model: local.Found, headers: Mapping[str, str]) -> None:
        self.model = model
        self._client = client
        self._own_rate = _rate(headers)
        self.sample_rate = self._own_rate or _SAMPLE_RATE
        self.frame_rate = _FRAME_RATE  # until the first chunk tells

    @classmethod
    def at(cls, url: str, key: str | None) -> Speaker:
        """Return the server at an address. Raises SettingError or NetworkError."""
        from fishcli.client.http import FishClient

        try:
            client = FishClient(url, key)
        except SettingError as error:
            raise SettingError(f"--server {url}: {error}") from error
        with contextlib.ExitStack() as stack:
            stack.enter_context(client)
            speaker = cls(client, local.Found(Path(), client.url), client.health())
            stack.pop_all()
        return speaker

    @classmethod
    def of(cls, found: discovery.LocalServer, model: local.Found) -> Speaker:
        """Return a local server once it has proven that it is the one that was found. Raises NetworkError."""
        from fishcli.client.http import FishClient

        with contextlib.ExitStack() as stack:
            client = stack.enter_context(FishClient(found.url, found.key, retries=0))
            speaker = cls(client, model, client.prove(found.key))
            stack.pop_all()
        return speaker

    def speak(self, request: Request, source: str, normalize: bool, recordings: tuple[Recording, ...]) -> SpokenStream:
        """Return the audio of a request as the server makes it."""
        sampling, began = request.sampling, time.perf_counter()
        answer = self._client.speak(
            SpeechRequest(
                source,
                format="pcm",
                references=recordings,
                sample_rate=self._own_rate,
                chunk_length=request.chunk_length,
                normalize=normalize,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                repetition_penalty=sampling.repetition_penalty,
                max_new_tokens=sampling.max_new_tokens,
                seed=sampling.seed,
                language=request.language,
                subtype="FLOAT",
                retries=request.retries,
                check=request.check,
                iterative_prompt=request.iterative_prompt,
                stream_format="sse",
            )
        )
        self.sample_rate = _rate(answer.headers) or self.sample_rate
        return SpokenStream(self._client, answer, self, request, began)

    def close(self) -> None:
        """End the connection."""
        self._client.close()


class SpokenStream(Iterator[AudioChunk]):
    """The audio of a request from a server, in the pieces in which its engine made it. Closing it cancels."""

    def __init__(self, client: FishClient, answer: Answer, speaker: Speaker, request: Request, began: float) -> None:
        from fishcli.client.events import events

        self.script = request.text if isinstance(request.text, Script) else None
        self.seed = request.seed
        self.steps = 0  # frames that have come
        self.began = began  # by `time.perf_counter`
        self.first_step: float | None = None
        self._client, self._answer, self._events = client, answer, events(answer)
        self._speaker = speaker

    def __next__(self) -> AudioChunk:
        for event in self._events:
            if event.get("type") == "speech.audio.done":
                raise StopIteration
            if event.get("type") == "speech.audio.delta":
                return self._chunk(event)
        raise NetworkError("The server stopped before the end of the speech.")

    def _chunk(self, event: Mapping[str, Any]) -> AudioChunk:
        samples, codes = _samples(event.get("audio")), _codes(event.get("codes", [[]]))
        words, ended, fault = event.get("text", ""), event.get("ended"), event.get("fault")
        attempts = event.get("attempts", 1)
        if not (isinstance(words, str) and ended in (None, True, False) and fault in _FAULTS and type(attempts) is int):
            raise NetworkError(_STRANGE)
        if frames := codes.shape[1]:
            self.first_step = self.first_step or time.perf_counter()
            self._speaker.frame_rate = self._speaker.sample_rate * frames / max(1, len(samples))
        self.steps += frames
        return AudioChunk(0, Span(words, 0, len(words)), codes, ended, samples, self.seed, fault, attempts)

    def close(self) -> None:
        """Read no further; the server ends its work."""
        self._answer.close()
        self._client.close()

    def __enter__(self) -> SpokenStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _samples(audio: object) -> np.ndarray:
    """Return the samples (n,) of an event. Raises NetworkError where they are none."""
    try:
        samples = np.frombuffer(base64.b64decode(audio, validate=True), "<f4")  # type: ignore[arg-type]
    except (TypeError, ValueError, binascii.Error) as error:
        raise NetworkError(_STRANGE) from error
    if not np.isfinite(samples).all():
        raise NetworkError(_STRANGE)
    return samples.astype(np.float32)


def _codes(lists: object) -> Codes:
    """Return the codes (K, T) of an event; K is 0 where it has none."""
    try:
        codes = np.asarray(lists, dtype=np.int16)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise NetworkError(_STRANGE) from error
    if codes.ndim != 2:
        raise NetworkError(_STRANGE)
    return codes


def _rate(headers: Mapping[str, str]) -> int | None:
    """Return the sample rate (Hz) in the headers of an answer, if they have one."""
    given = headers.get("X-Sample-Rate", "")
    return int(given) if given.isascii() and given.isdigit() and 4 <= len(given) <= 6 else None
