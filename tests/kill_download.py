"""Kill a download at many points with SIGKILL: `python tests/kill_download.py [500]`, offline, with no other set-up.

Each round a forked process downloads from a hub on this machine and is killed at one of the points where it
opens, moves or removes a file, or has received a block. Then no folder may pass for whole that is not one
commit byte for byte, and the next run must heal it. The rounds take a first download, an update to another
commit with files of the same sizes, and the repair of a damaged file in turn.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from hub_server import Hub
from huggingface_hub import constants, get_session  # noqa: F401 (imported before the points are counted)

from fishcli.checkpoints import download, local

REPO = "owner/name"
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate"}  # audited before they happen
SIZES = {"config.json": 300, "model.pth": 600_000, "tokenizer.tiktoken": 90_000, "special_tokens.json": 900}


def checkpoint(seed: int) -> dict[str, bytes]:
    uniforms = random.Random(seed)
    return {name: uniforms.randbytes(size) for name, size in (SIZES | {local.CODEC: 150_000}).items()}


OLD, NEW = checkpoint(0), checkpoint(1)


@contextlib.contextmanager
def serving() -> Iterator[tuple[str, str, str]]:
    """Start a hub with two commits in another process: (address, old commit, new commit)."""
    server = Hub()
    commits = server.add(REPO, OLD), server.add(REPO, NEW)
    child = os.fork()
    if not child:
        server.server.serve_forever()
    server.server.server_close()
    try:
        yield (server.url, *commits)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def fetch(folder: Path, revision: str | None, reached: Callable[[str], None] = lambda kind: None) -> None:
    for _ in download.fetch(download.plan_download(REPO, folder, revision)):
        reached("block")


def fetch_until(folder: Path, revision: str, kind: str, last: float) -> dict[str, int] | None:
    """Download in a fork that is killed after `last` points of a kind; return their number, None if it was killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        counts = {"block": 0, "file": 0}

        def reached(point: str) -> None:
            counts[point] += 1
            if counts[kind] > last:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(lambda event, _: reached("file") if event in FILE_EVENTS else None)
        fetch(folder, revision, reached)
        os.write(writer, json.dumps(counts).encode())
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        counts = pipe.read()
    assert counts or os.WIFSIGNALED(status), f"the download failed with {status}"
    return json.loads(counts) if counts else None


def prepare(scenario: str, whole: Path, folder: Path) -> None:
    """Prepare a round; `whole` is a complete folder of the old commit."""
    shutil.rmtree(folder, ignore_errors=True)
    if scenario != "first":
        shutil.copytree(whole, folder)
    if scenario == "repair":
        (folder / "model.pth").write_bytes(bytes(SIZES["model.pth"]))


def require_whole(folder: Path) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert files in (OLD, NEW), "the folder is not one commit"


def main(kills: int) -> None:
    draw, died = random.Random(7), 0
    with serving() as (url, old, new), tempfile.TemporaryDirectory() as scratch:
        constants.ENDPOINT = url
        whole, folder = Path(scratch) / "whole", Path(scratch) / "model"
        fetch(whole, old)
        targets = {"first": old, "update": new, "repair": old}
        points = {}
        for scenario, target in targets.items():
            prepare(scenario, whole, folder)
            points[scenario] = fetch_until(folder, target, "file", float("inf"))
            require_whole(folder)
        while died < kills:
            scenario = list(targets)[died % 3]
            prepare(scenario, whole, folder)
            kind = draw.choice(["block", "file"])
            last = draw.randrange(points[scenario][kind])
            died += fetch_until(folder, targets[scenario], kind, last) is None
            if local.fault(folder) is None and not (scenario == "repair" and died_before_the_check(folder)):
                require_whole(folder)
            fetch(folder, None)
            assert local.fault(folder) is None
            require_whole(folder)
    print(f"{died} kills among {points}: no corrupt file was used, each next run repaired the folder")


def died_before_the_check(folder: Path) -> bool:
    """Return whether the damage in `repair` is still undetected: only a download reads the bytes."""
    return not any(path.name in ("mixed", "plan.json") for path in (folder / local.STATE).iterdir())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
