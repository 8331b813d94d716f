"""Download a checkpoint from the hub. A folder is used only if all of its files are those of one commit.

>>> plan = plan_download()  # queries the hub, unless the folder already records a commit
>>> for event in fetch(plan):  # verifies the files that exist, downloads the others, moves them into place
...     show(event)

Each file is downloaded to `.fishcli/`, named after its digest, and verified on the disk. Files are moved into place
only when all have arrived. `local.py` describes the states of a folder in between.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fishcli.checkpoints import hub, local
from fishcli.checkpoints.local import File, Record
from fishcli.errors import InputError, NetworkError, SettingError
from fishcli.files import sync

TRIES = 3  # for a file that arrives damaged
BLOCK = 1 << 20  # bytes
LOCK = f"{local.STATE}/lock"


@dataclass(frozen=True)
class Plan:
    """The files to download into a folder, and the bytes that exist already, by size only: `fetch` verifies them."""

    folder: Path
    record: Record
    here: dict[str, int]  # bytes of each file that exist already

    @property
    def size(self) -> int:
        """The size of all files in bytes."""
        return sum(file.size for file in self.record.files)

    @property
    def missing(self) -> int:
        """The bytes to download."""
        return self.size - sum(self.here.values())


@dataclass(frozen=True)
class Progress:
    """`done` of `size` bytes of a file are verified or downloaded; `done` falls when a file starts again."""

    name: str
    stage: Literal["verify", "download"]
    done: int
    size: int


@dataclass(frozen=True)
class Damaged:
    """A file whose checksum is not the recorded one."""

    name: str


Event = Progress | Damaged


def plan_download(repo: str = local.REPO, folder: Path | None = None, revision: str | None = None) -> Plan:
    """Return the plan to download `repo` (owner/name) into `folder`.

    Without a revision, a folder keeps the commit that it records, and the hub is not queried. Raises SettingError,
    ModelMissing (no such repository, revision or files), AuthError or NetworkError.
    """
    if not local.REPO_NAME.fullmatch(repo):
        raise SettingError(f"A repository is OWNER/NAME, such as {local.REPO}, not {repo!r}.")
    folder = folder or local.home(repo)
    old = Record.read(folder / local.RECORD)
    target = _kept(Record.read(folder / local.PLAN), repo, revision) or _kept(old, repo, revision)
    target = target or hub.resolve(repo, revision)
    return Plan(folder, target, {file.name: _present(folder, file, old) for file in target.files})


def fetch(plan: Plan) -> Generator[Event, None, None]:
    """Carry out a plan: download missing and damaged files, and verify each one by its digest.

    Raises InputError (no space, no permission, another download is running), ModelMissing, AuthError or NetworkError.
    An interrupted download continues in the next run, and the old files stay usable until all new ones have arrived.
    """
    with _writing_to(plan.folder):
        old = Record.read(plan.folder / local.RECORD)
        missing = []
        for file in plan.record.files:
            if not (yield from _verify_file(plan.folder / file.name, file)):
                missing.append(file)
        for file in missing:
            if old and file in old.files:  # damaged, not of another commit: the folder must not be used
                (plan.folder / local.MIXED).touch()
                yield Damaged(file.name)
        if missing:
            _require_room(plan.folder, missing)
            plan.record.write(plan.folder / local.PLAN)
        for file in missing:
            yield from _fetch_file(plan, file)
        _put_in_place(plan, missing)


def verify(folder: Path) -> Iterator[Event]:
    """Verify the checksum of every file of a downloaded folder, and yield `Damaged` for each mismatch.

    Raises InputError if the folder has no record of a download.
    """
    record = Record.read(folder / local.RECORD)
    if record is None:
        raise InputError(f"{folder} has no record of a download to verify it against; download the model again.")
    for file in record.files:
        if not (yield from _verify_file(folder / file.name, file)):
            yield Damaged(file.name)


def _kept(known: Record | None, repo: str, revision: str | None) -> Record | None:
    return known if known and known.repo == repo and revision in (None, known.commit) else None


def _present(folder: Path, file: File, old: Record | None) -> int:
    """Return the bytes of `file` that exist, in place or from an interrupted download of the same content."""
    if hub.size(folder / file.name) == file.size and (old is None or file in old.files):
        return file.size
    return min(hub.size(_part(folder, file)), file.size)


def _part(folder: Path, file: File) -> Path:
    """Return the path of a file until it is complete, named after its digest, so that commits never mix."""
    return folder / local.STATE / f"{file.digest.partition(':')[2]}.part"


@contextlib.contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder. Raises InputError if another process holds it, or the folder is not writable.

    The system releases the lock of a killed process.
    """
    from filelock import FileLock, Timeout

    try:
        (folder / local.STATE).mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise InputError(f"Another download is writing to {folder}; wait until it has finished.") from error
    except OSError as error:
        raise InputError(f"Cannot write to {folder} ({error.strerror or error}).", field="local_dir") from error


def _require_room(folder: Path, missing: list[File]) -> None:
    needed = sum(file.size - min(hub.size(_part(folder, file)), file.size) for file in missing)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"The download needs {needed / 1e9:.2f} GB in {folder}, but only {free / 1e9:.2f} GB are free.",
            field="local_dir",
        )


def _verify_file(path: Path, file: File) -> Generator[Progress, None, bool]:
    """Return whether the file on the disk has the recorded size and digest."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    algorithm, _, expected = file.digest.partition(":")
    hasher = hashlib.sha256() if algorithm == "sha256" else hashlib.sha1(usedforsecurity=False)
    if algorithm == "git-sha1":
        hasher.update(b"blob %d\0" % file.size)
    done = 0
    with path.open("rb") as opened:
        while block := opened.read(BLOCK):
            hasher.update(block)
            done += len(block)
            yield Progress(file.name, "verify", done, file.size)
    return hasher.hexdigest() == expected


def _fetch_file(plan: Plan, file: File) -> Iterator[Event]:
    part = _part(plan.folder, file)
    part.touch()
    for _ in range(TRIES):
        for done in hub.fill(part, plan.record, file):
            yield Progress(file.name, "download", done, file.size)
        if (yield from _verify_file(part, file)):
            sync(part)
            return
        yield Damaged(file.name)
        part.unlink()
    raise NetworkError(
        f"{file.name} arrived damaged {TRIES} times (expected {file.digest}); try again later, or use another hub "
        "with HF_ENDPOINT."
    )


def _put_in_place(plan: Plan, fetched: list[File]) -> None:
    """Move the downloaded files into place. A mark keeps the folder from being used while commits are mixed."""
    state, mixed = plan.folder / local.STATE, plan.folder / local.MIXED
    old = Record.read(plan.folder / local.RECORD)
    names = [file.name for file in plan.record.files]
    stale = [file.name for file in old.files if file.name not in names] if old else []
    if fetched or stale:
        mixed.touch()
        sync(state)
    for name in stale:  # a codec.json that the new commit does not have
        (plan.folder / name).unlink(missing_ok=True)
    for file in fetched:
        os.replace(_part(plan.folder, file), plan.folder / file.name)
    sync(plan.folder)
    if old != plan.record:
        plan.record.write(plan.folder / local.RECORD)
    for leftover in state.iterdir():
        if leftover not in (plan.folder / local.RECORD, plan.folder / LOCK):
            leftover.unlink()
