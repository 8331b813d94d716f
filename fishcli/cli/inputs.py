"""Read the inputs of a command: text and recordings. `-` is stdin."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fishcli import audio, text
from fishcli.cli import console
from fishcli.errors import InputError, SettingError
from fishcli.files import open_regular

if TYPE_CHECKING:
    from fishcli.cli.options import SpeakingOptions, TextOptions, VoiceOptions
    from fishcli.engine import Engine
    from fishcli.request import Codes, Reference, Script

_MAX_TEXT = 4 * text.MAX_CHARACTERS  # bytes; a character has at most four


def script(given: TextOptions, speaking: SpeakingOptions) -> Script:
    """Return the text to speak, normalized and cut into chunks. Raises SettingError unless there is one source."""
    source = _source(given.text, given.file)
    prepared = text.prepare(source, speaking.chunk_length, speaking.language, given.normalize)
    language = prepared.language
    if given.normalize and any(map(str.isdigit, source)) and not text.can_normalize(language):
        remedy = "run `pip install 'fishcli[normalize]'`" if text.needs_extra(language) else "write them as words"
        console.warn(f"Numbers in {language!r} are not normalized; {remedy}, or pass --no-normalize.")
    return prepared


def _source(argument: str | None, file: Path | None) -> str:
    if argument is not None and file is not None:
        raise SettingError("TEXT and --file are both given; pass one of them.")
    if file is not None:
        return _read_text(file)
    if argument is None:
        piped = "" if sys.stdin is None or sys.stdin.isatty() else _read_text(Path("-"))
        if not piped.strip():
            raise SettingError("There is no text to speak; pass TEXT in quotes, --file FILE, or pipe a text in.")
        return piped
    if argument != "-":
        return _utf8(argument)
    if sys.stdin is not None and sys.stdin.isatty():
        console.note(f"Type the text; end with {'Ctrl-Z and Enter' if os.name == 'nt' else 'Ctrl-D'}.")
    return _read_text(Path("-"))


def _utf8(argument: str) -> str:
    """Return a text of the command line, which Python leaves undecoded where the locale is not UTF-8."""
    try:
        undecoded = os.fsencode(argument) if any("\ud800" <= letter <= "\udfff" for letter in argument) else None
    except UnicodeEncodeError:  # no bytes: the surrogates were given as such
        return argument
    return argument if undecoded is None else text.decode(undecoded)


def _read_text(path: Path) -> str:
    with readable(path, _MAX_TEXT) as file, open_regular(file) as stream:
        data = stream.read(_MAX_TEXT + 1)
    if len(data) > _MAX_TEXT:
        raise InputError(f"{path} has more than {text.MAX_CHARACTERS:,} characters; split it.")
    try:
        return text.decode(data)
    except InputError as error:
        raise InputError(f"{path}: {error}", field=error.field) from error


@contextlib.contextmanager
def readable(path: Path, limit: int = audio.MAX_BYTES) -> Iterator[Path]:
    """Yield a file to read: `path`, or for `-` a copy of stdin, of at most `limit` + 1 bytes."""
    if str(path) != "-":
        yield path
        return
    if sys.stdin is None:
        raise InputError("There is no stdin; pass a file.")
    with tempfile.TemporaryDirectory() as folder:
        spooled = Path(folder) / "stdin"
        spooled.write_bytes(sys.stdin.buffer.read(limit + 1))
        yield spooled


def references(engine: Engine, given: VoiceOptions) -> list[Reference]:
    """Return the references, each with its transcript."""
    from fishcli.request import Reference

    paths = given.ref or []
    for path in paths:
        if str(path) != "-":
            open_regular(path).close()  # a missing file is an error before its transcript is a warning
    spoken = [_utf8(said) for said in given.ref_text or []] or [_transcript(path) for path in paths]
    return [Reference(_codes(engine, path), said) for path, said in zip(paths, spoken, strict=True)]


def _codes(engine: Engine, path: Path) -> Codes:
    from fishcli.audio import codes

    if path.suffix == ".npy":
        return codes.read(path, codebooks=engine.codec_settings.codebooks, size=engine.codec_settings.codes)
    return encoded(engine, path)


def encoded(engine: Engine, path: Path) -> Codes:
    """Return the codes of a recording."""
    with console.status(f"Encoding {path.name}"), readable(path) as file:
        samples = audio.read(file, engine.sample_rate)
        if not np.any(samples):
            raise InputError(f"{path} contains only silence; use another file.")
        return engine.encode(samples)


def _transcript(path: Path) -> str:
    """Return the text of the .lab or .txt file beside a recording; empty, with a warning, if there is none."""
    for beside in (path.with_suffix(".lab"), path.with_suffix(".txt")):
        if beside.is_file() and (said := _read_text(beside).strip()):
            return said
    console.warn(f"{path} has no transcript, which makes the voice less similar; pass --ref-text.")
    return ""


def check_language(engine: Engine, language: str) -> None:
    """Warn if the built-in voice gets a text that is not English."""
    if engine.model.built_in and not language.lower().startswith("en"):
        console.warn("The built-in voice speaks English only; `fish download` gets a multilingual model.")
