"""The parameters that all lines of a job share."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal, get_args

from fishcli.errors import SettingError
from fishcli.jobs import marks
from fishcli.jobs.lexicon import Lexicon
from fishcli.jobs.line import Line, seed_of
from fishcli.request import CHUNK_LENGTHS, MAX_RETRIES, MAX_SEED, RETRIES, SamplingParams

Check = Literal["length", "listen", "off"]

FORMATS = ("wav", "flac", "mp3", "ogg", "opus")


@dataclass(frozen=True)
class JobSettings:
    """How the lines of a job are spoken. What a line says itself goes before it.

    `seed` and the id of a line give the line's seed. `voice`, or `ref` and `ref_text`, is the voice of lines that name
    none. A chunk that does not pass `check` is generated again up to `retries` times. Words of `lexicon` are respelled.
    `check` "listen" needs the extra of that name.
    `max_new_tokens` holds for all lines. Raises SettingError.
    """

    seed: int = 0
    format: str = "wav"
    voice: str | None = None
    ref: tuple[str, ...] = ()
    ref_text: tuple[str, ...] = ()
    language: str | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    chunk_length: int = 200
    iterative_prompt: bool = True
    normalize: bool = True
    check: Check = "length"
    retries: int = RETRIES
    lexicon: Lexicon | None = None

    def __post_init__(self) -> None:
        _check_range("seed", self.seed, 0, MAX_SEED)
        _check_range("chunk_length", self.chunk_length, *CHUNK_LENGTHS)
        _check_range("retries", self.retries, 0, MAX_RETRIES)
        if self.format not in FORMATS:
            raise SettingError(f"There is no format {self.format}; use one of {', '.join(FORMATS)}.", field="format")
        if self.check not in get_args(Check):
            raise SettingError(f"check must be {', '.join(get_args(Check))}, not {self.check!r:.40}.", field="check")

    def complete(self, line: Line) -> Line:
        """Return a line with all that it does not say itself, its seed included."""
        seed = seed_of(self.seed, line.id) if line.sampling.seed is None else line.sampling.seed
        sampling = line.sampling.over(self.sampling)
        sampling = dataclasses.replace(sampling, seed=seed, max_new_tokens=self.sampling.max_new_tokens)
        own = line.voice is not None or line.ref
        return dataclasses.replace(
            line,
            voice=line.voice if own else self.voice,
            ref=line.ref if own else self.ref,
            ref_text=line.ref_text if own else self.ref_text,
            language=line.language or self.language,
            format=line.format or self.format,
            sampling=sampling,
        )

    def parts(self, line: Line) -> list[marks.Speech | marks.Pause]:
        """Return the parts of a line between its marks, with the words of the lexicon respelled. Raises InputError."""
        return [self._respelled(part, line.language) for part in marks.parse(line.text)]

    def _respelled(self, part: marks.Speech | marks.Pause, language: str | None) -> marks.Speech | marks.Pause:
        if self.lexicon is None or isinstance(part, marks.Pause):
            return part
        return part._replace(text=self.lexicon.apply(part.text, language))


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise SettingError(f"{name} must be a whole number from {low} to {high}, not {value!r:.40}.", field=name)
