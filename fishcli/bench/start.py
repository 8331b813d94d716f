"""Time to first audio and peak memory of a new process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from fishcli.bench.roofline import stored
from fishcli.bench.task import TRIES, Task
from fishcli.bench.timing import Spread
from fishcli.engine import load
from fishcli.engine.vocoder import FIRST_PIECE
from fishcli.errors import FishError
from fishcli.request import Request, SamplingParams

_REPEAT = 3  # each takes seconds
_SILENT = 3  # the exit code of a process whose model ends before its first frame


@dataclass(frozen=True)
class Start:
    """From the start of a process to its first audio, with its files in the page cache.

    Mapped weights count in the peak once they were read.
    """

    seconds: Spread
    peak_memory: int | None  # bytes; None if the system does not tell
    weights: int  # bytes of both models


def measure(task: Task) -> Start:
    """Start a few processes one after another and measure each."""
    runs = [_run(task) for _ in range(min(_REPEAT, task.repeat))]
    peaks = [peak for _, peak in runs if peak is not None]
    weights = stored([task.engine.lm, task.engine.codec])
    return Start(Spread.of(seconds for seconds, _ in runs), max(peaks, default=None), weights)


def _run(task: Task) -> tuple[float, int | None]:
    """Return the seconds to the first audio and the peak memory, in bytes, of one new process."""
    command = [sys.executable, "-c", f"from {__name__} import main; main()", json.dumps(task.loading), task.text]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        answer = child.stdout.readline() if child.stdout else b""
        seconds = time.perf_counter() - began
    if child.returncode == _SILENT:
        raise task.silent()
    if child.returncode:
        raise FishError(f"A new process could not speak (exit code {child.returncode}); `fish doctor` shows details.")
    return seconds, json.loads(answer)["peak_memory"]


def main() -> None:
    """Load and speak in the new process, and report at the first audio."""
    engine = load(**json.loads(sys.argv[1]))
    samplings = (SamplingParams(seed=seed, max_new_tokens=FIRST_PIECE) for seed in range(TRIES))
    chunks = (chunk for each in samplings for chunk in engine.speak(Request(sys.argv[2], sampling=each)))
    if not any(len(chunk.samples) for chunk in chunks):
        raise SystemExit(_SILENT)
    sys.stdout.write(json.dumps({"peak_memory": peak_memory()}) + "\n")
    sys.stdout.flush()


def peak_memory() -> int | None:
    """Return the peak of the resident memory of this process, in bytes; None if the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage would count the parent too
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) << 10
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
