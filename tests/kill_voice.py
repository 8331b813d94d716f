"""Kill additions to the voice library at many points with SIGKILL: `python tests/kill_voice.py [500]`, offline.

Each round a forked process adds, changes, renames or removes a voice and is killed at one of the points where it opens,
moves or removes a file. Then the library must list whole voices alone, before or after the change, and the next writer
must leave nothing of the killed one.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sounds

from fishcli.voices import Library, Voice

FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.scandir", "os.listdir"}
AUDIO = [sounds.encoded(np.sin(np.arange(rate) / 9) / 3, rate) for rate in (8_000, 16_000, 24_000)]
TEXTS = ["one", "two", "three"]

CHANGES: dict[str, Callable[[Library], object]] = {
    "add": lambda library: library.add(AUDIO, TEXTS, title="New", id="new"),
    "update": lambda library: library.update("old", title="Changed", tags=["a"]),
    "remove": lambda library: library.remove("old"),
    "rename": lambda library: library.rename("old", "new"),
}


def until(change: Callable[[Library], object], folder: Path, last: float) -> int:
    """Change the library in a fork that is killed after `last` points; return their number, 0 if it was killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        points = 0

        def reached(event: str, _: object) -> None:
            nonlocal points
            points += event in FILE_EVENTS
            if event in FILE_EVENTS and points > last:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(reached)
        change(Library(folder))
        os.write(writer, str(points).encode())
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        counted = pipe.read()
    assert counted or os.WIFSIGNALED(status), f"the change failed with {status}"
    return int(counted or 0)


def whole(library: Library, voice: Voice) -> bool:
    """Return whether a voice has all its recordings and texts."""
    texts = [each.text for each in voice.recordings]
    return texts == TEXTS and [library.read(voice, each) for each in voice.recordings] == AUDIO


def require_whole(folder: Path, kind: str) -> None:
    library = Library(folder)
    listed = {voice.id: voice for voice in library.list()}
    assert all(whole(library, voice) for voice in listed.values()), "half a voice is listed"
    assert listed.keys() <= {"old", "new"}
    assert "old" in listed or kind == "remove" or (kind == "rename" and "new" in listed)
    assert "old" not in listed or (listed["old"].title, listed["old"].tags) in [("Old", ()), ("Changed", ("a",))]


def main(kills: int) -> None:
    draw, died = random.Random(7), 0
    with tempfile.TemporaryDirectory() as scratch:
        first, folder = Path(scratch) / "first", Path(scratch) / "voices"
        Library(first).add(AUDIO, TEXTS, title="Old", id="old")
        points = {}
        while died < kills:
            kind = list(CHANGES)[died % len(CHANGES)]
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(first, folder)
            if kind not in points:
                points[kind] = until(CHANGES[kind], folder, float("inf"))
                continue
            died += until(CHANGES[kind], folder, draw.randrange(points[kind])) == 0
            require_whole(folder, kind)
            Library(folder).add(AUDIO, TEXTS, title="Next", id="next")
            listed = {voice.id for voice in Library(folder).list()}
            assert {path.name for path in folder.iterdir()} == listed | {".lock"}, "something is left"
    print(f"{died} kills among {points}: no half voice was listed, the next writer left nothing over")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
