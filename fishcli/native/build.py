"""Compile and load the C++ of `csrc`, the parts of the models that a CPU repeats for every frame.

The library is compiled once on the machine that runs it, and kept in the cache folder under a name that changes with
the sources, the compiler and the processor:

    fish-KEY.so      the library, loaded only where nobody else could have written it
    fish-KEY.sum     its SHA-256, so that a damaged one is compiled again
    fish-KEY.failed  the reason why it cannot be compiled, so that a day goes by until it is tried again

Without a compiler the models run in PyTorch.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import filelock

from fishcli import files
from fishcli.native import compiler, structs, trust
from fishcli.native.compiler import Command, CompilerFailed
from fishcli.native.compiler import Unavailable as Unavailable

log = logging.getLogger(__name__)

_SOURCES = Path(__file__).parent / "csrc"
_LOCK_TIMEOUT = 600  # seconds
_DAY = 86_400  # seconds
# No contraction: the compiler fuses some instances of a kernel and not others; `fma` in simd.hpp does it by name.
# errno is not read, and no trap is set.
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-pthread", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off")
_SEARCHED = ("CPATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH")  # variables that change which headers and libraries count


def is_built() -> bool:
    """Return whether the library is compiled, and can be loaded safely."""
    try:
        return _is_trusted(_target())
    except (Unavailable, OSError):
        return False


def why_not() -> str | None:
    """Return why `load` is sure to fail; None where it may succeed."""
    try:
        target = _target()
        _raise_if_it_failed(target)
    except Unavailable as error:
        return str(error)
    return None


@functools.cache
def load() -> ctypes.CDLL:
    """Return the library; the first call on a machine compiles it (about ten seconds). Raises Unavailable."""
    target = _target()
    if (library := _ready(target)) is not None:
        return library
    _raise_if_it_failed(target)
    try:
        trust.make_private(target.parent)
        if reason := trust.why_not_folder(target.parent):
            raise PermissionError(reason)
        # A second process waits and finds the library; the system frees the lock of a process that is killed.
        with filelock.FileLock(target.with_suffix(".lock"), timeout=_LOCK_TIMEOUT):
            if (library := _ready(target)) is not None:
                return library
            _raise_if_it_failed(target)
            return _made(target)
    except OSError as error:
        log.warning(
            "The compiled code cannot be kept (%s), so each start compiles it again; set FISHCLI_CACHE_DIR to a folder "
            "that only you can write.",
            error,
        )
    return _made_for_this_process(target.name)


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


def _ready(target: Path) -> ctypes.CDLL | None:
    """Return the library of an earlier start; None where there is none that is whole and that only we could write."""
    try:
        if not _is_trusted(target):
            return None
        if target.with_suffix(".sum").read_text() == _sum(target):
            return _opened(target)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.debug("%s cannot be used (%s)", target, error)
        return None
    log.debug("%s is damaged", target)
    return None


def _is_trusted(target: Path) -> bool:
    """Return whether the library exists, and nobody else could have written it. Raises OSError where it is missing."""
    reason = trust.why_not_folder(target.parent) or trust.why_not_file(target)
    if reason:
        log.debug("%s is not loaded: %s", target, reason)
    return reason is None


def _made(target: Path) -> ctypes.CDLL:
    """Compile the library into a folder that nobody else can write, under its lock. Raises Unavailable or OSError."""
    command = found_compiler()
    log.info("Compiling for this processor, once; it takes about %s.", compiler.duration(command))
    files.discard_leftovers(target)
    folder = target.with_suffix(".build")
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    target.unlink(missing_ok=True)
    folder.mkdir(mode=0o700)
    try:
        with files.replacing(target) as temporary:
            compile_sources(command, temporary, folder, compiler.tuning())
            temporary.chmod(0o500)
            target.with_suffix(".sum").write_text(_sum(temporary))
        return _loaded(target)
    except CompilerFailed as error:
        target.with_suffix(".failed").write_text(str(error))
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _made_for_this_process(name: str) -> ctypes.CDLL:
    """Compile the library into a temporary folder, which is gone once it is loaded. Raises Unavailable."""
    try:
        with tempfile.TemporaryDirectory(prefix="fishcli-") as folder:  # only this user can open it
            path = Path(folder, name)
            compile_sources(found_compiler(), path, Path(folder), compiler.tuning())
            return _loaded(path)
    except OSError as error:
        raise Unavailable(f"it cannot be made or used ({error})") from error


def _loaded(path: Path) -> ctypes.CDLL:
    """Open a library that was just compiled. Raises Unavailable: another attempt would end in the same way."""
    try:
        return _opened(path)
    except OSError as error:
        raise CompilerFailed(f"the compiled library cannot be loaded ({error})") from error


def _raise_if_it_failed(target: Path) -> None:
    """Raise CompilerFailed where this compiler refused these sources within a day."""
    path = target.with_suffix(".failed")
    try:
        if time.time() - path.stat().st_mtime < _DAY:
            raise CompilerFailed(path.read_text(errors="replace"))
    except OSError:
        return


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


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


def compile_sources(command: Command, target: Path, folder: Path, tuning: str) -> None:
    """Compile each source in a process of its own, and link the objects in `folder`, which exists.

    `tuning` is left out where the compiler does not know it. Raises Unavailable.
    """
    tuned = (tuning,) if compiler.accepts(command, tuning, folder) else ()
    flags = (*command, *_FLAGS, *tuned, f"-I{_SOURCES}")
    made = {source: f"{folder}/{source.stem}.o" for source in sorted(_SOURCES.rglob("*.cpp"))}
    compiler.run([(*flags, "-c", str(source), "-o", out) for source, out in made.items()], folder)
    compiler.run([(*flags, "-shared", *made.values(), "-o", str(target))], folder)


def found_compiler() -> Command:
    """Return the command of the compiler. Raises Unavailable where there is none."""
    command = compiler.find()
    if command is None:
        raise Unavailable(f"{compiler.why_missing()}; `pip install 'fishcli[native]'` brings one")
    return command


def _target() -> Path:
    """Return the path of the library. Raises Unavailable where none can be compiled."""
    if sys.platform == "win32":
        raise Unavailable("it is not made for Windows")
    key = _key(found_compiler())
    return Path(os.path.realpath(files.folder("cache")), "native", f"fish-{key}.so")


@functools.cache
def _key(command: Command) -> str:
    """Return a digest of the sources, the compiler, its flags, the C library and the processor. Raises Unavailable."""
    used = [*command, compiler.version(command), *_FLAGS, compiler.tuning(), _processor(), *platform.libc_ver()]
    used += [os.environ.get(name, "") for name in _SEARCHED]
    digest = hashlib.sha256("\n".join(used).encode(errors="surrogateescape"))
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
