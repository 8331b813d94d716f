"""The folder of a job: which lines are to be made, their files, and the manifest."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import fishcli
from fishcli import files, text
from fishcli.errors import FishError, InputError
from fishcli.jobs import manifest
from fishcli.jobs.identity import Addresses
from fishcli.jobs.line import Job, Line
from fishcli.jobs.manifest import Entry, Manifest
from fishcli.jobs.render import Sound

log = logging.getLogger(__name__)

LINES = "lines"  # the folder of the lines of a book
# Bytes of a second of sound at 44.1 kHz; speech of the built-in voice takes 0.6 of a WAV as FLAC.
_BYTES = {"wav": 88_200, "flac": 53_000, "mp3": 16_000, "ogg": 12_000, "opus": 10_000}


class Part(NamedTuple):
    """Part `number`, from 1, `of` so many of a job, which has a manifest of its own."""

    number: int
    of: int


def file_of(job: Job, line: Line) -> str:
    """Return the path of a line's file, relative to the folder of the job."""
    name = f"{line.id}.{line.format}"
    return f"{LINES}/{name}" if job.chapters else name


def done(job: Job, addresses: dict[str, str], folder: Path, read: bool = True) -> set[str]:
    """Return the ids of the lines whose files are there and need not be made again.

    Without `read` the sizes of files are compared, and not their contents.
    """
    entries = manifest.entries(folder)
    wanted = ((line, entries.get(line.id)) for line in job.lines)
    return {
        line.id
        for line, entry in wanted
        if entry is not None
        and (entry.address, entry.file) == (addresses[line.id], file_of(job, line))
        and manifest.is_intact(folder, entry, read)
    }


