"""A server for a measurement, and the engine without one, each in a process of its own. It needs no torch itself."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fishcli.bench.http_load import FRAMES, Load, plan
from fishcli.bench.player import Percentiles
from fishcli.errors import FishError

_LEAVING = 30.0  # seconds for it to end


@contextlib.contextmanager
def running(options: Sequence[str]) -> Iterator[str]:
    """Run `fish serve` on a free port, with some options, and yield its URL. Raises FishError if it does not start."""
    command = [sys.executable, "-m", "fishcli", "serve", "--listen", "127.0.0.1:0", "--json", "-q", *options]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as child:
        try:
            line = child.stdout.readline() if child.stdout else b""
            if not line or "url" not in (said := json.loads(line)):
                raise FishError("The server did not start; `fish serve` with the same options shows why.")
            yield said["url"]
        finally:
            child.terminate()
            try:
                child.wait(_LEAVING)
            except subprocess.TimeoutExpired:
                child.kill()


def engine_first_audio(loading: Mapping[str, Any], load: Load) -> Percentiles:
    """Return the time to first audio of the engine alone, for the requests of a load one after another."""
    orders = [(order.text, order.seed) for order in plan(load)]
    program = f"from {__name__} import main; main()"
    command = [sys.executable, "-c", program, json.dumps([loading, orders])]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    if ran.returncode:
        raise FishError(f"The engine could not speak (exit code {ran.returncode}); `fish doctor` shows details.")
    return Percentiles.of(json.loads(ran.stdout))


def main() -> None:
    """Speak in the new process, and print the seconds to the first audio of each request."""
    from fishcli.engine import load
    from fishcli.request import Request, SamplingParams

    loading, orders = json.loads(sys.argv[1])
    engine, waits = load(**loading), []
    for text, seed in [*orders[:1], *orders]:  # the first is to warm up
        began = time.perf_counter()
        with engine.speak(Request(text, sampling=SamplingParams(seed=seed, max_new_tokens=FRAMES))) as stream:
            while not len(next(stream).samples):
                pass
            waits.append(time.perf_counter() - began)
            list(stream)
    engine.close()
    sys.stdout.write(json.dumps(waits[1:]))
