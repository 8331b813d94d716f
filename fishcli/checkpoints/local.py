"""Find a checkpoint folder on this machine: the named one, the downloaded one, or the built-in voice.

A folder that `fish download` made carries its state in `.fishcli/`:

- `record.json`: the commit and the files that the folder holds;
- `plan.json`: the commit and the files of a download that is not finished;
- `mixed`: the files are not of one commit, or are damaged, until the download is finished. Never used.

A folder without a record came from elsewhere, or is on its way, and is judged by the files that are there.
"""

import dataclasses
import json
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from fishcli.errors import InputError, ModelMissing
from fishcli.files import folder, replacing

REPO = "fishaudio/fish-speech-1.5"
REPO_NAME = re.compile(r"(?![.-])[\w.-]+/(?![.-])[\w.-]+", re.ASCII)  # owner/name, neither of them `..`
BUILT_IN = "built-in"

CODEC = "firefly-gan-vq-fsq-8x1024-21hz-generator.pth"
NEEDED = ("config.json", "model.pth", "tokenizer.tiktoken", "special_tokens.json", CODEC)
OPTIONAL = ("codec.json",)  # the codec's dimensions where they are not the standard ones
FILES = NEEDED + OPTIONAL

STATE = ".fishcli"
RECORD = f"{STATE}/record.json"
PLAN = f"{STATE}/plan.json"
MIXED = f"{STATE}/mixed"
_MAX_RECORD = 65_536  # bytes; six files take 1,000


@dataclass(frozen=True)
class Found:
    """A checkpoint folder; `name` leads `find` back to it."""

    path: Path
    name: str
    built_in: bool = False


@dataclass(frozen=True)
class File:
    """A file of a checkpoint as the hub records it.

    digest: `sha256:HEX` where the hub keeps the file in LFS, `git-sha1:HEX` (git's id of a blob) elsewhere.
    """

    name: str
    size: int  # bytes
    digest: str

    def __post_init__(self) -> None:
        if self.name not in FILES:
            raise ValueError(f"{self.name!r} is no file of a checkpoint")
        if type(self.size) is not int or self.size < 0:
            raise ValueError(f"{self.size!r} is no size")
        if not re.fullmatch(r"sha256:[0-9a-f]{64}|git-sha1:[0-9a-f]{40}", self.digest):
            raise ValueError(f"{self.digest!r} is no digest")


