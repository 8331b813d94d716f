"""Kill a conversion at many points with SIGKILL: `python tests/kill_conversion.py [500]`, offline, no other set-up.

Each round a forked process loads the micro checkpoint, which converts it, and is killed: before some line of the
code that converts and writes, or after some time. What then lies in the cache must be whole or not be there, and
the next load must have the right tensors and leave nothing else behind. The rounds take an empty cache, one that
holds an older version, and one that is damaged, in turn.
"""

import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from fishcli import files
from fishcli.checkpoints import convert, local
from fishcli.engine import Engine
from fishcli.runners.plan import Plan
from fishcli.testing.checkpoint import make, micro

TRACED = {module.__file__ for module in (convert, files)}
SCENARIOS = ("empty", "older", "damaged")


def load(folder: Path) -> dict[str, torch.Tensor]:
    """Load the tensors of the language model as a command does."""
    engine = Engine(local.find(folder), folder / local.CODEC, Plan(torch.device("cpu"), torch.float32))
    return engine.lm.state_dict()


def load_until(folder: Path, line: float = float("inf"), seconds: float = float("inf")) -> tuple[bool, int, float]:
    """Load in a fork that is killed at a line or after a time; return whether it died, its lines and its seconds."""
    reader, writer = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if not child:
        lines = 0

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal lines
            if frame.f_code.co_filename not in TRACED:
                return None
            lines += event == "line"
            if lines > line:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        load(folder)
        sys.settrace(None)
        os.write(writer, lines.to_bytes(4, "little"))
        os._exit(0)
    os.close(writer)
    if seconds < float("inf"):
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as pipe:
        lines = int.from_bytes(pipe.read(), "little")
    assert lines or os.WIFSIGNALED(status), f"the load failed with {status}"
    return not lines, lines, time.monotonic() - start


def prepare(scenario: str, model: Path, older: bytes, kept: Path) -> None:
    """Prepare a round; `older` is the converted file of another version of the model."""
    shutil.rmtree(kept.parent, ignore_errors=True)
    if scenario != "empty":
        kept.parent.mkdir(parents=True)
        kept.write_bytes(older if scenario == "older" else older[: len(older) // 2])


def main(kills: int) -> None:
    torch.set_num_threads(1)  # threads do not live through a fork
    logging.getLogger("fishcli").setLevel(logging.ERROR)  # each damaged file is worth a warning
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["FISHCLI_CACHE_DIR"] = f"{scratch}/cache"
        folder = Path(scratch) / "model"
        model, kept = folder / "model.pth", convert.converted_file(folder / "model.pth", torch.float32)
        make(folder, micro())
        load(folder)
        older = kept.read_bytes()
        state = torch.load(model, weights_only=True)
        torch.save({key: tensor * 2 for key, tensor in state.items()}, model)
        expected = {key: tensor.clone() for key, tensor in load(folder).items()}
        assert kept.read_bytes() != older
        points = {}
        for scenario in SCENARIOS:
            prepare(scenario, model, older, kept)
            points[scenario] = load_until(folder)[1:]
        died = run(kills, folder, older, kept, expected, points)
    print(f"{died} kills among {points}: no corrupt file was used, each next run repaired the cache")


def run(kills: int, folder: Path, older: bytes, kept: Path, expected: dict[str, torch.Tensor], points: dict) -> int:
    draw, died, half_written = random.Random(11), 0, 0
    while died < kills:
        scenario = SCENARIOS[died % 3]
        lines, seconds = points[scenario]
        prepare(scenario, folder / "model.pth", older, kept)
        point = {"line": draw.randrange(lines)} if draw.random() < 0.7 else {"seconds": draw.random() * seconds}
        died += load_until(folder, **point)[0]
        half_written += any(kept.parent.glob(".*")) if kept.parent.exists() else 0
        if scenario == "empty" and kept.exists():
            assert convert.verify(kept), point
        tensors = load(folder)
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[key], expected[key]) for key in expected), point
        assert convert.verify(kept)
        left = {path.name for path in kept.parent.iterdir()} - {kept.name, kept.with_suffix(".lock").name}
        if left:
            raise AssertionError(f"{left} was left behind at {point}")
    assert half_written or kills < 20, "no kill came in the middle of writing"
    return died


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
