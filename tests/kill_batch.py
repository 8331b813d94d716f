"""Kill `fish batch` with SIGKILL at random moments: `python tests/kill_batch.py [20 [320 [OPTIONS]]]`, offline.

A book of 320 paragraphs in chapters is spoken with the built-in voice, or another model in the OPTIONS of `fish batch`,
once undisturbed, and its files are compared with its text. Then the same job is started again and again, and each time
killed after a random number of files, until it has been killed so many times and is done. Its files, chapters and
subtitles included, must be those of the undisturbed run, byte by byte, and its manifest, too, the times left out. It
takes about ten minutes. The C++ kernels run the model: PyTorch alone does not give the same bits in another batch.
"""

import json
import math
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import book_checks
import sample_book


def command(job: Path, folder: Path, *options: str) -> list[str]:
    said = [sys.executable, "-m", "fishcli", "batch", str(job), "-o", str(folder), "-q", "--compile"]
    return [*said, "--subtitles", "json", "--subtitles", "srt", *options]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a job by their paths: lines, chapters and subtitles."""
    found = (each for each in folder.rglob("*") if each.is_file() and not each.name.startswith((".", "manifest")))
    return {str(each.relative_to(folder)): each.read_bytes() for each in found}


def files(folder: Path) -> int:
    """Return how many sounds there are."""
    return len(list(folder.glob("lines/*.flac")))


def entries(folder: Path) -> list[dict]:
    """Return the lines of a manifest, without times."""
    found = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    return [{name: value for name, value in each.items() if name != "made_at"} for each in found]


def killed(started: list[str], folder: Path, more: float) -> bool:
    """Run a job, and kill it some milliseconds after it has made so many files more. Return False if it ended first."""
    wanted = files(folder) + more
    process = subprocess.Popen(started, stdin=subprocess.DEVNULL)
    while process.poll() is None:
        if files(folder) >= wanted:
            time.sleep(random.uniform(0, 0.2))
            process.send_signal(signal.SIGKILL)
            process.wait()
            return process.returncode == -signal.SIGKILL
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"the job failed with {process.returncode}")
    return False


def main(kills: int = 20, lines: int = 320, *options: str) -> None:
    draw, died, rounds = random.Random(7), 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        job, calm = Path(scratch) / "book.md", Path(scratch) / "calm"
        book = sample_book.chapters(lines, 16)
        job.write_text(sample_book.markdown(book))
        began = time.monotonic()
        subprocess.run(command(job, calm, *options), check=True)
        print(f"undisturbed: {lines} paragraphs in {time.monotonic() - began:.0f} s", flush=True)
        book_checks.check(job, calm, book)
        while died < kills:
            rough, rounds = Path(scratch) / f"rough{rounds}", rounds + 1
            while killed(
                command(job, rough, *options), rough, draw.randint(0, 2 * lines // kills) if died < kills else math.inf
            ):
                died += 1
                print(f"kill {died}: {files(rough)} files", flush=True)
            one, other = contents(calm), contents(rough)
            assert one.keys() == other.keys(), f"there are other files: {one.keys() ^ other.keys()}"
            differ = [name for name, data in one.items() if other[name] != data]
            assert not differ, f"the files differ: {differ}"
            assert entries(rough) == entries(calm), "the manifest differs"
            subprocess.run([sys.executable, "-m", "fishcli", "verify", str(rough), "-q"], check=True)
    print(f"{died} kills in {rounds} runs of the job: the same files and the same manifest as without a kill")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]), *sys.argv[3:])
