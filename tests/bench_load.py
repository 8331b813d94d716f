"""How fast and how large a start is: `python tests/bench_load.py CHECKPOINT [auto|float32|bfloat16|float16]`.

Seconds from `load()` to the end of the first frame, torch already imported; and the peak of resident memory while
loading and speaking, less what torch itself takes, against the bytes of the weights that are kept. Each start is a
process of its own. The first one may have to convert the checkpoint; the others find the copy.
"""

import json
import resource
import statistics
import subprocess
import sys
import time

import torch

from fishcli import load
from fishcli.request import Request, SamplingParams

STARTS = 4
REQUEST = Request("Hello, world!", sampling=SamplingParams(seed=0, max_new_tokens=8))


def peak() -> int:
    """The most memory that this process has had, in bytes; Linux counts it in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def start(folder: str, dtype: str) -> dict[str, float]:
    """One start, measured."""
    torchs, began = peak(), time.perf_counter()
    engine = load(folder, device="cpu", dtype=dtype)
    next(engine.generate(REQUEST))
    first_frame = time.perf_counter() - began
    for _ in engine.speak(REQUEST):
        pass
    spoken = time.perf_counter() - began
    tensors = [*engine.lm.parameters(), *engine.codec.parameters()]
    return {
        "first_frame": first_frame,
        "spoken": spoken,
        "bits": 8 * engine.lm.norm.weight.itemsize,
        "weights": sum(tensor.nbytes for tensor in tensors),
        "torch": torchs,
        "peak": peak() - torchs,
    }


def main(folder: str, dtype: str) -> None:
    command = [sys.executable, __file__, folder, dtype, "--once"]
    starts = [json.loads(subprocess.check_output(command, text=True)) for _ in range(STARTS)]
    for number, s in enumerate(starts, 1):
        print(
            f"start {number}, {s['bits']} bits, {torch.get_num_threads()} threads: first frame after "
            f"{s['first_frame']:.2f} s, 8 frames spoken after {s['spoken']:.2f} s; peak {s['peak'] / 1e6:.0f} MB "
            f"over torch's {s['torch'] / 1e6:.0f} MB, {s['peak'] / s['weights']:.2f} times the "
            f"{s['weights'] / 1e6:.0f} MB of weights"
        )
    print(f"first frame, median of the later starts: {statistics.median(s['first_frame'] for s in starts[1:]):.2f} s")


if __name__ == "__main__":
    if "--once" in sys.argv:
        print(json.dumps(start(*sys.argv[1:3])))
    else:
        main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "auto")
