"""Find a checkpoint folder on this machine: the named one, the downloaded one, or the built-in voice.

A downloaded folder keeps its state in `.fishcli/`:

- `record.json`: the commit and the files in the folder;
- `plan.json`: the commit and the files of an unfinished download;
- `mixed`: files are damaged or of different commits, until the download is finished. The folder is not used.

A folder without a record was not downloaded, or not completely, and only the presence of its files is checked.
"""

import dataclasses
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from fishcli.errors import InputError, ModelMissing
from fishcli.files import folder, replacing

REPO = "fishaudio/fish-speech-1.5"
REPO_NAME = re.compile(r"(?![.-])[\w.-]+/(?![.-])[\w.-]+", re.ASCII)  # owner/name, neither of them `..`
BUILT_IN = "built-in"
FIELD = "checkpoint_path"  # the setting that names a model

CODEC = "firefly-gan-vq-fsq-8x1024-21hz-generator.pth"
NEEDED = ("config.json", "model.pth", "tokenizer.tiktoken", "special_tokens.json", CODEC)
SAMPLING = "generation_config.json"
OPTIONAL = ("codec.json", SAMPLING)  # the dimensions of a non-standard codec; default sampling parameters
FILES = NEEDED + OPTIONAL

STATE = ".fishcli"
RECORD = f"{STATE}/record.json"
PLAN = f"{STATE}/plan.json"
MIXED = f"{STATE}/mixed"
_MAX_RECORD = 65_536  # bytes; seven files take 1,200


@dataclass(frozen=True)
class Found:
    """A checkpoint folder; `find(name)` returns it again."""

    path: Path
    name: str
    built_in: bool = False


class IncompleteModel(ModelMissing):
    """The files of a model are missing, damaged or of different commits; `found` is its folder."""

    def __init__(self, message: str, *, field: str = FIELD, found: Found | None = None) -> None:
        super().__init__(message, field=field)
        self.found = found


class NoSuchFolder(ModelMissing):
    """A model is named by a folder that does not exist: `name`."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no folder {name}.", field=FIELD)
        self.name = name


@dataclass(frozen=True)
class File:
    """A file of a checkpoint as recorded by the hub.

    digest: `sha256:HEX` for files in LFS, `git-sha1:HEX` (the git blob id) for others.
    """

    name: str
    size: int  # bytes
    digest: str

    def __post_init__(self) -> None:
        if self.name not in FILES:
            raise ValueError(f"{self.name!r} is not a file of a checkpoint")
        if type(self.size) is not int or self.size < 0:
            raise ValueError(f"{self.size!r} is not a size")
        if not re.fullmatch(r"sha256:[0-9a-f]{64}|git-sha1:[0-9a-f]{40}", self.digest):
            raise ValueError(f"{self.digest!r} is not a digest")


@dataclass(frozen=True)
class Record:
    """The files of one commit of a repository: those in a folder or, as a plan, those to download."""

    repo: str
    commit: str
    files: tuple[File, ...]

    def __post_init__(self) -> None:
        if not REPO_NAME.fullmatch(self.repo):
            raise ValueError(f"{self.repo!r} is not a repository")
        if not re.fullmatch(r"[0-9a-f]{40}", self.commit):
            raise ValueError(f"{self.commit!r} is not a commit")

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        """Return the record in `path`, or None if there is none. Raises InputError if it is damaged."""
        if not path.is_file():  # reading a named pipe would block
            return None
        try:
            with path.open("rb") as opened:
                text = opened.read(_MAX_RECORD + 1)
            if len(text) > _MAX_RECORD:
                raise ValueError(f"more than {_MAX_RECORD} bytes")
            fields = json.loads(text)
            files = tuple(File(**file) for file in fields["files"])
            return cls(fields["repo"], fields["commit"], files)
        except FileNotFoundError:  # a download that ends removes its plan
            return None
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(f"{path} is damaged; delete it and download the model again.") from error

    def write(self, path: Path) -> None:
        """Replace `path` atomically."""
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")


def built_in() -> Path:
    """Return the folder of the small English voice that is part of the package."""
    return Path(__file__).parents[1] / "assets" / "tiny"


def home(repo: str) -> Path:
    """Return the default folder of a download of `owner/name`."""
    return _library() / repo


def find(name: str | Path | None = None, needed: tuple[str, ...] = NEEDED) -> Found:
    """Return the checkpoint folder of a name, with at least the files `needed` in it.

    name: a folder, or a weights file in it; `owner/name`, or `name` alone, of a downloaded repository; `built-in`; or
    None for `./checkpoints/fish-speech-1.5`, else the downloaded one, else the built-in voice.

    Raises ModelMissing if there is no such model, and IncompleteModel if it lacks files.
    """
    found = _default() if name is None else _named(str(name))
    if reason := fault(found.path, needed):
        raise IncompleteModel(f"{found.name} cannot be used: {reason}.", found=found)
    return found


def codec_of(name: str | Path | None) -> Path | None:
    """Return the codec that a model's name is the file of, as in the documentation; None for any other name."""
    path = _weights_file(str(name)) if name else None
    return path if path and path.name != "model.pth" else None


