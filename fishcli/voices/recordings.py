"""Check the recordings of a new voice, and name their files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fishcli.errors import InputError, SettingError
from fishcli.voices.voice import MAX_RECORDINGS, check_transcript

if TYPE_CHECKING:
    from fishcli.request import Samples

MAX_BYTES = 2**26  # of a recording
MAX_SECONDS = 300.0  # as in `fishcli.audio`, which imports numpy
_CHECKED_AT = 8_000  # Hz, at which checking is cheap

_SUFFIXES = {b"fLaC": ".flac", b"OggS": ".ogg", b"FORM": ".aiff", b"RIFF": ".wav", b"RF64": ".wav"}
_CONTAINERS = {"mov": ".m4a", "matroska": ".mka", "asf": ".wma"}  # others have the name of their demuxer


def files_of(recordings: Sequence[bytes], texts: Sequence[str], max_seconds: float) -> dict[str, bytes]:
    """Return the files of recordings and their transcripts, by name. Raises SettingError or InputError."""
    if not 1 <= len(recordings) <= MAX_RECORDINGS:
        raise SettingError(f"A voice has 1 to {MAX_RECORDINGS} recordings, not {len(recordings)}.")
    if texts and len(texts) != len(recordings):
        raise SettingError(
            f"There are {len(texts)} transcripts for {len(recordings)} recordings; give one for each, or none."
        )
    found = {}
    for number, data in enumerate(recordings):
        decoded(data, f"Recording {number + 1}", _CHECKED_AT, max_seconds)
        found[f"{number:02}{suffix_of(data)}"] = data
        if texts and (text := check_transcript(texts[number])):
            found[f"{number:02}.lab"] = text.encode()
    return found


def decoded(data: bytes, name: str, rate: int, max_seconds: float = MAX_SECONDS) -> Samples:
    """Return the samples (n,) of an audio file at `rate` Hz. Raises InputError, for silence too."""
    from fishcli import audio

    samples = audio.read(data, rate, name=name, max_seconds=max_seconds, max_bytes=MAX_BYTES)
    if not samples.any():
        raise InputError(f"{name} contains only silence; use another file.")
    return samples


def suffix_of(data: bytes) -> str:
    """Return the suffix for audio that `decoded` takes."""
    from fishcli.audio import ffmpeg

    if (kind := ffmpeg.kind_of(data[:12])) is not None:
        return _CONTAINERS.get(kind.demuxer, f".{kind.demuxer}")
    return _SUFFIXES.get(data[:4], ".mp3")
