"""A server in a process of its own, for programs that send it nonsense: what it logs as errors, and its memory."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import multiprocessing
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

_FRAMES = 4  # of a chunk, whatever is asked for: an answer takes a moment


class FuzzedServer:
    """A running server. `check` fails for errors in its log and returns by how many MiB its memory has grown."""

    def __init__(self, pipe: Connection, pid: int) -> None:
        self._pipe, self._pid = pipe, pid
        self.url: str = pipe.recv()
        self._first: int | None = None

    def resident(self) -> int:
        """Return the bytes of memory that the process has."""
        status = Path(f"/proc/{self._pid}/status").read_text(encoding="ascii")
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))

    def warmed(self) -> None:
        """Count the growth of memory from here."""
        self._first = self.resident()

    def check(self) -> float:
        self._pipe.send("errors")
        errors = self._pipe.recv()
        if errors:
            raise AssertionError("the server has logged errors:\n" + "\n".join(errors[:3]))
        return (self.resident() - (self._first or self.resident())) / 2**20


@contextlib.contextmanager
def fuzzed_server(checkpoint: Path | None = None) -> Iterator[FuzzedServer]:
    """Serve a micro checkpoint, which is made if none is given, with an empty library."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=_serve, args=(theirs, Path(folder), checkpoint), daemon=True)
        process.start()
        theirs.close()
        try:
            yield FuzzedServer(ours, process.pid or 0)
        finally:
            ours.close()
            process.join()


def _serve(pipe: Connection, folder: Path, checkpoint: Path | None) -> None:
    from serving import serving

    from fishcli.engine import load

    if checkpoint is None:
        from fishcli.testing.checkpoint import main

        checkpoint = folder / "checkpoint"
        main([str(checkpoint), "--size", "micro"])
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # as `fish serve` does
    errors: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.setFormatter(logging.Formatter())
    handler.emit = lambda record: errors.append(handler.format(record))  # type: ignore[method-assign]
    with contextlib.suppress(EOFError), serving(_bounded(load(checkpoint, threads=1)), folder / "voices") as server:
        for name in ("fishcli", "uvicorn.error", "asyncio"):
            logging.getLogger(name).addHandler(handler)
        pipe.send(server.url)
        while pipe.recv():
            pipe.send(errors)


def _bounded(engine):  # type: ignore[no-untyped-def]
    """Return the engine, which ends each chunk after a few frames."""
    speak = engine.speak

    def short(request):  # type: ignore[no-untyped-def]
        sampling = dataclasses.replace(request.sampling, max_new_tokens=_FRAMES)
        return speak(dataclasses.replace(request, sampling=sampling))

    engine.speak = short
    return engine