class Output:
    """The folder of a job, which one run at a time writes to, or one for each part of the job.

        with Output(folder) as output:
            output.begin(job, job.lines, addresses)
            for line in output.pending:
                output.put(line, renderer.sound(line))
            output.finish()

    A file gets its name when it is complete. Raises FishError if the folder cannot be written, or another run holds it.
    """

    def __init__(self, folder: Path, part: Part | None = None) -> None:
        self.folder = folder
        self.pending: list[Line] = []  # lines that are to be made
        self.left_over: list[Entry] = []  # files of lines that the job does not have any more
        self._part, self._job = part, Job(())
        self._chosen: list[Line] = []
        self._addresses: dict[str, str] = {}
        self._model, self._check = "", "off"
        self.bound: dict[str, Any] = {}  # the files put together from lines, as the manifest has them: see `binding`

    def __enter__(self) -> Output:
        with files.report_write_errors(self.folder), contextlib.ExitStack() as stack:
            self.folder.mkdir(parents=True, exist_ok=True)
            own = manifest.name_of(self._part)
            files.check_writable(self.folder / own)
            # A run of the whole job takes up the manifests of its parts.
            for name in sorted({own, *(manifest.names(self.folder) if self._part is None else ())}):
                stack.enter_context(_held(self.folder, name))
            self.manifest = Manifest(self.folder, own)
            self._on_exit = stack.pop_all()
        for name, damaged in self.manifest.damaged.items():
            log.warning("%s is damaged in %d lines; they are made again.", self.folder / name, damaged)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._on_exit:
            self.manifest.close()

    @property
    def entries(self) -> dict[str, Entry]:
        """The entries by id: for a line that was made or that failed, and for those of other runs."""
        return self.manifest.entries

    def begin(self, job: Job, chosen: Iterable[Line], addresses: Addresses, force: bool = False) -> None:
        """Take the lines of a job: of the chosen ones, those whose entry or file is not right are `pending`.

        Raises FishError if a recording cannot be read, and unless `force` if the disk has too little room or a file
        stands in the way that is not from an earlier run.
        """
        self._job, self._chosen = job, list(chosen)
        self._addresses = {line.id: addresses.of(line) for line in job.lines}
        self._model, self._check = addresses.model.name, addresses.settings.check
        made = done(job, self._addresses, self.folder)
        self.pending = [line for line in self._chosen if line.id not in made]
        if not force:
            self._check_names()
            self._check_room()
        known = {line.id for line in job.lines}
        self.left_over = [each for id, each in self.entries.items() if id not in known and each.file]
        kept = self.manifest.header.get("bound")
        self.bound = kept if isinstance(kept, dict) else {}
        with files.report_write_errors(self.manifest.path):
            header = _header(job, addresses, self._expected) | ({"bound": self.bound} if self.bound else {})
            self.manifest.begin(header, self._own())

    @property
    def _expected(self) -> int:
        """How many lines the manifest will have in the end."""
        return len(self._job.lines if self._part is None else self._chosen)

    def put(self, line: Line, sound: Sound) -> Entry:
        """Write the file of a line and its entry. Raises FishError, for a full disk too."""
        name = file_of(self._job, line)
        entry = Entry(
            id=line.id,
            number=line.number,
            address=self._addresses[line.id],
            file=name,
            sha256=hashlib.sha256(sound.data).hexdigest(),
            bytes=len(sound.data),
            seed=sound.seed,
            frames=sound.frames,
            seconds=round(sound.seconds, 6),
            voice=line.voice or ", ".join(line.ref) or None,
            model=self._model,
            check=self._check,
            retries=sum(chunk.attempts - 1 for chunk in sound.chunks),
            chunks=sound.chunks,
            made_at=_now(),
        )
        path = manifest.place(self.folder, name)
        with files.report_write_errors(path):
            path.parent.mkdir(exist_ok=True)
            with files.writing(path) as file:
                file.write(sound.data)
                self.manifest.append(entry)
        return entry

    def fail(self, line: Line, error: str) -> Entry:
        """Write the entry of a line that could not be spoken."""
        entry = Entry(line.id, line.number, self._addresses[line.id], error=error, made_at=_now())
        with files.report_write_errors(self.manifest.path):
            self.manifest.append(entry)
        return entry

    def right(self) -> dict[str, Entry]:
        """Return the entries of the job's lines that were made as the job has them now, by id."""
        entries = ((line.id, self.entries.get(line.id)) for line in self._job.lines)
        return {
            id: entry
            for id, entry in entries
            if entry is not None and entry.file is not None and entry.address == self._addresses[id]
        }

    def finish(self) -> None:
        """Bring the manifest into the order of the job; that of the whole job takes up those of its parts."""
        self.manifest.header.pop("bound", None)
        if self.bound:
            self.manifest.header["bound"] = self.bound
        with files.report_write_errors(self.manifest.path):
            self.manifest.finish(self._own())

    def _own(self) -> list[str]:
        """Return the ids in the manifest of this run, in order: a part has its own lines alone."""
        if self._part is not None:
            return [line.id for line in self._chosen]
        return [line.id for line in self._job.lines] + sorted(each.id for each in self.left_over)

    def _check_names(self) -> None:
        """Raise InputError for a file in the way of a line that no manifest names."""
        ours = {each.file for each in self.entries.values()}
        for line in self.pending:
            name = file_of(self._job, line)
            if name not in ours and os.path.lexists(self.folder / name):
                raise InputError(
                    f"{self.folder / name} exists and no earlier run has made it; move it away.", field="force"
                )

    def _check_room(self) -> None:
        """Raise FishError if the disk has too little room for the lines."""
        needed = sum(text.seconds(line.text) * _BYTES[line.format or "wav"] for line in self.pending)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise FishError(
                f"The lines need about {needed / 1e6:,.0f} MB, and {self.folder} has {free / 1e6:,.0f} MB free; "
                "free space, or use another format."
            )


@contextlib.contextmanager
def _held(folder: Path, name: str) -> Iterator[None]:
    """Hold a manifest. Raises FishError if another run does. The system frees that of a killed process."""
    import filelock

    lock = filelock.FileLock(folder / f".{name}.lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise FishError(f"Another run writes to {folder}; wait for it, or use another folder.") from None
    try:
        yield
    finally:
        lock.release()


def _header(job: Job, addresses: Addresses, lines: int) -> dict[str, Any]:
    """Return the line about the job: with it and the job's file, the job can be repeated."""
    lexicon = addresses.settings.lexicon
    settings = dataclasses.asdict(dataclasses.replace(addresses.settings, lexicon=None))
    settings["lexicon"] = lexicon.digest if lexicon else None
    header = {
        "fishcli": fishcli.__version__,
        "lines": lines,
        "model": dataclasses.asdict(addresses.model),
        "settings": settings,
    }
    if job.chapters:
        header |= {"title": job.title, "chapters": [each.title for each in job.chapters]}
    return header


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