@dataclass(frozen=True)
class Record:
    """The files of one commit of a repository that a folder holds or, as a plan, is to hold."""

    repo: str
    commit: str
    files: tuple[File, ...]

    def __post_init__(self) -> None:
        if not REPO_NAME.fullmatch(self.repo):
            raise ValueError(f"{self.repo!r} is no repository")
        if not re.fullmatch(r"[0-9a-f]{40}", self.commit):
            raise ValueError(f"{self.commit!r} is no commit")

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        """The record in `path`, or None if there is none; InputError if it is not one of ours."""
        if not path.is_file():  # a named pipe would keep the reader waiting for ever
            return None
        try:
            with path.open("rb") as opened:
                text = opened.read(_MAX_RECORD + 1)
            if len(text) > _MAX_RECORD:
                raise ValueError(f"more than {_MAX_RECORD} bytes")
            fields = json.loads(text)
            files = tuple(File(**file) for file in fields["files"])
            return cls(fields["repo"], fields["commit"], files)
        except FileNotFoundError:  # a download that has just ended removes its plan
            return None
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(f"{path} is damaged: delete it and run `fish download` again.") from error

    def write(self, path: Path) -> None:
        """Write it to `path`, whole or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")


def built_in() -> Path:
    """The folder of the small English voice that ships inside the package."""
    return Path(__file__).parents[1] / "assets" / "tiny"


def home(repo: str) -> Path:
    """Where a download of `owner/name` lives unless it is told otherwise."""
    return _library() / repo


def find(name: str | Path | None = None, needed: tuple[str, ...] = NEEDED) -> Found:
    """The checkpoint folder to use, with at least the files `needed` in it.

    name: a folder; `owner/name`, or `name` alone, of a downloaded repository; `built-in`; or None for
    `./checkpoints/fish-speech-1.5`, else the downloaded one, else the built-in voice.

    Raises ModelMissing, with the remedy, when it is not there, lacks files or is half downloaded.
    """
    found = _default() if name is None else _named(str(name))
    if reason := fault(found.path, needed):
        raise ModelMissing(f"{found.name} cannot be used: {reason}; run `{remedy(found)}`.")
    return found


def models() -> list[Found]:
    """What lies in `./checkpoints` and the data folder, whole or not (see `fault`), and the built-in voice."""
    near = [Found(path, path.as_posix()) for path in sorted(Path("checkpoints").glob("*")) if _has_any(path)]
    far = [_downloaded(path) for path in sorted(_library().glob("*/*")) if _has_any(path)]
    return [*near, *far, Found(built_in(), BUILT_IN, built_in=True)]


def fault(path: Path, needed: tuple[str, ...] = NEEDED) -> str | None:
    """Why the checkpoint folder cannot be used, as a clause, or None. Compares sizes, reads no weights."""
    record = Record.read(path / RECORD)
    sizes = {file.name: file.size for file in record.files} if record else {}
    used = [name for name in FILES if name in needed or (name in OPTIONAL and name in sizes)]
    lacking = [name for name in used if not (path / name).is_file()]
    if (path / MIXED).exists() or (lacking and (path / PLAN).exists()):
        return "its download is not finished"
    if lacking:
        return f"it lacks {', '.join(lacking)}"
    if changed := [name for name in used if name in sizes and (path / name).stat().st_size != sizes[name]]:
        return f"{', '.join(changed)} changed since the download"
    return None


def remedy(found: Found) -> str:
    """The command that makes the folder whole."""
    if found.built_in:
        return "pip install --force-reinstall --no-deps fishcli"
    known = Record.read(found.path / PLAN) or Record.read(found.path / RECORD)
    repo = known.repo if known else REPO
    command = "fish download" if repo == REPO else f"fish download {repo}"
    if found.path == home(repo):
        return command
    return f"{command} --local-dir {shlex.quote(str(found.path))}"


def _default() -> Found:
    near = Path("checkpoints") / REPO.partition("/")[2]
    for found in (Found(near, near.as_posix()), Found(home(REPO), REPO)):
        if _has_any(found.path) and not _on_its_way(found.path):
            return found
    return Found(built_in(), BUILT_IN, built_in=True)


def _named(name: str) -> Found:
    path = os.path.expanduser(name)  # os.path: it has no error for a name that no file can have
    if os.path.isdir(path):
        return Found(Path(path), name)
    if name == BUILT_IN:
        return Found(built_in(), BUILT_IN, built_in=True)
    if os.path.exists(path):
        raise ModelMissing(f"{name} is a file: name the folder that it lies in.")
    if REPO_NAME.fullmatch(name):
        if os.path.isdir(home(name)):
            return Found(home(name), name)
        raise ModelMissing(f"There is no folder {name} and no downloaded model: run `fish download {name}`.")
    return _bare(name)


def _bare(name: str) -> Found:
    """The one downloaded repository called `name`, whoever its owner is."""
    same = [path for path in sorted(_library().glob("*/*")) if path.name == name]
    if len(same) > 1:
        owners = " or ".join(_downloaded(path).name for path in same)
        raise ModelMissing(f"Several downloaded models are called {name}: say {owners}.")
    if not same:
        raise ModelMissing(
            f"There is no folder {name} and no downloaded model of that name: run `fish download OWNER/NAME`."
        )
    return _downloaded(same[0])


def _library() -> Path:
    return folder("data") / "models"


def _downloaded(path: Path) -> Found:
    return Found(path, f"{path.parent.name}/{path.name}")


def _has_any(path: Path) -> bool:
    return any((path / name).exists() for name in (*NEEDED, PLAN, RECORD))


def _on_its_way(path: Path) -> bool:
    """Whether a first download into the folder is at work or was interrupted."""
    return (path / PLAN).exists() and not (path / RECORD).exists() and fault(path) is not None
