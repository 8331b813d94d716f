"""Speak a line of a job: its references encoded once for all lines, its sound encoded in its format."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fishcli import audio, text
from fishcli.audio import codes, ogg
from fishcli.errors import FishError, InputError
from fishcli.jobs import sources, takes
from fishcli.jobs.judge import Ears
from fishcli.jobs.line import Line, Rendered, SpokenChunk, with_voice
from fishcli.jobs.marks import Pause, Speech
from fishcli.jobs.settings import JobSettings
from fishcli.jobs.takes import Spoken
from fishcli.request import MAX_SEED, Reference, Request
from fishcli.voices import Library

if TYPE_CHECKING:
    from fishcli.engine import Engine


@dataclass(frozen=True, eq=False)
class Sound:
    """The file of a line as bytes, and the figures of its sound: `frames` of the codec, `seconds`, its chunks."""

    data: bytes
    frames: int
    seconds: float
    chunks: tuple[SpokenChunk, ...]
    seed: int


class Renderer:
    """Speaks the lines of a job with an engine. Lines are complete: see `JobSettings.complete`.

    `render` blocks, and any number of threads may call it. The samples of a line depend on the line, the settings, the
    voice and the model alone. Raises FishError where the settings want to listen and the extra is missing.
    """

    def __init__(self, engine: Engine, library: Library, settings: JobSettings) -> None:
        self._engine, self._library, self._settings = engine, library, settings
        self._references: dict[sources.Key, tuple[Reference, ...]] = {}
        self._ears = Ears() if settings.check == "listen" else None
        self._lock = threading.Lock()

    def render(self, line: Line) -> Rendered:
        """Return the sound of a line. Raises FishError if it cannot be spoken."""
        pieces, chunks, frames, seed = [], [], 0, line.sampling.seed or 0
        for number, part in enumerate(self._settings.parts(line)):
            if isinstance(part, Pause):
                spoken = self._pause(part.seconds)
            else:
                spoken = self._speak(line, part, min(seed + number, MAX_SEED))
            pieces.append(spoken.samples)
            chunks += [dataclasses.replace(chunk, start=frames + chunk.start) for chunk in spoken.chunks]
            frames += spoken.frames
        if not any(chunk.frames for chunk in chunks):
            raise FishError("no speech was generated: every chunk was empty; give the line another seed or text")
        return Rendered(np.concatenate(pieces), self._engine.sample_rate, frames, tuple(chunks), seed)

    def sound(self, line: Line) -> Sound:
        """Return the file of a line as bytes. Not in the main thread: see `StreamEncoder`. Raises FishError."""
        rendered = self.render(line)
        form = audio.SoundFormat(line.format or "wav")
        encoder = audio.StreamEncoder(form, rendered.sample_rate, live=False)
        try:
            data = encoder.whole(encoder.encode(rendered.samples) + encoder.finish())
        finally:
            encoder.close()
        if form.name in ("ogg", "opus"):
            data = ogg.repeatable(data)
        seconds = len(rendered.samples) / rendered.sample_rate
        return Sound(data, rendered.frames, seconds, rendered.chunks, rendered.seed)

    def _pause(self, seconds: float) -> Spoken:
        """Return silence, a whole number of frames."""
        frames = round(seconds * self._engine.frame_rate)
        samples = round(frames * self._engine.sample_rate / self._engine.frame_rate)
        return Spoken(np.zeros(samples, np.float32), frames, ())

    def _speak(self, line: Line, part: Speech, seed: int) -> Spoken:
        settings = self._settings
        script = text.prepare(part.text, settings.chunk_length, line.language, settings.normalize)
        request = Request(
            script,
            self.references(with_voice(line, part.voice)),
            dataclasses.replace(line.sampling, seed=seed),
            chunk_length=settings.chunk_length,
            iterative_prompt=settings.iterative_prompt,
            language=line.language,
            check="off" if settings.check == "off" else "length",
            retries=settings.retries,
        )
        return takes.spoken(self._engine, request, self._ears.judge(script.language) if self._ears else None)

    def references(self, line: Line) -> tuple[Reference, ...]:
        """Return the references of a line, encoded; those of one voice once. Raises FishError."""
        key = sources.key(line)
        with self._lock:
            if key not in self._references:
                self._references[key] = self.encode(sources.read(line, self._library))
            return self._references[key]

    def encode(self, found: Iterable[sources.Source]) -> tuple[Reference, ...]:
        """Return recordings, or codes files, as references. Raises InputError."""
        return tuple(map(self._reference, found))

    def learn(self, key: sources.Key, references: tuple[Reference, ...]) -> None:
        """Take the references of a voice that were encoded elsewhere."""
        with self._lock:
            self._references[key] = references

    def _reference(self, source: sources.Source) -> Reference:
        engine = self._engine
        if source.path is not None and codes.is_codes_file(source.path):
            layout = engine.codec_settings
            found = codes.read(
                source.path, codebooks=layout.codebooks, size=layout.codes, codec=lambda: engine.codec_id
            )
            return Reference(found, source.text)
        samples = audio.read(source.data, engine.sample_rate, name=source.name)
        if not np.any(samples):
            raise InputError(f"{source.name} contains only silence; use another file.", field="references")
        return Reference(engine.encode(samples), source.text)
