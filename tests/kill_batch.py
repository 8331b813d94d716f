"""Kill `fish batch` with SIGKILL at random moments: `python tests/kill_batch.py [20]`, offline, in about ten minutes.

A job of 320 lines is spoken with the built-in voice, once undisturbed. Then the same job is started again and again,
and each time killed after a random time, until it has been killed so many times and is done. Its files must be those
of the undisturbed run, byte by byte, and its manifest, too, the times left out.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WHO = "The baker", "My sister", "A tall man", "The captain", "Our teacher", "The old dog", "Nobody", "The queen"
DID = "opened", "found", "painted", "carried", "forgot", "counted", "sold", "repaired"
WHAT = "the door", "a letter", "two boats", "the garden gate", "her umbrella", "seven clocks", "the last train"
WHEN = "at noon", "in the rain", "on Monday", "after dinner", "without a word"


def book(lines: int) -> str:
    """Return a job of different sentences, one on each line; every tenth has two."""
    draw = random.Random(15)
    written: dict[str, None] = {}
    while len(written) < lines:
        said = [f"{draw.choice(WHO)} {draw.choice(DID)} {draw.choice(WHAT)} {draw.choice(WHEN)}." for _ in range(2)]
        written[" ".join(said[: 1 + (len(written) % 10 == 9)])] = None
    return "\n".join(written) + "\n"


def command(job: Path, folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "fishcli", "batch", str(job), "-o", str(folder), "-q", *more]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a job by name, but its manifest."""
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.suffix == ".wav"}


def entries(folder: Path) -> list[dict]:
    """Return the lines of a manifest, without times."""
    found = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    return [{name: value for name, value in each.items() if name != "made_at"} for each in found]


def killed(job: Path, folder: Path, seconds: float) -> bool:
    """Run the job, and kill it after some time. Return whether it was killed before it had ended."""
    process = subprocess.Popen(command(job, folder), stdin=subprocess.DEVNULL)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    if code:
        raise SystemExit(f"the job failed with {code}")
    return False


def main(kills: int, lines: int = 320) -> None:
    draw = random.Random(7)
    with tempfile.TemporaryDirectory() as scratch:
        job, calm, rough = (Path(scratch) / name for name in ("book.txt", "calm", "rough"))
        job.write_text(book(lines))
        began = time.monotonic()
        subprocess.run(command(job, calm), check=True)
        taken = time.monotonic() - began
        print(f"undisturbed: {lines} lines in {taken:.0f} s", flush=True)
        died = done_before = rounds = 0
        while died < kills:
            rough = rough.with_name(f"rough{rounds}")
            while killed(job, rough, draw.uniform(0.0, 5.0 + 1.5 * taken / kills) if died < kills else 10 * taken):
                died += 1
                done = len(contents(rough)) if rough.is_dir() else 0
                print(f"kill {died}: {done} files, {done - done_before} more", flush=True)
                done_before = done
            rounds, done_before = rounds + 1, 0
            assert contents(rough) == contents(calm), "the files differ"
            assert entries(rough) == entries(calm), "the manifest differs"
            subprocess.run([sys.executable, "-m", "fishcli", "verify", str(rough), "-q"], check=True)
    print(f"{died} kills in {rounds} runs of the job: the same files and the same manifest as without a kill")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]) if len(sys.argv) > 1 else [20])
