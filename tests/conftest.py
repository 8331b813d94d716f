"""Real checkpoints for the tests: a seeded random one of the real layout, small enough to make here."""

import io
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

TESTS = Path(__file__).parent
DATA = TESTS / "data"
TINY = TESTS.parent / "fishcli" / "assets" / "tiny"


_STRANGE = re.compile(r"FISHCLI_(?!TEST_).*|HF_.*|NO_COLOR|FORCE_COLOR|COLUMNS")


@pytest.hookimpl(optionalhook=True)  # a machine with a GPU needs no pytest-xdist
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes for the whole suite; for a part of it, such as a file or `-m full`, none but this one."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
    return 2 if whole and "not slow" in config.option.markexpr else 0


def pytest_sessionstart() -> None:
    """Forget what the person who runs the tests has set, before the hub's library reads its part on import."""
    for name in filter(_STRANGE.fullmatch, list(os.environ)):
        del os.environ[name]
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"  # the other process needs a core, too; before torch is imported


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory):
    """Caches, data and settings of the person who runs the tests are neither read nor written."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("CACHE", "CONFIG", "DATA"):
            patch.setenv(f"FISHCLI_{kind}_DIR", str(home / kind.lower()))
        patch.delenv("XDG_RUNTIME_DIR", raising=False)  # where a server of that person may be announced
        yield


@pytest.fixture
def no_voice_is_kept() -> Iterator[None]:
    """Fail where a test leaves keys and values in the prefix cache."""
    from fishcli import files
    from fishcli.engine import prefix_cache

    def voices() -> set[Path]:
        prefix_cache.flush()
        return set((files.folder("cache") / "voices").glob("*"))

    before = voices()
    yield
    assert voices() <= before


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: on a busy machine those of small layers wait for each other far longer than they work."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory):
    """Make a seeded random checkpoint of the real layout: make_checkpoint("--size", "micro", ...) -> its folder."""

    from fishcli.testing import checkpoint

    def make(*arguments: str) -> Path:
        folder = tmp_path_factory.mktemp("checkpoint")
        checkpoint.main([str(folder), *arguments])
        return folder

    return make


@pytest.fixture(scope="session")
def micro(make_checkpoint) -> Path:
    """The micro checkpoint that `data/micro.npz` holds the reference's numbers for."""
    return make_checkpoint("--size", "micro")


class Reference(NamedTuple):
    """A checkpoint, and what the reference implementation computed with it, fp32 on a CPU."""

    folder: Path
    golden: dict[str, np.ndarray]
    texts: list[dict]  # texts with what its cleaning and tokenizer made of them


def _reference(size: str, folder: Path) -> Reference:
    with np.load(DATA / f"{size}.npz") as numbers:
        golden = dict(numbers)
    return Reference(folder, golden, json.loads((DATA / f"{size}_text.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def micro_reference(micro) -> Reference:
    return _reference("micro", micro)


@pytest.fixture(scope="session", params=["micro", pytest.param("full", marks=pytest.mark.full)])
def reference(request) -> Reference:
    """The micro checkpoint and, with `-m full`, the full-size one in the folder FISHCLI_TEST_FULL."""
    if request.param == "micro":
        return request.getfixturevalue("micro_reference")
    return _reference("full", Path(os.environ["FISHCLI_TEST_FULL"]))


@pytest.fixture(scope="session")
def golden(micro_reference) -> dict[str, np.ndarray]:
    """The reference's numbers for the micro checkpoint."""
    return micro_reference.golden


@pytest.fixture(scope="session")
def golden_text(micro_reference) -> list[dict]:
    """The reference's texts for the micro checkpoint."""
    return micro_reference.texts


class Ran(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def fish(monkeypatch, capfd, tmp_path):
    """Run the command line in this process, in an empty folder: fish("say", "Hello") -> Ran."""
    from fishcli.cli import console
    from fishcli.cli.main import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "argv", ["fish", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        monkeypatch.setattr(console, "flags", console.Flags())
        capfd.readouterr()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        with pytest.raises(SystemExit) as ended:
            main()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        logger = logging.getLogger("fishcli")  # as it was before the command showed what is logged
        logger.handlers[:] = [each for each in logger.handlers if not isinstance(each, console.LogHandler)]
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
        return Ran(ended.value.code, *capfd.readouterr())

    return run


@pytest.fixture
def heard(monkeypatch, tmp_path) -> Path:
    """Make a script the only player, and return the file that holds the sound it was given."""
    if os.name == "nt":
        pytest.skip("the player is a script")
    player, sound = tmp_path / "programs" / "ffplay", tmp_path / "heard"
    player.parent.mkdir()
    player.write_text(f"#!{sys.executable}\nimport sys; open({str(sound)!r}, 'wb').write(sys.stdin.buffer.read())")
    player.chmod(0o755)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    monkeypatch.setenv("PULSE_SERVER", "none")
    monkeypatch.setenv("PATH", str(player.parent))
    return sound
