"""Fetch a checkpoint folder from the hub: what lies in it afterwards is what the hub has, or it is not used.

>>> plan = plan_download()  # asks the hub, unless the folder already records a commit
>>> for event in fetch(plan):  # checks what is here, fetches the rest, puts it in place
...     show(event)

A file waits in `.fishcli/`, named after its digest, until its bytes on the disk have that digest; nothing is
put in place before all have arrived. `local.py` says what the folder's state means in between.
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

TRIES = 3  # of a file that arrives damaged
BLOCK = 1 << 20  # bytes
LOCK = f"{local.STATE}/lock"


@dataclass(frozen=True)
class Plan:
    """What a folder is to hold and how much of it is there, by size alone: `fetch` checks the bytes."""

    folder: Path
    record: Record
    here: dict[str, int]  # bytes of each file that need not be fetched

    @property
    def size(self) -> int:
        """Bytes in total."""
        return sum(file.size for file in self.record.files)

    @property
    def missing(self) -> int:
        """Bytes to fetch."""
        return self.size - sum(self.here.values())


@dataclass(frozen=True)
class Progress:
    """`done` of `size` bytes of a file are checked or fetched; `done` falls when a file starts anew."""

    name: str
    stage: Literal["check", "fetch"]
    done: int
    size: int


@dataclass(frozen=True)
class Damaged:
    """A file whose bytes are not those that the hub records."""

    name: str


Event = Progress | Damaged


def plan_download(repo: str = local.REPO, folder: Path | None = None, revision: str | None = None) -> Plan:
    """What `fetch` would do, for the needed files of `repo` (owner/name) in `folder`.

    Without a revision the commit that the folder records is kept to, and nothing is asked of the hub.

    Raises SettingError, ModelMissing (no such repository, revision or files), AuthError, NetworkError.
    """
    if not local.REPO_NAME.fullmatch(repo):
        raise SettingError(f"{repo!r} is no repository: write it as OWNER/NAME, like {local.REPO}.")
    folder = folder or local.home(repo)
    old = Record.read(folder / local.RECORD)
    target = _kept(Record.read(folder / local.PLAN), repo, revision) or _kept(old, repo, revision)
    target = target or hub.resolve(repo, revision)
    return Plan(folder, target, {file.name: _present(folder, file, old) for file in target.files})


def fetch(plan: Plan) -> Generator[Event, None, None]:
    """Make the folder hold what the plan says, each file with the digest that the hub records.

    Raises InputError (no room, no permission, another download is at work), ModelMissing, AuthError,
    NetworkError. What was fetched is kept for the next run, and what the folder held stays usable until
    everything has arrived.
    """
    with _writing_to(plan.folder):
        old = Record.read(plan.folder / local.RECORD)
        missing = []
        for file in plan.record.files:
            if not (yield from _is_whole(plan.folder / file.name, file)):
                missing.append(file)
        for file in missing:
            if old and file in old.files:  # not of another commit, but damaged: the folder must not be used
                (plan.folder / local.MIXED).touch()
                yield Damaged(file.name)
        if missing:
            _require_room(plan.folder, missing)
            plan.record.write(plan.folder / local.PLAN)
        for file in missing:
            yield from _fetch_file(plan, file)
        _put_in_place(plan, missing)


def verify(folder: Path) -> Iterator[Event]:
    """Read every file of a downloaded folder and yield `Damaged` for those that are not as recorded.

    Raises InputError when the folder was not made by `fish download`.
    """
    record = Record.read(folder / local.RECORD)
    if record is None:
        remedy = local.remedy(local.Found(folder, str(folder)))
        raise InputError(f"{folder} has no record to check against: run `{remedy}` to get one.")
    for file in record.files:
        if not (yield from _is_whole(folder / file.name, file)):
            yield Damaged(file.name)


def _kept(known: Record | None, repo: str, revision: str | None) -> Record | None:
    return known if known and known.repo == repo and revision in (None, known.commit) else None


def _present(folder: Path, file: File, old: Record | None) -> int:
    """Bytes of `file` in place, else bytes fetched earlier. Of another commit's file the bytes do not count."""
    if hub.size(folder / file.name) == file.size and (old is None or file in old.files):
        return file.size
    return min(hub.size(_part(folder, file)), file.size)


def _part(folder: Path, file: File) -> Path:
    """Where a file waits until it is whole: named after its content, so that commits never mix."""
    return folder / local.STATE / f"{file.digest.partition(':')[2]}.part"


@contextlib.contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    """Hold the folder for this process alone, and tell in one sentence why it cannot be written to.

    The system frees the lock when a process dies, so a killed download holds nobody up.
    """
    from filelock import FileLock, Timeout

    try:
        (folder / local.STATE).mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise InputError(f"Another `fish download` is writing to {folder}: wait until it is done.") from error
    except OSError as error:
        raise InputError(
            f"Cannot write to {folder} ({error.strerror or error}): mend that, or choose another folder "
            "with --local-dir."
        ) from error


def _require_room(folder: Path, missing: list[File]) -> None:
    needed = sum(file.size - min(hub.size(_part(folder, file)), file.size) for file in missing)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"The download needs {needed / 1e9:.2f} GB in {folder} and {free / 1e9:.2f} GB are free: "
            "make room, or choose another folder with --local-dir."
        )


def _is_whole(path: Path, file: File) -> Generator[Progress, None, bool]:
    """Whether the bytes on the disk are those that the hub records."""
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
            yield Progress(file.name, "check", done, file.size)
    return hasher.hexdigest() == expected


def _fetch_file(plan: Plan, file: File) -> Iterator[Event]:
    part = _part(plan.folder, file)
    part.touch()
    for _ in range(TRIES):
        for done in hub.fill(part, plan.record, file):
            yield Progress(file.name, "fetch", done, file.size)
        if (yield from _is_whole(part, file)):
            sync(part)
            return
        yield Damaged(file.name)
        part.unlink()
    raise NetworkError(
        f"{file.name} arrived damaged {TRIES} times ({file.digest} was expected): try again later, or "
        "another hub with HF_ENDPOINT."
    )


def _put_in_place(plan: Plan, fetched: list[File]) -> None:
    """Move what was fetched to its names, under a mark that keeps a mixture of commits from being used."""
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
