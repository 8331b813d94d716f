"""Read the inputs of a command: text and recordings. `-` is stdin."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fishcli import audio, text
from fishcli.cli import console
from fishcli.cli.pipes import Input, is_stream, readable
from fishcli.errors import InputError, SettingError
from fishcli.files import open_regular

if TYPE_CHECKING:
    from fishcli.cli.options import ReferenceOptions, SpeakingOptions, TextOptions
    from fishcli.cli.remote import Speaker
    from fishcli.client.request import Recording
    from fishcli.engine import Engine
    from fishcli.request import Codes, Reference, Script

NPY_MAGIC = b"\x93NUMPY"  # of codes files
_MAX_TEXT = 4 * text.MAX_CHARACTERS  # bytes; a character has at most four


def script(given: TextOptions, speaking: SpeakingOptions) -> Script:
    """Return the text to speak, normalized and cut into chunks. Raises SettingError unless there is one source."""
    return prepare(source(given), given, speaking)


def prepare(source: str, given: TextOptions, speaking: SpeakingOptions) -> Script:
    """Return a text normalized and cut into chunks."""
    prepared = text.prepare(source, speaking.chunk_length, speaking.language, given.normalize)
    language = prepared.language
    if given.normalize and any(map(str.isdigit, source)) and not text.can_normalize(language):
        remedy = "run `pip install 'fishcli[normalize]'`" if text.needs_extra(language) else "write them as words"
        console.warn(f"Numbers in {language!r} are not normalized; {remedy}, or pass --no-normalize.")
    return prepared


def source(given: TextOptions) -> str:
    """Return the text to speak as it was given. Raises SettingError unless there is one source."""
    argument, file = given.text, given.file
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
        if os.path.isfile(argument):
            console.note(f"{argument} is a file; --file reads it.")
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
    with readable(path, _MAX_TEXT) as source, open_regular(source.path) as stream:
        data = stream.read(_MAX_TEXT + 1)
    if len(data) > _MAX_TEXT:
        raise InputError(f"{source.name} has more than {text.MAX_CHARACTERS:,} characters; split it.")
    try:
        return text.decode(data)
    except InputError as error:
        raise InputError(f"{source.name}: {error}", field=error.field) from error


class Source(NamedTuple):
    """A reference: a file, or the bytes of a recording in the library; its name in messages, and its transcript."""

    content: Path | bytes
    name: str
    text: str


def sources(given: ReferenceOptions, voice: str | None = None) -> list[Source]:
    """Return the references: the files that were given, or the recordings of a voice. Warns of a missing transcript."""
    if voice is None:
        spoken = zip(given.ref or [], transcripts(given), strict=True)
        return [Source(path, str(path), said) for path, said in spoken]
    from fishcli.cli import library
    from fishcli.voices import printable

    known, found = library.find(voice)
    kept = known.contents(found)
    return [Source(data, f"{printable(each.name)} of the voice {found.name}", each.text) for each, data in kept]


def references(engine: Engine, given: Sequence[Source]) -> list[Reference]:
    """Return the references, encoded."""
    from fishcli.request import Reference

    return [Reference(_codes(engine, each), each.text) for each in given]


def recordings(given: Sequence[Source]) -> tuple[Recording, ...]:
    """Return the references as a server takes them: the bytes of each file. Raises InputError for codes."""
    from fishcli.client.request import Recording

    return tuple(Recording(_bytes(each), each.text) for each in given)


def _bytes(given: Source) -> bytes:
    if isinstance(given.content, bytes):
        return given.content
    with readable(given.content, audio.MAX_BYTES) as source, open_regular(source.path) as file:
        data = file.read(audio.MAX_BYTES + 1)
    if data.startswith(NPY_MAGIC):
        raise InputError(f"{source.name} holds codes, which a server does not take.", field="references")
    if len(data) > audio.MAX_BYTES:
        raise InputError(f"{source.name} is too large; cut it down to the part you need.", field="references")
    return data


def transcripts(given: ReferenceOptions) -> list[str]:
    """Return the transcript of each reference: as typed, else from the file beside it. Warns where there is none."""
    paths = given.ref or []
    for path in paths:
        if not is_stream(path):
            open_regular(path).close()  # a missing file is an error before its transcript is a warning
    typed = [_utf8(said) for said in given.ref_text or []] or [""] * len(paths)
    return [_transcript(path, said) for path, said in zip(paths, typed, strict=True)]


def _codes(engine: Engine, given: Source) -> Codes:
    """Return the codes of a reference, which is a codes file or a recording."""
    from fishcli.audio import codes

    path = given.content
    if isinstance(path, bytes):
        return _encode(engine, path, given.name)
    with readable(path, audio.MAX_BYTES) as source:
        if path.suffix == ".npy" or codes.is_codes_file(source.path):
            return read_codes(engine, source)
        return _encode(engine, source.path, source.name)


def read_codes(engine: Engine, source: Input) -> Codes:
    """Return the codes of a file, which must be of the engine's codec."""
    from fishcli.audio import codes

    layout = engine.codec_settings
    return codes.read(
        source.path,
        codebooks=layout.codebooks,
        size=layout.codes,
        name=source.name,
        codec=lambda: engine.codec_id,
    )


def encoded(engine: Engine, path: Path) -> Codes:
    """Return the codes of a recording."""
    with readable(path, audio.MAX_BYTES) as source:
        return _encode(engine, source.path, source.name)


def _encode(engine: Engine, recording: Path | bytes, name: str) -> Codes:
    with console.status(f"Encoding {Path(name).name}"):
        samples = audio.read(recording, engine.sample_rate, name=name)
        if not np.any(samples):
            raise InputError(f"{name} contains only silence; use another file.")
        return engine.encode(samples)


def _transcript(path: Path, typed: str) -> str:
    """Return the transcript that was typed, else that in the .lab or .txt file beside a recording, else warn."""
    if typed.strip():
        if os.path.isfile(typed):
            console.note(f"--ref-text {typed} is a file, and its name is taken as the transcript.")
        return typed
    if said := beside(path):
        return said
    console.warn(f"{path} has no transcript, which makes the voice less similar; pass --ref-text.")
    return ""


def beside(recording: Path) -> str:
    """Return the transcript in the .lab or .txt file beside a recording; "" if there is none."""
    for path in (recording.with_suffix(".lab"), recording.with_suffix(".txt")):
        if path.is_file() and (said := _read_text(path).strip()):
            return said
    return ""


def check_language(engine: Engine | Speaker, language: str) -> None:
    """Warn if the built-in voice gets a text that is not English."""
    if engine.model.built_in and not language.lower().startswith("en"):
        console.warn("The built-in voice speaks English only; `fish download` gets a multilingual model.")
