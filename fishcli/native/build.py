"""Compile and load the C++ of `csrc`, the parts of the models that a CPU repeats for every frame.

The library is compiled once on the machine that runs it, and kept in the cache folder under a name that changes with
the sources, the compiler and the processor. Without a compiler the models run in PyTorch.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock

from fishcli import files
from fishcli.native import structs

log = logging.getLogger(__name__)

_SOURCES = Path(__file__).parent / "csrc"
_TIMEOUT = 600  # seconds; it takes about ten
# No contraction: the compiler fuses some instances of a kernel and not others; `fma` in simd.hpp does it by name.
# errno is not read, and no trap is set.
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-pthread", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off")


class Unavailable(Exception):
    """The reason why there is no compiled library, as a clause after a colon."""


def is_built() -> bool:
    """Return whether the library is compiled."""
    return why_not() is None and _target().exists()


def why_not() -> str | None:
    """Return why `load` is sure to fail; None where it may succeed."""
    try:
        _target()
    except Unavailable as error:
        return str(error)
    return None


@functools.cache
def load() -> ctypes.CDLL:
    """Return the library; the first call on a machine compiles it (about ten seconds). Raises Unavailable."""
    target = _target()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A second process waits and finds the library; the system frees the lock of a process that is killed.
        with filelock.FileLock(target.with_suffix(".lock"), timeout=_TIMEOUT):
            if not target.exists():
                log.info("Compiling for this processor, which takes about ten seconds, once.")
                files.discard_leftovers(target)
                with files.replacing(target) as temporary:
                    _compile(temporary, target.with_suffix(".build"), _tuned())
        return _opened(target)
    except OSError as error:
        raise Unavailable(f"{target} cannot be made or used ({error})") from error


@functools.cache
def pool(threads: int) -> ctypes.c_void_p:
    """Return the thread pool that every model of this process shares; it sleeps between two frames.

    Raises Unavailable. A warning says so where the system starts fewer threads.
    """
    library = load()
    make, count = library.fish_pool_new, library.fish_pool_threads
    make.restype, make.argtypes = ctypes.c_void_p, [ctypes.c_int]
    count.restype, count.argtypes = ctypes.c_int, [ctypes.c_void_p]
    made = ctypes.c_void_p(make(threads))
    if not made:
        raise Unavailable("there is no memory left for the thread pool")
    if (started := count(made)) < threads:
        log.warning("The system started only %d of %d threads.", started, threads)
    return made


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=lambda: pool.cache_clear())


def check(status: int, component: str) -> None:
    """Raise the error that a call for a component ended with: `Status` in status.hpp."""
    if status == 1:
        raise MemoryError(f"There is no memory left for the {component}.")
    if status == 2:
        raise RuntimeError(f"The {component} was loaded before fork(), which copies no threads: load it after.")
    if status:
        raise ValueError(_INVALID[status])


_INVALID = {
    3: "columns: a token or code that the model does not have",
    4: "slots, positions: a position outside of the KV cache or beyond the model's context",
    5: "history: a negative entry",
}


def forget(memory: Iterable[tuple[int, int]]) -> None:
    """Give the pages of mapped files back to the system, which can read them again: (address, bytes) each.

    Memory that is not mapped from a file stays, and so does all of it on a system without /proc.
    """
    give_back, files_at = load().fish_forget, _mapped_files()
    give_back.restype, give_back.argtypes = None, [ctypes.c_void_p, ctypes.c_int64]
    for address, size in memory:
        if any(address in each and address + size <= each.stop for each in files_at):
            give_back(address, size)


def _mapped_files() -> list[range]:
    """Return the addresses at which files are mapped into this process."""
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:
        return []
    fields = [line.split(maxsplit=5) for line in lines]  # addresses, permissions, offset, device, inode, path
    places = [each[0].split("-") for each in fields if len(each) == 6 and each[5].startswith("/")]
    return [range(int(start, 16), int(end, 16)) for start, end in places]


def compiler() -> str | None:
    """Return the path of the C++ compiler: that of `CXX`, else the system's usual one."""
    usual = ("clang++", "c++") if sys.platform == "darwin" else ("g++", "c++", "clang++")
    given = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, (given,) if given else usual)), None)


def _opened(path: Path) -> ctypes.CDLL:
    """Open a library and compare its structures with ours. Raises OSError, or Unavailable where one differs."""
    library = ctypes.CDLL(str(path))
    size_of = library.fish_struct_size
    size_of.restype, size_of.argtypes = ctypes.c_int64, [ctypes.c_char_p]
    for structure in structs.ALL:
        theirs, ours = size_of(structure.__name__.encode()), ctypes.sizeof(structure)
        if theirs != ours:
            raise Unavailable(f"the structure {structure.__name__} has {theirs} bytes in C++ and {ours} in Python")
    return library


def _compile(target: Path, folder: Path, tuning: str) -> None:
    """Compile each source in a process of its own, and link the objects in `folder`.

    A process that is killed leaves the folder to the next one.
    """
    command = [str(compiler()), *_FLAGS, tuning, f"-I{_SOURCES}"]
    folder.mkdir(exist_ok=True)
    try:
        with ThreadPoolExecutor() as threads:
            made = {source: f"{folder}/{source.stem}.o" for source in sorted(_SOURCES.rglob("*.cpp"))}
            list(threads.map(_run, ([*command, "-c", str(source), "-o", out] for source, out in made.items())))
        _run([*command, "-shared", *made.values(), "-o", str(target)])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{command[0]} did not end in {_TIMEOUT} s") from error
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:200])
        raise Unavailable(f"{command[0]} failed ({reason or done.returncode})")


def _tuned() -> str:
    """Return the compiler's flag for the instruction sets of this processor."""
    return "-march=native" if platform.machine().lower() in ("x86_64", "amd64") else "-mcpu=native"


def _target() -> Path:
    """Return the path of the library. Raises Unavailable where none can be compiled."""
    if sys.platform == "win32":
        raise Unavailable("it is not made for Windows")
    path = compiler()
    if path is None:
        raise Unavailable(f"there is no C++ compiler, {os.environ.get('CXX') or 'g++ or clang++'}")
    return files.folder("cache") / "native" / f"fish-{_key(path)}.so"


@functools.cache
def _key(path: str) -> str:
    """Return a digest of the sources, the compiler, its flags and the processor."""
    version = subprocess.run([path, "--version"], capture_output=True, text=True, errors="replace").stdout
    digest = hashlib.sha256("\n".join([path, version, *_FLAGS, _tuned(), _processor()]).encode())
    for source in sorted(_SOURCES.rglob("*.[ch]pp")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _processor() -> str:
    """Return the processor's name and features: machines that share a home may need different libraries."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(("model name", "flags", "Features"))))
