"""The speed and the memory of a batch job: `python tests/bench_batch.py CHECKPOINT [LINES [FRAMES [QUANTIZE]]]`.

LINES lines of at most FRAMES frames are spoken and written as `fish batch` does it. Their frames per second are
compared with 1 / (time of a decode step per frame at a batch of 8 + time of the vocoder per frame), both measured as
`fish bench` does, before and after the job, so that what else the machine does slows both down. The memory of the
process is that after a tenth of the lines, and at the end.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from fishcli import load
from fishcli.bench import speed
from fishcli.bench.task import Task
from fishcli.engine import Engine
from fishcli.jobs import local
from fishcli.jobs.checks import checked
from fishcli.jobs.identity import Addresses, ModelIdentity
from fishcli.jobs.line import Job, Line
from fishcli.jobs.output import Output
from fishcli.jobs.render import Renderer
from fishcli.jobs.settings import JobSettings
from fishcli.request import SamplingParams
from fishcli.voices import Library

BATCH, PIECE = 8, 16  # sequences of a step, and frames that the vocoder decodes at once


def ideal(engine: Engine) -> float:
    """Return the frames per second of steps and vocoder, one after the other, without anything around them."""
    task = Task(engine, repeat=1)
    step = speed.decode_step(task, BATCH).seconds.median / BATCH
    vocoder = speed.codec_decode(task, PIECE).seconds_per_frame.median
    print(f"step {1000 * step:.2f} ms a frame at a batch of {BATCH}, vocoder {1000 * vocoder:.2f} ms a frame")
    return 1 / (step + vocoder)


def resident() -> float:
    """Return the memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def run(engine: Engine, lines: int, frames: int, folder: Path) -> float:
    """Speak a job, and return its frames per second."""
    settings, library = (
        JobSettings(sampling=SamplingParams(max_new_tokens=frames), check="off"),
        Library(folder / "voices"),
    )
    texts = (f"This is sentence number {number} of the job." for number in range(1, lines + 1))
    job = checked(Job(tuple(Line(f"l{i}", said, i) for i, said in enumerate(texts, 1))), library, settings)
    made, memory, began = 0, 0.0, time.perf_counter()
    with Output(folder / "out") as output:
        output.begin(job, job.lines, Addresses(ModelIdentity("bench", "0" * 64), library, settings))
        for count, (line, sound, error) in enumerate(
            local.run(Renderer(engine, library, settings), job.lines, BATCH), 1
        ):
            if sound is None:
                output.fail(line, error or "")
            else:
                made += output.put(line, sound).frames
            if count == max(1, lines // 10):
                memory = resident()
        output.finish()
    taken = time.perf_counter() - began
    print(f"{lines} lines, {made} frames in {taken:.1f} s: {made / taken:.1f} frames/s")
    print(f"memory {memory:.0f} MB after a tenth of the lines, {resident():.0f} MB at the end")
    return made / taken


def main(checkpoint: str, lines: int = 32, frames: int = 128, quantize: str = "auto") -> None:
    engine = load(checkpoint, quantize=quantize, max_batch=BATCH)
    list(engine.speak("Warm up."))
    with tempfile.TemporaryDirectory() as scratch:
        before = ideal(engine)
        rate = run(engine, lines, frames, Path(scratch))
        after = ideal(engine)
    print(f"{rate / statistics.mean([before, after]):.2f} of the {before:.1f} and {after:.1f} frames/s of the parts")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:4]), *sys.argv[4:5])
