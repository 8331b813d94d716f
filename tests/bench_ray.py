"""The start-up and the memory of a job on Ray: `python tests/bench_ray.py [CHECKPOINT [WORKERS]]` (extra `ray`).

The same job runs in this process's way (`--engine local`) and on a cluster of this machine. Printed are the seconds
until the first file is there, and the memory of all processes at the end: private pages, and each one's share of those
that several have in common (PSS).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from test_ray import a_job, descendants, files, running

LINES = 40


def memory(process: int) -> float:
    """Return the memory of a process and its descendants in MB."""
    total = 0
    for number in {process, *descendants(process)}:
        try:
            text = Path(f"/proc/{number}/smaps_rollup").read_text()
        except OSError:  # it has ended
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1000


def main(checkpoint: str = "built-in", workers: str = "2") -> None:
    for engine in (["local"], ["ray", "--workers", workers]):
        with tempfile.TemporaryDirectory() as scratch:
            job, folder = a_job(Path(scratch), LINES), Path(scratch) / "out"
            began, first, most = time.monotonic(), 0.0, 0.0
            arguments = ["--checkpoint-path", checkpoint, "--max-new-tokens", "200", "-o", folder, "--engine", *engine]
            with running("batch", job, *arguments) as process:
                while process.poll() is None:
                    if not first and files(folder):
                        first = time.monotonic() - began
                    if first:
                        most = max(most, memory(process.pid))
                    time.sleep(0.1)
            if process.returncode:
                raise SystemExit(f"the job ended with {process.returncode}")
            told = {"engine": " ".join(engine), "first_file_seconds": round(first, 1), "memory_mb": round(most)}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
