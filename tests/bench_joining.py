"""What a voice that joins costs the streams that run: `python tests/bench_joining.py CHECKPOINT [STREAMS] [SECONDS]`.

STREAMS (default 3) speak in cached voices. Once each is a second ahead of playback, another request joins with a new
recording of SECONDS (default 10), its encoding included. Printed: the longest pause between two decode steps before and
after it joins, the gaps that the listeners of the running streams hear, and the time to the newcomer's first audio.
"""

import contextlib
import sys
import threading
import time

import numpy as np

from fishcli import Reference, Request, SamplingParams, load
from fishcli.bench.player import Player
from fishcli.bench.task import TRANSCRIPT, Task, cache_aside

TEXT = "The train arrives at seven in the morning, and it leaves again at nine in the evening, as it does every day. "
FRAMES = 250


@contextlib.contextmanager
def step_times(runner):
    """Note when each decode step begins."""
    times, step = [], runner.step
    runner.step = lambda *given: times.append(time.perf_counter()) or step(*given)
    try:
        yield times
    finally:
        del runner.step


def longest_pause(times, start, end):
    return max(np.diff([at for at in times if start <= at <= end]), default=0.0)


def listen(engine, request, player, gaps):
    """Play a stream, and note when a gap ends and how long it was."""
    with engine.speak(request) as stream:
        for chunk in stream:
            before = len(player.gaps)
            player.receive(time.perf_counter(), len(chunk.samples) / engine.sample_rate)
            gaps += [(time.perf_counter(), gap) for gap in player.gaps[before:]]


def main(folder, streams, seconds):
    engine = load(folder, device="cpu")
    task = Task(engine, 1)
    with cache_aside(), step_times(engine.runner) as times:
        voices = [task.voice() for _ in range(streams)]
        for voice in voices:
            list(engine.speak(task.request(voice, frames=1)))
        players, gaps, threads = [Player(time.perf_counter()) for _ in voices], [], []
        for i, (voice, player) in enumerate(zip(voices, players, strict=True)):
            request = Request(TEXT * 9, [voice], SamplingParams(seed=i, max_new_tokens=FRAMES))
            threads.append(threading.Thread(target=listen, args=(engine, request, player, gaps)))
            threads[-1].start()
        began = time.perf_counter()
        while all(thread.is_alive() for thread in threads) and time.perf_counter() - began < 60:
            joined = time.perf_counter()
            ahead = [player.ahead(joined) for player in players]
            if min(ahead) > 1:
                break
            time.sleep(0.01)
        recording = np.random.default_rng(0).uniform(-0.1, 0.1, seconds * engine.sample_rate).astype(np.float32)
        newcomer = Player(joined)
        codes = engine.encode(recording)
        encoded = time.perf_counter()
        listen_to = Request(TEXT, [Reference(codes, TRANSCRIPT)], SamplingParams(seed=99, max_new_tokens=8))
        listen(engine, listen_to, newcomer, [])
        heard = joined + (newcomer.time_to_first_audio or 0.0)
        for thread in threads:
            thread.join()
    print(f"{streams} streams, ahead {', '.join(f'{each:.1f}' for each in ahead)} s when a voice of {seconds} s joins")
    print(f"longest pause between two decode steps: {longest_pause(times, began, joined):.3f} s before,")
    encoding, prefill = longest_pause(times, joined, encoded), longest_pause(times, encoded, heard)
    print(f"  {encoding:.3f} s while it is encoded, {prefill:.3f} s after")
    after = [(round(at - joined, 1), round(gap, 3)) for at, gap in gaps if at >= joined]
    print(f"gaps that the running streams heard: {len(gaps) - len(after)} before, then (at, seconds) {after[:20]}")
    print(f"first audio of the newcomer after {heard - joined:.2f} s, {encoded - joined:.2f} s of it to encode")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(given[0], int(given[1]) if len(given) > 1 else 3, int(given[2]) if len(given) > 2 else 10)
