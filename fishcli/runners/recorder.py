"""Work on a GPU recorded once as a CUDA graph and replayed: one launch instead of hundreds.

On another device a replay calls the function itself, so that everything but the recording runs in tests on a CPU.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch

T = TypeVar("T")

_recording = threading.Lock()  # of two engines, one records at a time


class Recorder:
    """Records functions for one device. Their graphs share memory, so they must run one after another."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        on_gpu = device.type == "cuda"
        self.stream = torch.cuda.Stream(device) if on_gpu else None
        self._pool = torch.cuda.graph_pool_handle() if on_gpu else None

    @contextlib.contextmanager
    def on_stream(self) -> Iterator[None]:
        """Run the block on the recorder's stream, after what the current stream has begun. The caller must wait for
        the result itself."""
        if self.stream is None:
            yield
            return
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            yield

    def record(self, work: Callable[[], T]) -> Recording[T]:
        """Call `work` once, which lets compilers and libraries prepare, and record a second call.

        It must read and write tensors that keep their addresses, and wait for nothing. Its result is overwritten by the
        next replay of any recording.
        """
        if self.stream is None:
            return Recording(work, work())
        with _recording, self.on_stream():
            for _ in range(2):  # the second call finds all compiled
                work()
            graph = torch.cuda.CUDAGraph()
            # Other threads, such as another engine's, may allocate memory meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, stream=self.stream, capture_error_mode="thread_local"):
                result = work()
            graph.replay()  # a recording computes nothing
        torch.cuda.current_stream(self.device).wait_stream(self.stream)
        return Recording(work, result, graph)


class Recording(Generic[T]):
    """Recorded work. `replay` does it again and returns the result, in the same tensors on a GPU."""

    def __init__(self, work: Callable[[], T], result: T, graph: torch.cuda.CUDAGraph | None = None) -> None:
        self.result = result
        self._work, self._graph = work, graph

    def replay(self) -> T:
        if self._graph is None:
            self.result = self._work()
        else:
            self._graph.replay()
        return self.result


class Staging:
    """Tensors on a device that are filled from the CPU by one copy, which waits for nothing.

    `shapes` are those of the tensors with their dtypes, eight bytes an element first; `host` and `device` hold them.
    """

    def __init__(self, shapes: list[tuple[tuple[int, ...], torch.dtype]], device: torch.device) -> None:
        sizes = [torch.Size(shape).numel() * dtype.itemsize for shape, dtype in shapes]
        self._host = torch.zeros(sum(sizes), dtype=torch.uint8, pin_memory=device.type == "cuda")
        # On a CPU both are the same memory.
        self._device = self._host if device.type == "cpu" else self._host.to(device)
        self.host, self.device = (
            [part.view(dtype).view(shape) for part, (shape, dtype) in zip(memory.split(sizes), shapes, strict=True)]
            for memory in (self._host, self._device)
        )

    def send(self) -> None:
        """Copy what is in `host` to `device`, in the order of the current stream."""
        if self._device is not self._host:
            self._device.copy_(self._host, non_blocking=True)


class Receiver:
    """Brings a tensor from a device to the CPU, in memory of its own that one copy after another fills."""

    def __init__(self, like: torch.Tensor) -> None:
        self._on_gpu = like.device.type == "cuda"
        self._host = torch.empty(like.shape, dtype=like.dtype, pin_memory=self._on_gpu)
        self._done = torch.cuda.Event() if self._on_gpu else None

    def begin(self, tensor: torch.Tensor) -> None:
        """Have the tensor copied once the current stream has computed it."""
        self._host.copy_(tensor, non_blocking=self._on_gpu)
        if self._done is not None:
            self._done.record()

    def wait(self) -> torch.Tensor:
        """Return the tensor on the CPU, once it is there; it is valid until the next `begin`."""
        if self._done is not None:
            self._done.synchronize()
        return self._host
