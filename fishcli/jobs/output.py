"""The folder of a job: which lines are to be made, their files, and the manifest."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import fishcli
from fishcli import files
from fishcli.errors import FishError
from fishcli.jobs import manifest
from fishcli.jobs.identity import Addresses
from fishcli.jobs.line import Job, Line
from fishcli.jobs.manifest import Entry, Manifest
from fishcli.jobs.render import Sound

LINES = "lines"  # the folder of the lines of a book


def file_of(job: Job, line: Line) -> str:
    """Return the path of a line's file, relative to the folder of the job."""
    name = f"{line.id}.{line.format}"
    return f"{LINES}/{name}" if job.chapters else name


class Output:
    """The folder of a job, held by one run at a time.

        with Output(folder) as output:
            output.begin(job, job.lines, addresses)
            for line in output.pending: ...
                output.put(line, sound)

    A file appears when it is complete. Raises FishError if the folder cannot be written, or another run holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.job = Job(())
        self.pending: list[Line] = []  # lines that are to be made
        self._addresses: dict[str, str] = {}
        self._model, self._check = "", "off"

    def __enter__(self) -> Output:
        import filelock

        with files.report_write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(self.folder / ".lock", timeout=0)
            try:
                self._lock.acquire()
            except filelock.Timeout:
                raise FishError(f"Another run writes to {self.folder}; wait for it, or use another folder.") from None
            files.check_writable(self.folder / manifest.NAME)
        try:
            self.manifest = Manifest(self.folder)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.manifest.close()
        self._lock.release()

    def begin(self, job: Job, chosen: Iterable[Line], addresses: Addresses) -> None:
        """Take the lines of a job: of the chosen ones, those whose entry or file is not right are `pending`.

        Raises FishError if a recording cannot be read, or the manifest cannot be written.
        """
        self.job = job
        self._addresses = {line.id: addresses.of(line) for line in job.lines}
        self._model, self._check = addresses.model.name, addresses.settings.check
        self.pending = [line for line in chosen if not self.is_done(line)]
        with files.report_write_errors(self.manifest.path):
            self.manifest.begin(_header(job, addresses))

    def is_done(self, line: Line) -> bool:
        """Return whether the file of a line is there and what it would be made again."""
        entry = self.manifest.entries.get(line.id)
        if entry is None or entry.address != self._addresses[line.id] or entry.file != file_of(self.job, line):
            return False
        return manifest.is_intact(self.folder, entry)

    def put(self, line: Line, sound: Sound) -> Entry:
        """Write the file of a line and its entry. Raises FishError, for a full disk too."""
        name = file_of(self.job, line)
        entry = Entry(
            line.id,
            line.number,
            self._addresses[line.id],
            name,
            hashlib.sha256(sound.data).hexdigest(),
            len(sound.data),
            sound.seed,
            sound.frames,
            round(sound.seconds, 6),
            line.voice or ", ".join(line.ref) or None,
            self._model,
            self._check,
            sum(chunk.attempts - 1 for chunk in sound.chunks),
            sound.chunks,
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

    def finish(self) -> None:
        """Bring the manifest into the order of the job."""
        with files.report_write_errors(self.manifest.path):
            self.manifest.finish(line.id for line in self.job.lines)


def _header(job: Job, addresses: Addresses) -> dict[str, Any]:
    """Return the line about the job: with it and the job's file, the job can be repeated."""
    lexicon = addresses.settings.lexicon
    settings = dataclasses.asdict(dataclasses.replace(addresses.settings, lexicon=None))
    settings["lexicon"] = lexicon.digest if lexicon else None
    header = {"fishcli": fishcli.__version__, "model": dataclasses.asdict(addresses.model), "settings": settings}
    if job.chapters:
        header |= {"title": job.title, "chapters": [each.title for each in job.chapters]}
    return header


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
