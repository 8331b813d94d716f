"""Real checkpoints for the tests: a seeded random one of the real layout, small enough to make here."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parent
DATA = TESTS / "data"
TINY = TESTS.parent / "fishcli" / "assets" / "tiny"


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory):
    """Caches, data and settings of the person who runs the tests are neither read nor written."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("CACHE", "CONFIG", "DATA"):
            patch.setenv(f"FISHCLI_{kind}_DIR", str(home / kind.lower()))
        yield


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory):
    """Make a seeded random checkpoint of the real layout: make_checkpoint("--size", "micro", ...) -> its folder."""

    def make(*arguments: str) -> Path:
        folder = tmp_path_factory.mktemp("checkpoint")
        subprocess.run([sys.executable, TESTS / "make_checkpoint.py", folder, *arguments], check=True)
        return folder

    return make


@pytest.fixture(scope="session")
def micro(make_checkpoint) -> Path:
    """The micro checkpoint that `data/micro.npz` holds the reference's numbers for."""
    return make_checkpoint("--size", "micro")


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """What the reference implementation computed with the micro checkpoint, fp32 on a CPU."""
    with np.load(DATA / "micro.npz") as numbers:
        return dict(numbers)


@pytest.fixture(scope="session")
def golden_text() -> list[dict]:
    """Texts with what the reference's cleaning and tokenizer made of them."""
    return json.loads((DATA / "micro_text.json").read_text(encoding="utf-8"))
