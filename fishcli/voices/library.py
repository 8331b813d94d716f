"""The library: voices on disk, found by id or title, added and removed as a whole.

    NAME/00.wav, NAME/00.lab     recordings, each with its transcript beside it: the layout of the documentation
    NAME/voice.json              title, description, tags, ...; absent where a person made the folder

The codes of a recording are kept by `Engine.encode`, by codec and samples, for every process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fishcli import files
from fishcli.errors import FishError, InputError
from fishcli.voices import voice as voices
from fishcli.voices.folder import Folder, folders, write
from fishcli.voices.recordings import MAX_BYTES, MAX_SECONDS, decoded, files_of
from fishcli.voices.stored import NOTES, kept_notes, open_voice
from fishcli.voices.voice import Recording, Visibility, Voice, VoiceExists, VoiceMissing, VoiceReadOnly

if TYPE_CHECKING:
    from fishcli.request import Codes, Reference, Samples

log = logging.getLogger(__name__)

MAX_VOICES = 1000
REFERENCES = Path("references")  # in the working folder, where the documentation of Fish Speech keeps voices
_PATIENCE = 60.0  # seconds that a writer waits for the one before it


class Library:
    """The voices of a folder, by default one in the user's data folder, and of further ones that are only read.

    A voice of `folder` hides those of the same id in `also`. Safe for any number of threads and processes.
    """

    def __init__(self, folder: Path | None = None, also: Sequence[Path] = ()) -> None:
        self.folder = files.folder("data") / "voices" if folder is None else folder
        self._also = tuple(also)
        self._said: set[str] = set()

    @classmethod
    def of_user(cls) -> Library:
        """Return the library of the user, and the voices in `references` in the working folder."""
        return cls(also=(REFERENCES,))

    def list(self) -> tuple[Voice, ...]:
        """Return all voices: those of `folder` by name, then those of each further folder."""
        found: dict[str, Voice] = {}
        for root in (self.folder, *self._also):
            for name in folders(root):
                if (voice := self._open(root, name)) is not None:
                    found.setdefault(voice.id, voice)
        return tuple(found.values())

    def find(self, name: str) -> Voice:
        """Return the voice of an id, else of a title. Raises VoiceMissing, or InputError for an ambiguous title."""
        if (voice := self._named(name)) is not None:
            return voice
        known = self.list()
        if (voice := _by_id(known, name)) is not None:
            return voice
        titled = [each for each in known if each.title == name]
        titled = [each for each in titled if each.writable] or titled
        if not titled:
            raise _missing(name)
        if len(titled) > 1:
            ids = ", ".join(each.id for each in titled[:3])
            raise InputError(f"{len(titled)} voices have the title {name!r}; choose one by its id: {ids}.")
        return titled[0]

    def add(
        self,
        recordings: Sequence[bytes],
        texts: Sequence[str] = (),
        *,
        title: str,
        id: str | None = None,
        description: str = "",
        tags: Sequence[str] = (),
        visibility: Visibility = "private",
        languages: Sequence[str] = (),
        max_seconds: float = MAX_SECONDS,
    ) -> Voice:
        """Add a voice of audio files and, unless none are known, their transcripts. Return it.

        An id is drawn unless one is given. Raises SettingError, InputError for audio that cannot be used, or
        VoiceExists. A voice is added as a whole or not at all.
        """
        id = secrets.token_hex(16) if id is None else voices.check_id(id)
        fields = dict(title=title, description=description, tags=tags, visibility=visibility, languages=languages)
        now = voices.now()
        contents = {NOTES: _as_json(voices.checked({**fields, "created_at": now, "updated_at": now}))}
        contents |= files_of(recordings, texts, max_seconds)
        with self._writing() as temporary:
            self._check_room(id)
            temporary.mkdir(0o700)
            for name, data in contents.items():
                write(temporary / name, data)
            files.sync(temporary)
            os.rename(temporary, self.folder / id)
        return self._own(id)

    def update(
        self,
        id: str,
        *,
        title: str | None = None,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        visibility: Visibility | None = None,
        languages: Sequence[str] | None = None,
    ) -> Voice:
        """Change what is given of a voice, by its id. Return it.

        Raises VoiceMissing, VoiceReadOnly or SettingError.
        """
        given = dict(title=title, description=description, tags=tags, visibility=visibility, languages=languages)
        fields = voices.checked({name: value for name, value in given.items() if value is not None})
        voice = self._own(id)
        if not fields:
            return voice
        with self._writing() as temporary:
            voice = self._own(id)
            notes = {"title": voice.title, "created_at": voice.created_at.isoformat()}
            notes |= kept_notes(voice.folder, self._warn) | fields | {"updated_at": voices.now()}
            write(temporary, _as_json(notes))
            os.replace(temporary, voice.folder / NOTES)
            files.sync(voice.folder)
        return self._own(id)

    def rename(self, id: str, title: str) -> Voice:
        """Give a voice another title, by its id. Return it. An id that was not drawn becomes the title, if it can.

        Raises VoiceMissing, VoiceReadOnly, VoiceExists or SettingError.
        """
        voice, (title,) = self._own(id), voices.checked({"title": title}).values()
        new = title if voices.is_id(title) and not voices.is_drawn(voice.id) else voice.id
        if new != voice.id:
            with self._writing():
                self._check_free(new)
                os.rename(self._own(id).folder, self.folder / new)
        return self.update(new, title=title)

    def remove(self, id: str) -> None:
        """Remove a voice, by its id. Raises VoiceMissing or VoiceReadOnly."""
        self._own(id)
        with self._writing() as temporary:
            os.rename(self._own(id).folder, temporary)

    def read(self, voice: Voice, recording: Recording) -> bytes:
        """Return the audio file of a recording. Raises InputError if it is gone or too large."""
        try:
            with Folder(voice.folder) as folder:
                return folder.read(recording.name, MAX_BYTES)
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else error) or "it is no regular file"
            raise InputError(f"{_described(voice, recording)} cannot be read ({reason}).") from error

    def contents(self, voice: Voice) -> tuple[tuple[Recording, bytes], ...]:
        """Return the recordings of a voice with their audio files, read anew.

        Warns once of a recording without a transcript. Raises InputError, and VoiceMissing for a voice that was removed
        meanwhile.
        """
        current = self._open(voice.folder.parent, voice.folder.name)
        if current is None:
            raise _missing(voice.id)
        for each in current.recordings:
            if not each.text:
                name = _described(current, each)
                self._warn(f"{name} has no transcript, which makes the voice less similar; put it in a .lab file.")
        return tuple((each, self.read(current, each)) for each in current.recordings)

    def references(self, voice: Voice, encode: Callable[[Samples], Codes], rate: int) -> tuple[Reference, ...]:
        """Return the recordings of a voice as references, encoded by `Engine.encode` at its sample rate (Hz).

        Reads the files anew, and warns once of a recording without a transcript. Raises InputError for audio that
        cannot be used, and VoiceMissing for a voice that was removed meanwhile.
        """
        from fishcli.request import Reference

        return tuple(
            Reference(encode(decoded(data, _described(voice, each), rate)), each.text)
            for each, data in self.contents(voice)
        )

    def _open(self, root: Path, name: str) -> Voice | None:
        return open_voice(root / name, root == self.folder, self._warn)

    def _named(self, id: str) -> Voice | None:
        """Return the voice in the folder of that name, if the name is an id."""
        found = (self._open(root, id) for root in (self.folder, *self._also) if voices.is_id(id))
        return next(filter(None, found), None)

    def _own(self, id: str) -> Voice:
        """Return a voice that may be changed, by its id."""
        if (voice := self._named(id) or _by_id(self.list(), id)) is None:
            raise _missing(id)
        if not voice.writable:
            raise VoiceReadOnly(f"The voice {id} lies in {voice.folder.parent}, which is only read; change it there.")
        return voice

    def _check_room(self, id: str) -> None:
        self._check_free(id)
        if len(folders(self.folder)) >= MAX_VOICES:
            raise InputError(f"The library holds {MAX_VOICES:,} voices and no more; remove one first.")

    def _check_free(self, id: str) -> None:
        if os.path.lexists(self.folder / id):
            raise VoiceExists(f"There is a voice {id} already; choose another id, or remove it first.", field="voice")

    def _warn(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            log.warning("%s", message)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Path]:
        """Hold the folder alone, and yield a temporary path in it; what is there at the end is removed."""
        import filelock

        with files.report_write_errors(self.folder):
            self.folder.mkdir(0o700, parents=True, exist_ok=True)
            lock = filelock.FileLock(self.folder / ".lock", timeout=_PATIENCE, mode=0o600)
            try:
                lock.acquire()
            except filelock.Timeout:
                raise FishError(f"Another process is writing to {self.folder}; try again when it has ended.") from None
            try:
                self._sweep()
                yield self.folder / f".{secrets.token_hex(8)}.tmp"
                files.sync(self.folder)
            finally:
                self._sweep()
                lock.release()

    def _sweep(self) -> None:
        """Remove what is temporary, that of killed writers too: there is one writer at a time."""
        for path in self.folder.glob(".*.tmp"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _as_json(notes: dict[str, Any]) -> bytes:
    text = json.dumps(notes, ensure_ascii=False, indent=1)
    return text.encode(errors="backslashreplace")  # half a surrogate pair becomes its JSON escape


def _by_id(known: Sequence[Voice], id: str) -> Voice | None:
    return next((each for each in known if each.id == id), None)


def _described(voice: Voice, recording: Recording) -> str:
    return f"{voices.printable(recording.name)} of the voice {voice.title}"


def _missing(name: str) -> VoiceMissing:
    return VoiceMissing(f"There is no voice {name[:64]!r}; add it to the library first.", field="voice")
