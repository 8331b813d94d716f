"""Find a server that this user runs on this machine, by a file that only this user can have written.

`fish serve` announces itself in a folder of the user's (mode 0700), in a file of its own, PID.json. No port is probed,
since anyone may listen on one. And no recording is sent before the server has proven that it knows the key in the file
(`FishClient.prove`): someone else may listen on the port once the server is gone. The server answers `GET
/v1/health?nonce=N` with the header `X-Fish-Proof`, the HMAC-SHA256 of the nonce under the key, in hex.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fishcli
from fishcli import files
from fishcli.checkpoints import local
from fishcli.native import build, trust

_NAME = re.compile(r"[1-9][0-9]{0,9}\.json")
_LARGEST = 65_536  # bytes of a record
_FORMAT = 1


@dataclass(frozen=True)
class Identity:
    """All that the audio of a request depends on besides the request: the files, and how they are run.

    `files` are (path, bytes, modification time in ns). `device` to `threads` are the settings as given. `native` tells
    whether a CPU runs the C++ kernels, in a server, or could, in a command that has not loaded its model; None: the
    model is not on a CPU.
    """

    program: str
    files: tuple[tuple[str, int, int], ...]
    device: str
    dtype: str
    quantize: str
    compile: bool | None
    threads: int | None
    native: bool | None

    def serves(self, wanted: Identity) -> bool:
        """Return whether a server of this identity speaks as the wanted model would, bit by bit."""
        if dataclasses.replace(self, compile=None, native=None) != dataclasses.replace(
            wanted, compile=None, native=None
        ):
            return False
        if self.native:
            return wanted.compile is not False and bool(wanted.native)
        same = self.compile == wanted.compile
        return same and (self.native is None or self.compile is False or not wanted.native)


@dataclass(frozen=True)
class LocalServer:
    """A server of this user on this machine. `key` is for its own user's programs."""

    pid: int
    port: int
    key: str = dataclasses.field(repr=False)
    identity: Identity

    @property
    def url(self) -> str:
        """The address on which it listens, of this machine alone."""
        return f"http://127.0.0.1:{self.port}"


def identity(
    model: str | Path | None = None,
    codec: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "auto",
    compile: bool | None = None,
    threads: int | None = None,
) -> Identity:
    """Return the identity of a model that `fishcli.load` would load with these arguments, without loading it.

    Raises ModelMissing.
    """
    codec = codec or local.codec_of(model)
    found = local.find(model, tuple(name for name in local.NEEDED if codec is None or name != local.CODEC))
    codec_path = Path(codec) if codec else found.path / local.CODEC
    paths = [found.path / name for name in local.FILES if name not in (local.CODEC, "codec.json")]
    stats = [_file(path) for path in [*paths, codec_path, codec_path.with_name("codec.json")] if path.is_file()]
    program = f"{fishcli.__version__} {Path(fishcli.__file__).resolve().parent}"
    return Identity(program, tuple(stats), device, dtype, quantize, compile, threads, build.is_built())


def new_key() -> str:
    """Return a key for a server to announce."""
    return secrets.token_hex(32)


@contextlib.contextmanager
def announced(port: int, key: str, identity: Identity) -> Iterator[None]:
    """Announce this process, which serves a model on a port of 127.0.0.1, to the commands of the same user.

    `identity` has in `native` how the model is run. Nothing is announced where the folder is not safe.
    """
    folder = _folder(make=True)
    if folder is None:
        yield
        return
    path = folder / f"{os.getpid()}.json"
    record = {"format": _FORMAT, "pid": os.getpid(), "started": _started(os.getpid()), "port": port, "key": key}
    record["identity"] = dataclasses.asdict(identity)
    with contextlib.suppress(OSError):  # a full disk: the server is not found, and serves
        _write(path, json.dumps(record))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def find(wanted: Identity) -> LocalServer | None:
    """Return a running server of this user that speaks as the wanted model would; None where there is none."""
    return next((each for each in running() if each.identity.serves(wanted)), None)


def running() -> list[LocalServer]:
    """Return the servers of this user that run. The files of servers that have ended are removed."""
    folder = _folder(make=False)
    if folder is None:
        return []
    found = []
    for path in sorted(folder.iterdir()):
        if _NAME.fullmatch(path.name):
            with contextlib.suppress(OSError):
                if server := _read(path):
                    found.append(server)
    return found


def _folder(make: bool) -> Path | None:
    """Return the folder of the records; None where there is none, or another user could change or read it."""
    if not hasattr(os, "geteuid"):  # Windows
        return None
    given = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(given) / "fishcli" if given else files.folder("cache") / "run"
    try:
        if make:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
        status = folder.lstat()
        if trust.why_not_folder(folder) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            return None
    except OSError:
        return None
    return folder


def _write(path: Path, text: str) -> None:
    """Write a file that appears complete, with the mode 0600."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read(path: Path) -> LocalServer | None:
    """Return the server of a record if it runs; else remove the record. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            return None
        data = file.read(_LARGEST + 1)
    server, started = _parse(data)
    if server is None:
        return None
    if str(server.pid) != path.stem or not _runs(server.pid, started):
        path.unlink(missing_ok=True)
        return None
    return server


def _parse(data: bytes) -> tuple[LocalServer | None, str]:
    """Return the server in a record, and when it started; None for a record of another release."""
    try:
        record = json.loads(data)
        fields = record["identity"]
        fields["files"] = tuple(tuple(each) for each in fields["files"])
        server = LocalServer(int(record["pid"]), int(record["port"]), str(record["key"]), Identity(**fields))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None, ""
    usable = record.get("format") == _FORMAT and 0 < server.port < 65_536 and server.key
    return (server if usable else None), str(record.get("started", ""))


def _runs(pid: int, started: str) -> bool:
    """Return whether a process runs, is of this user, and is the one that started then, where the system tells."""
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):  # there is none, or it is of another user
        return False
    return _started(pid) == started


def _started(pid: int) -> str:
    """Return when a process started, in the clock ticks of Linux; "" where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]  # behind the name, which may hold anything


def _file(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns
