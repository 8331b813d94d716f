"""Compiling and loading: which compiler, what is kept, and that nothing is loaded that others could have written."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fishcli.engine import load
from fishcli.native import build, compiler, trust
from fishcli.runners.eager import Eager

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason="there is no C++ compiler")

# A library that says that it was loaded, as one would that somebody planted.
PLANTED = """
#include <stdio.h>
__attribute__((constructor)) static void loaded(void) { fprintf(stderr, "PLANTED CODE runs\\n"); }
"""


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty cache folder, and no library loaded yet."""
    monkeypatch.setenv("FISHCLI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "log", logging.getLogger("test_build"))  # which the command line does not silence
    build.load.cache_clear()
    yield tmp_path / "cache"
    build.load.cache_clear()


@pytest.fixture(scope="session")
def library():
    """The library that all tests share: a copy of it saves the seconds that compiling takes."""
    build.load.cache_clear()  # it may have come from the cache folder of one test
    build.load()
    return build._target()


@pytest.fixture
def compiling(monkeypatch, library):
    """Have the library copied rather than compiled, and return the list of the copies."""
    made = []

    def copy(command, target, folder, tuning):
        shutil.copyfile(library, target)
        made.append(target)

    monkeypatch.setattr(build, "compile_sources", copy)
    return made


def modes(folder: Path) -> dict[str, int]:
    return {path.suffix: path.stat().st_mode & 0o777 for path in folder.iterdir()}


def again():
    """Load as the next process does."""
    build.load.cache_clear()
    return build.load()


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_the_library_is_private_under_any_umask(cache, compiling, umask):
    before = os.umask(umask)
    try:
        build.load()
    finally:
        os.umask(before)
    assert modes(cache)[""] == 0o700  # native
    assert cache.stat().st_mode & 0o777 == 0o700
    assert modes(cache / "native")[".so"] == 0o500
    assert set(modes(cache / "native")) == {".so", ".sum", ".lock"}
    assert build.is_built()
    again()
    assert len(compiling) == 1


def open_folder(cache: Path) -> None:
    (cache / "native").chmod(0o777)


def open_group(cache: Path) -> None:
    (cache / "native").chmod(0o770)


def open_file(cache: Path) -> None:
    next((cache / "native").glob("*.so")).chmod(0o720)


def open_cache(cache: Path) -> None:
    cache.chmod(0o777)


def other_owner_of_the_file(cache: Path) -> None:
    os.chown(next((cache / "native").glob("*.so")), 65534, 65534)


def other_owner_of_the_folder(cache: Path) -> None:
    os.chown(cache / "native", 65534, 65534)


def other_owner_of_the_cache(cache: Path) -> None:
    os.chown(cache, 65534, 65534)


def link_to_a_folder(cache: Path) -> None:
    (cache / "native").rename(cache / "elsewhere")
    (cache / "native").symlink_to("elsewhere")


def link_to_a_file(cache: Path) -> None:
    path = next((cache / "native").glob("*.so"))
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


OPENED = [open_folder, open_group, open_file, open_cache, link_to_a_folder, link_to_a_file]
OWNED = [other_owner_of_the_file, other_owner_of_the_folder, other_owner_of_the_cache]


@pytest.mark.parametrize("change", [*OPENED, *OWNED])
def test_what_others_could_have_written_is_not_loaded(cache, compiling, change):
    build.load()
    if change in OWNED and os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    change(cache)
    for planted in (cache / "native").glob("*.so"):
        assert trust.why_not_folder(cache / "native") or trust.why_not_file(planted)
    assert not build.is_built()
    again()
    assert len(compiling) == 2


def test_planted_code_does_not_run(cache, compiling, tmp_path, capfd, caplog):
    """In a folder for everybody, such as /tmp, where the name of the library can be computed by anybody."""
    cache.mkdir()
    cache.chmod(0o1777)
    planted = build._target()
    planted.parent.mkdir()
    planted.parent.chmod(0o777)
    (tmp_path / "planted.cpp").write_text(PLANTED)
    command = [*build.found_compiler(), "-fPIC", "-shared", str(tmp_path / "planted.cpp"), "-o", str(planted)]
    subprocess.run(command, check=True)
    planted.with_suffix(".sum").write_text(build._sum(planted))
    planted.chmod(0o777)
    if os.geteuid() == 0:
        for path in (planted, planted.parent):
            os.chown(path, 65534, 65534)
    build.load()
    assert "PLANTED" not in capfd.readouterr().err
    assert len(compiling) == 1
    if os.geteuid() == 0:  # else the folder is ours, and closed
        assert [each.levelname for each in caplog.records if "belongs to another user" in each.message] == ["WARNING"]


def test_the_sticky_bit_protects_our_folder(cache, compiling):
    cache.mkdir()
    cache.chmod(0o1777)
    build.load()
    again()
    assert len(compiling) == 1


def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path, compiling, caplog):
    """Each start compiles for itself, into a folder that is gone afterwards."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FISHCLI_CACHE_DIR", str(tmp_path / "file"))
    assert build.load().fish_struct_size
    assert "cannot be kept" in caplog.text
    assert "set FISHCLI_CACHE_DIR" in caplog.text
    assert not compiling[0].parent.exists()


def test_a_library_in_a_read_only_folder_is_used(cache, compiling):
    build.load()
    (cache / "native").chmod(0o500)  # root can write there all the same
    next((cache / "native").glob("*.lock")).unlink()
    again()
    (cache / "native").chmod(0o700)
    assert len(compiling) == 1
    assert not list((cache / "native").glob("*.lock"))  # nothing was locked


@pytest.mark.parametrize("damage", ["half", "nothing", "a bit", "no sum"])
def test_a_damaged_library_is_compiled_again_once(cache, compiling, damage, tmp_path):
    build.load()
    path = next((cache / "native").glob("*.so"))
    whole = path.read_bytes()
    spoilt = {
        "half": whole[: len(whole) // 2],
        "nothing": b"",
        "a bit": whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:],
    }
    path.unlink()  # it is mapped into this process
    path.write_bytes(spoilt.get(damage, whole))
    path.chmod(0o500)
    if damage == "no sum":
        path.with_suffix(".sum").unlink()
    again()
    again()
    assert len(compiling) == 2
    assert path.read_bytes() == whole


def test_a_library_that_the_loader_refuses_is_compiled_again(cache, compiling):
    """As one that was built against another C library. (The loader knows an open library by its path: another one.)"""
    build.load()
    path = next((cache / "native").glob("*.so")).with_name("fish-0.so")
    path.write_bytes(b"\x7fELF")
    path.chmod(0o500)
    path.with_suffix(".sum").write_text(build._sum(path))
    assert build._ready(path) is None


def test_two_at_once_compile_once(cache):
    environment = {**os.environ, "FISHCLI_CACHE_DIR": str(cache)}
    program = "import logging; logging.basicConfig(level='INFO'); from fishcli.native import build; build.load()"
    both = [subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=-1, text=True) for _ in range(2)]
    said = "".join(process.communicate(timeout=300)[1] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said.count("Compiling for this processor") == 1
    assert len(list((cache / "native").glob("*.so"))) == 1


# Which compiler


def script(path: Path, *lines: str) -> str:
    """Write a program that calls itself a compiler when it is asked for its version."""
    path.write_text("\n".join(["#!/bin/sh", '[ "$1" = --version ] && echo one 1.0 && exit', *lines, ""]))
    path.chmod(0o755)
    return str(path)


def test_what_no_compiler_leaves(monkeypatch, micro, caplog):
    """Without a compiler PyTorch does the work, and a line says why it is slower."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    engine = load(micro, device="cpu", compile=True)
    assert isinstance(engine.runner, Eager)
    assert "no-such-compiler" in caplog.text


def test_a_compiler_that_fails_is_not_asked_again(monkeypatch, tmp_path, cache):
    asked = tmp_path / "asked"
    broken = script(tmp_path / "broken", f"echo . >> {asked}", "echo step.cpp:1: error: no >&2", "exit 1")
    monkeypatch.setenv("CXX", broken)
    for _ in range(2):
        with pytest.raises(build.Unavailable, match=r"step\.cpp:1: error: no"):
            build.load()
    count = len(asked.read_text().split())
    assert "step.cpp:1: error: no" in build.why_not()
    assert set(modes(cache / "native")) == {".lock", ".failed"}
    with pytest.raises(build.Unavailable, match="error: no"):
        build.load()
    assert len(asked.read_text().split()) == count
    failed = next((cache / "native").glob("*.failed"))
    os.utime(failed, (0, time.time() - 2 * build._DAY))
    with pytest.raises(build.Unavailable, match="error: no"):
        build.load()
    assert len(asked.read_text().split()) > count


def test_a_compiler_without_memory_is_asked_again(monkeypatch, tmp_path, cache):
    killed = script(
        tmp_path / "killed", "echo 'c++: fatal error: Killed signal terminated program cc1plus' >&2", "exit 1"
    )
    monkeypatch.setenv("CXX", killed)
    with pytest.raises(build.Unavailable, match="Killed"):
        build.load()
    assert set(modes(cache / "native")) == {".lock"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("no-such-compiler", "CXX is no-such-compiler, which is not found"),
        ("ccache no-such", None),
        ("'", "CXX is ', which is not found"),
        ("TMP/nonsense", "nonsense cannot be run"),
    ],
)
def test_a_compiler_that_cannot_be_run(monkeypatch, tmp_path, given, said):
    (tmp_path / "nonsense").write_bytes(b"\0nonsense")
    (tmp_path / "nonsense").chmod(0o755)
    monkeypatch.setenv("CXX", given.replace("TMP", str(tmp_path)))
    if said is None:
        said = "" if shutil.which("ccache") else "ccache no-such, which is not found"
    with pytest.raises(build.Unavailable, match=said):
        build.load()


