"""Make a recording fit to be a voice: check it, trim it, and find its transcript."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fishcli import audio
from fishcli.audio import condition
from fishcli.audio.condition import Condition
from fishcli.cli import console, inputs
from fishcli.cli.pipes import is_stream, readable
from fishcli.errors import InputError, SettingError
from fishcli.files import open_regular
from fishcli.request import Samples

RATE = 44_100  # Hz, of Fish Speech 1.5
_ORIGINS = {"typed": "", "beside": "the text beside it", "heard": "heard by a recogniser of English; check it"}


class Checked(NamedTuple):
    """A recording as it is added: the bytes of its file, its transcript and where that is from, and its condition."""

    name: str
    data: bytes
    text: str
    origin: str  # of the text: typed, beside, heard; "" where there is none
    condition: Condition

    def report(self) -> None:
        """Say how the recording is, and what is wrong with it."""
        had = self.condition
        trimmed = f", {had.trimmed:.1f} s of silence cut off" if had.trimmed >= 0.05 else ""
        console.note(f"{self.name}: {described(had)}{trimmed}")
        for each in condition.complaints(had):
            console.warn(f"{self.name} {each}.")
        if not self.text:
            remedy = "pass --text" if _hears() else "pass --text, or run `pip install 'fishcli[listen]'`"
            console.warn(f"{self.name} has no transcript, which makes the voice less similar; {remedy}.")
        elif _ORIGINS[self.origin]:
            console.note(f'{self.name}: "{self.text}" ({_ORIGINS[self.origin]})')

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of the recording for --json."""
        measured = {key: _rounded(value) for key, value in self.condition._asdict().items()}
        said = {"text": self.text, "text_from": self.origin or None}
        return {"input": self.name, **measured, **said, "warnings": condition.complaints(self.condition)}


def described(had: Condition) -> str:
    """Return the length, level and pitch of a recording in words."""
    pitch = f", pitch {had.pitch:.0f} Hz" if had.pitch else ""
    return f"{had.seconds:.1f} s, {had.level:.0f} dBFS, background {had.level - had.noise:.0f} dBFS{pitch}"


def checked(paths: Sequence[Path], texts: Sequence[str], language: str | None, trim: bool = True) -> list[Checked]:
    """Return recordings ready to be added. Raises SettingError or InputError for one that cannot be."""
    if texts and len(texts) != len(paths):
        raise SettingError(f"Give one --text for each AUDIO, not {len(texts)} for {len(paths)}.")
    return [_checked(path, said, language, trim) for path, said in zip(paths, texts or [""] * len(paths), strict=True)]


def _checked(path: Path, typed: str, language: str | None, trim: bool) -> Checked:
    with readable(path, audio.MAX_BYTES) as source, open_regular(source.path) as file:
        name, data = source.name, file.read(audio.MAX_BYTES + 1)
    samples = audio.read(data, RATE, name=name)
    if not samples.any():
        raise InputError(f"{name} contains only silence; use another file.")
    text, origin = _transcript(path, typed, samples, language)
    kept = wav(condition.prepared(samples, RATE)) if trim else data
    return Checked(name, kept, text, origin, condition.measure(samples, RATE))


def wav(samples: Samples) -> bytes:
    """Return samples (N,) at `RATE` as a WAV file."""
    encoder = audio.StreamEncoder(audio.SoundFormat("wav"), RATE)
    return encoder.whole(encoder.encode(samples) + encoder.finish())


def _transcript(path: Path, typed: str, samples: Samples, language: str | None) -> tuple[str, str]:
    """Return the transcript of a recording, and where it is from."""
    if typed.strip():
        return typed.strip(), "typed"
    if not is_stream(path) and (said := inputs.beside(path)):
        return said, "beside"
    if _hears() and (language or "en").lower().startswith("en"):
        from fishcli.audio import recogniser

        with console.status(f"Listening to {path.name}"):
            heard = recogniser.understood(samples, RATE)
        return heard, "heard" if heard else ""
    return "", ""


def _hears() -> bool:
    from fishcli.audio import recogniser

    return recogniser.is_installed()


def _rounded(value: object) -> object:
    if isinstance(value, tuple):
        return [round(each, 1) for each in value]
    return round(value, 4) if isinstance(value, float) else value
