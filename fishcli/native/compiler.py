"""The C++ compiler of this machine: `CXX`, the system's, or the one in the package ziglang."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

_TIMEOUT = 600  # seconds; all of our sources take about ten

Command = tuple[str, ...]


class Unavailable(Exception):
    """The reason why there is no compiled library, as a clause after a colon."""


class CompilerFailed(Unavailable):
    """The compiler refused the sources. It would do so again."""


def find() -> Command | None:
    """Return the command of the compiler: that of `CXX`, else the system's, else ziglang's; None if there is none."""
    if given := os.environ.get("CXX", "").strip():
        return _command_of(given)
    usual = ("clang++", "c++") if sys.platform == "darwin" else ("g++", "c++", "clang++")
    path = next(filter(None, map(shutil.which, usual)), None)
    return (path,) if path else _zig()


def why_missing() -> str:
    """Return why `find` returns None."""
    given = os.environ.get("CXX", "").strip()
    return f"CXX is {given}, which is not found" if given else "no C++ compiler (g++ or clang++) was found"


def duration(command: Command) -> str:
    """Return how long our sources take. zig compiles the C++ library too."""
    return "a minute" if "ziglang" in command else "ten seconds"


def tuning() -> str:
    """Return the flag for the instruction sets of this processor."""
    return "-march=native" if platform.machine().lower() in ("x86_64", "amd64") else "-mcpu=native"


@functools.cache
def version(command: Command) -> str:
    """Return what a compiler says about itself, in any language of the user the same. Raises Unavailable."""
    try:
        ran = subprocess.run(
            [*command, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            env=_environment(None),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{shlex.join(command)} cannot be run ({getattr(error, 'strerror', error)})") from error
    return ran.stdout


def run(commands: Sequence[Sequence[str]], folder: Path) -> None:
    """Run compilers in parallel, and raise the error of the first that fails: CompilerFailed, or Unavailable.

    `folder` is for their messages and temporary files. Whatever ends this early ends the compilers too.
    """
    logs = [folder / f"{number}.log" for number in range(len(commands))]
    deadline = time.monotonic() + _TIMEOUT
    with _Processes() as processes:
        for command, log in zip(commands, logs, strict=True):
            processes.start(command, log, _environment(folder))
        for process, command, log in zip(processes.started, commands, logs, strict=True):
            _wait(process, command, log, deadline)


def accepts(command: Command, flag: str, folder: Path) -> bool:
    """Return whether a compiler knows a flag."""
    try:
        run([[*command, flag, "-x", "c++", "-fsyntax-only", os.devnull]], folder)
    except Unavailable:
        return False
    return True


def _command_of(text: str) -> Command | None:
    """Return the command in a variable such as `ccache g++`; None where its program is not found."""
    try:
        first, *rest = shlex.split(text)
    except ValueError:  # no closing quotation
        return None
    path = shutil.which(first)
    return (path, *rest) if path else None


def _zig() -> Command | None:
    return (sys.executable, "-m", "ziglang", "c++") if importlib.util.find_spec("ziglang") else None


def _environment(folder: Path | None) -> dict[str, str]:
    """Return the variables of a compiler: messages in English, and no file outside of `folder`."""
    mine = {"LC_ALL": "C"}
    if folder:
        mine |= {"TMPDIR": str(folder), "ZIG_LOCAL_CACHE_DIR": f"{folder}/zig", "ZIG_GLOBAL_CACHE_DIR": f"{folder}/zig"}
    return {**os.environ, **mine}


def _wait(process: subprocess.Popen[bytes], command: Sequence[str], log: Path, deadline: float) -> None:
    try:
        code = process.wait(max(0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{command[0]} did not end in {_TIMEOUT} s") from error
    if not code:
        return
    said = log.read_text(errors="replace")
    reason = next((line for line in said.splitlines() if "error" in line), said.strip()[:200])
    message = f"{command[0]} failed ({reason or code})"
    passing = code < 0 or any(each in said for each in ("Killed", "No space left", "out of memory", "signal"))
    raise Unavailable(message) if passing else CompilerFailed(message)


class _Processes:
    """Processes that end with the block, and on a signal that the program handles in it.

    Its handler may leave at once, without any clean-up, as that of the command line does on Ctrl-C.
    """

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        self._handlers: dict[int, Any] = {}
        self._starting = False
        self._pending: list[int] = []

    def __enter__(self) -> _Processes:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(before := signal.getsignal(number)):
                    self._handlers[number] = before
                    signal.signal(number, self._interrupted)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for process in self.started:
            process.wait()

    def start(self, command: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        """Start a process in a group of its own, with those that it starts itself, and its output in a file."""
        self._starting = True
        try:
            with log.open("wb") as output:
                streams: Any = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
                self.started.append(subprocess.Popen(command, **streams, env=environment, start_new_session=True))
        finally:
            self._starting = False
        for number in self._pending:
            self._interrupted(number, None)

    def end(self) -> None:
        """Kill each process that still runs, and its group."""
        for process in self.started:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self._starting:  # a process that is not in the list yet would not be ended
            self._pending.append(number)
            return
        self.end()
        self._handlers[number](number, frame)
