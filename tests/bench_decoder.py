"""The codec's decoder in C++ against the one in PyTorch: `python tests/bench_decoder.py CHECKPOINT [THREADS]`.

Medians of pushes of 1 to 16 frames, the two by turns, so that what else the machine does slows both down.
"""

import statistics
import sys
import time
from typing import Protocol

import torch
from torch import Tensor

from fishcli import load
from fishcli.runners.native_codec import NativeDecoder

PUSHES = (1, 2, 4, 8, 16)  # frames
SECONDS = 6  # for each of them


class Stream(Protocol):
    def push(self, codes: Tensor) -> Tensor: ...


def timed(stream: Stream, codes: Tensor) -> float:
    """Milliseconds of a push."""
    began = time.perf_counter()
    stream.push(codes)
    return 1000 * (time.perf_counter() - began)


def main(folder: str, threads: int) -> None:
    codec = load(folder, device="cpu", dtype="float32").codec
    torch.set_num_threads(threads)  # loading sets it too
    streams = codec.stream(), NativeDecoder(codec, threads).stream()
    print(f"{threads} threads; ms a push\n frames  PyTorch   native  ms/frame   ratio")
    for frames in PUSHES:
        codes = torch.randint(codec.settings.codes, (codec.settings.codebooks, frames))
        for stream in streams:
            timed(stream, codes)
        times: list[tuple[float, ...]] = []
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            times.append(tuple(timed(stream, codes) for stream in streams))
        theirs, ours = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(a / b for a, b in times)
        print(f"{frames:7}{theirs:9.1f}{ours:9.1f}{ours / frames:10.2f}{ratio:8.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else torch.get_num_threads())