def models() -> list[Found]:
    """Return the models in `./checkpoints` and the data folder, also incomplete ones, and the built-in voice."""
    near = [Found(path, path.as_posix()) for path in sorted(Path("checkpoints").glob("*")) if _has_any(path)]
    far = [_downloaded(path) for path in sorted(_library().glob("*/*")) if _has_any(path)]
    return [*near, *far, Found(built_in(), BUILT_IN, built_in=True)]


def fault(path: Path, needed: tuple[str, ...] = NEEDED) -> str | None:
    """Return the reason why a folder cannot be used, as a clause, or None. Compares sizes only."""
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


def repository(path: Path) -> str:
    """Return the repository that a folder was downloaded from; the one of Fish Speech 1.5 if it has no record."""
    record = Record.read(path / PLAN) or Record.read(path / RECORD)
    return record.repo if record else REPO


def _default() -> Found:
    near = Path("checkpoints") / REPO.partition("/")[2]
    for found in (Found(near, near.as_posix()), Found(home(REPO), REPO)):
        if _has_any(found.path) and not _first_download_unfinished(found.path):
            return found
    return Found(built_in(), BUILT_IN, built_in=True)


def _named(name: str) -> Found:
    path = os.path.expanduser(name)  # os.path: no error for an invalid file name
    if os.path.isdir(path):
        return Found(Path(path), name)
    if name == BUILT_IN:
        return Found(built_in(), BUILT_IN, built_in=True)
    if file := _weights_file(name):
        return Found(file.parent, str(file.parent))
    if os.path.exists(path):
        raise ModelMissing(f"{name} is a file, and a model is a folder.", field=FIELD)
    if REPO_NAME.fullmatch(name) and os.path.isdir(home(name)):
        return Found(home(name), name)
    if _is_meant_as_a_folder(name):
        raise NoSuchFolder(name)
    if REPO_NAME.fullmatch(name):
        raise ModelMissing(
            f"There is no folder {name} and no downloaded model of that name; run `fish download {name}`.", field=FIELD
        )
    return _bare(name)


def _bare(name: str) -> Found:
    """Return the one downloaded repository called `name`, of any owner."""
    same = [path for path in sorted(_library().glob("*/*")) if path.name == name]
    if len(same) > 1:
        owners = " or ".join(_downloaded(path).name for path in same)
        raise ModelMissing(f"Several downloaded models are called {name}: name one as {owners}.", field=FIELD)
    if not same:
        remedy = "run `fish download`" if name == REPO.partition("/")[2] else f"there is {_names_here()}"
        raise ModelMissing(f"There is no folder {name} and no downloaded model of that name; {remedy}.", field=FIELD)
    return _downloaded(same[0])


def _weights_file(name: str) -> Path | None:
    path = os.path.expanduser(name)
    return Path(path) if path.endswith(".pth") and os.path.isfile(path) else None


def _is_meant_as_a_folder(name: str) -> bool:
    """Return whether a name is no `owner/name`, or starts with a folder that models usually lie in."""
    first = name.partition("/")[0]
    if not REPO_NAME.fullmatch(name):
        return "/" in name or name.startswith(("~", "."))
    return first in ("checkpoints", "models", "weights") or os.path.isdir(first)


def _names_here() -> str:
    return ", ".join(found.name for found in models())


def _library() -> Path:
    return folder("data") / "models"


def _downloaded(path: Path) -> Found:
    return Found(path, f"{path.parent.name}/{path.name}")


def _has_any(path: Path) -> bool:
    return any((path / name).exists() for name in (*NEEDED, PLAN, RECORD))


def _first_download_unfinished(path: Path) -> bool:
    """Return whether the first download into the folder is running or was interrupted."""
    return (path / PLAN).exists() and not (path / RECORD).exists() and fault(path) is not None