def test_a_compiler_with_arguments(monkeypatch, tmp_path):
    """As with `CXX="ccache g++"`; a language of the user's gives the same library."""
    real = shutil.which("g++") or shutil.which("clang++")
    wrapper = tmp_path / "cache me"
    wrapper.write_text('#!/bin/sh\nexec "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", f"'{wrapper}' {real}")
    assert compiler.find() == (str(wrapper), real)
    assert build.why_not() is None
    target = build._target()
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    compiler.version.cache_clear()
    build._key.cache_clear()
    assert build._target() == target


def test_a_flag_that_the_compiler_does_not_know_is_left_out(tmp_path):
    """As `-mcpu=native` for some processors."""
    line = 'for each; do [ "$each" = -mcpu=native ] && echo "error: unknown -mcpu" >&2 && exit 1; done'
    command = (script(tmp_path / "c++", line, f'echo "$*" >> {tmp_path}/asked'),)
    build.compile_sources(command, tmp_path / "fish.so", tmp_path, "-mcpu=native")
    assert "-mcpu" not in (tmp_path / "asked").read_text()
    build.compile_sources(command, tmp_path / "fish.so", tmp_path, "-mtune=native")
    assert (tmp_path / "asked").read_text().count("-mtune=native") == 2 + len(list(build._SOURCES.rglob("*.cpp")))


PROGRAM = """
import os, signal, sys
from fishcli.native import build
def leave(*_): os._exit(130)
def end(*_): raise SystemExit(143)
signal.signal(signal.SIGINT, leave)
signal.signal(signal.SIGTERM, end)
build.load()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_compilers(tmp_path, cache, number, code):
    """And the processes that they started, which hold the other end of a pipe for as long as they live."""
    os.mkfifo(tmp_path / "pipe")
    slow = script(
        tmp_path / "slow", 'case "$*" in *fsyntax*) exit ;; esac', f"(echo; sleep 600) > {tmp_path}/pipe & wait"
    )
    environment = {**os.environ, "CXX": slow}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment)
    with (tmp_path / "pipe").open() as pipe:
        assert pipe.readline()  # a compiler works
        process.send_signal(number)
        assert process.wait(60) == code
        pipe.read()  # ends when the last of them has
