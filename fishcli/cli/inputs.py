"""What a command is given: text and references, checked before any work starts."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fishcli import audio, text
from fishcli.cli import console
from fishcli.errors import SettingError
from fishcli.files import open_regular
from fishcli.normalize import NEEDS_EXTRA, can_normalize, normalize

if TYPE_CHECKING:
    from fishcli.cli.options import TextOptions
    from fishcli.engine import Codes, Engine
    from fishcli.lm.prompt import Voice


def words(given: TextOptions, language: str | None) -> str:
    """The text to speak, numbers and the like written out. Raises SettingError unless there is just one source."""
    spoken = text.check(_source(given.text, given.file))
    if not given.normalize:
        return spoken
    language = language or text.guess_language(spoken)
    if language in NEEDS_EXTRA and not can_normalize(language) and any(map(str.isdigit, spoken)):
        console.warn("Numbers are not read as words: run `pip install 'fishcli[normalize]'`, or give --no-normalize.")
    return normalize(spoken, language)


def _source(argument: str | None, file: Path | None) -> str:
    if argument is not None and file is not None:
        raise SettingError("TEXT and --file are both given; give one of them.")
    if argument == "-" or str(file) == "-":
        return text.decode(sys.stdin.buffer.read())
    if file is not None:
        return text.decode(_bytes(file))
    if argument is None:
        raise SettingError("There is no text to speak; give TEXT, --file FILE, or - for stdin.")
    return argument


def _bytes(file: Path) -> bytes:
    with open_regular(file) as stream:
        return stream.read()


def references(engine: Engine, paths: Sequence[Path], texts: Sequence[str], option: str) -> list[Voice]:
    """The voices to speak like: each a recording or the codes of one, with the words that are said in it.

    `option` is the one that `texts` come from.
    """
    from fishcli.lm.prompt import Voice

    if texts and len(texts) != len(paths):
        raise SettingError(f"There are {len(texts)} reference texts for {len(paths)} references; give one for each.")
    spoken = texts or [_transcript(path, option) for path in paths]
    return [Voice(_codes(engine, path), said) for path, said in zip(paths, spoken, strict=True)]


def _codes(engine: Engine, path: Path) -> Codes:
    from fishcli import codes

    if path.suffix == ".npy":
        return codes.read(path, codebooks=engine.codec_settings.codebooks, size=engine.codec_settings.codes)
    with console.status(f"encoding {path.name}"):
        return engine.encode(audio.read(path, engine.sample_rate))


def _transcript(path: Path, option: str) -> str:
    """The text that lies beside a recording."""
    for beside in (path.with_suffix(".lab"), path.with_suffix(".txt")):
        if beside.is_file():
            return text.decode(_bytes(beside)).strip()
    console.warn(f"The words of {path} are not known, so the voice is copied less well; give {option}.")
    return ""


def check_outputs(outputs: Sequence[Path], given: Iterable[Path | None]) -> None:
    """Refuse to write over what is read, or over another output."""
    taken = {path.resolve() for path in given if path is not None and path.exists()}
    for path in outputs:
        if path.resolve() in taken:
            raise SettingError(f"{path} would be written over what is needed; give another output.")
        taken.add(path.resolve())


def check_sound(outputs: Sequence[Path], subtype: str | None) -> None:
    """Refuse a sound file that could not be written, before the work is done. `-` is a WAV on stdout."""
    for path in outputs:
        if str(path) != "-":
            audio.output_format(path, subtype)
        elif console.manner.json:
            raise SettingError("--json and -o - both want stdout; give -o FILE.")


def check_language(engine: Engine, spoken: str) -> None:
    """Warn where the built-in voice is to read what it was not trained on."""
    if engine.model.built_in and text.guess_language(spoken) != "en":
        console.warn("The built-in voice speaks English only; `fish download` fetches a model of many languages.")
