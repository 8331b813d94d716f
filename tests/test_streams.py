"""The load generator of `fish bench`: the player on a fake clock, the plan, and the driver on the micro model."""

import dataclasses
import itertools
import json
import time

import bench_joining
import numpy as np
import pytest
import torch
from conftest import TINY

from fishcli import load
from fishcli.bench import streams
from fishcli.bench.player import Percentiles, Player, poisson_arrivals
from fishcli.bench.streams import Load
from fishcli.bench.task import Task, cache_aside
from fishcli.bench.timing import StepTimer
from fishcli.errors import FishError, InputError
from fishcli.request import AudioChunk, Span


@pytest.mark.parametrize(
    ("events", "first", "gaps"),
    [
        ([], None, []),
        ([(3.0, 0.0)], None, []),  # the end of speech without any
        ([(2.5, 1.0)], 1.5, []),
        ([(2.0, 1.0), (2.9, 1.0), (3.9, 1.0)], 1.0, []),  # always a little ahead
        ([(2.0, 1.0), (3.0, 1.0)], 1.0, []),  # just in time
        ([(2.0, 1.0), (3.25, 1.0)], 1.0, [0.25]),
        ([(2.0, 1.0), (3.25, 1.0), (4.5, 0.5)], 1.0, [0.25, 0.25]),  # the first gap delays all that follows
        ([(2.0, 4.0), (2.0, 1.0), (6.75, 1.0), (8.0, 1.0)], 1.0, []),  # what was ahead pays for a late piece
        ([(2.0, 4.0), (2.0, 1.0), (6.75, 1.0), (8.5, 1.0)], 1.0, [0.5]),
        ([(2.0, 1.0), (9.0, 0.0)], 1.0, []),  # silence after the last audio is no gap
        ([(2.0, 1.0), (9.0, 0.0), (10.0, 1.0)], 1.0, [7.0]),
    ],
)
def test_player(events, first, gaps):
    player = Player(requested=1.0)
    for now, seconds in events:
        player.receive(now, seconds)
    assert (player.time_to_first_audio, player.gaps) == (first, gaps)


def test_playing_and_gaps_fill_the_time_from_the_first_audio_to_the_last():
    random = np.random.default_rng(0)
    for _ in range(200):
        times = np.cumsum(random.exponential(0.3, 20))
        lengths = random.uniform(0.05, 0.5, 20)
        player = Player(0.0)
        for event in zip(times, lengths, strict=True):
            player.receive(*event)
        # Played a millisecond at a time, as a sound card would.
        silent, queued, arrived = 0, 0.0, 0
        for now in np.arange(times[0], times[-1], 0.001):
            while arrived < 20 and times[arrived] <= now:
                queued += lengths[arrived]
                arrived += 1
            silent += queued < 0.001
            queued = max(0.0, queued - 0.001)
        assert sum(player.gaps) == pytest.approx(silent / 1000, abs=0.06)


def test_percentiles():
    assert Percentiles.of(range(101)) == Percentiles(50, 95, 99)
    assert Percentiles.of([3.0]) == Percentiles(3, 3, 3)
    assert Percentiles.of([2.0, 1.0]) == Percentiles(1.5, pytest.approx(1.95), pytest.approx(1.99))


def test_arrivals_are_a_poisson_process_that_a_seed_repeats():
    times = poisson_arrivals(20_000, 4.0, seed=1)
    assert times == poisson_arrivals(20_000, 4.0, seed=1)
    assert times != poisson_arrivals(20_000, 4.0, seed=2)
    assert times[0] == 0
    assert times == sorted(times)
    pauses = np.diff(times)
    assert pauses.mean() == pytest.approx(0.25, rel=0.03)
    assert pauses.std() == pytest.approx(0.25, rel=0.03)  # of an exponential distribution both are the same
    assert poisson_arrivals(0, 1.0, seed=0) == []
    assert poisson_arrivals(1, 1.0, seed=0) == [0.0]


@pytest.fixture(scope="module")
def task(micro):
    return Task(load(micro, device="cpu"), repeat=1)


@pytest.mark.parametrize("references", ["codes", "audio", "cached"])
def test_prompts_are_all_different(task, references):
    with cache_aside():
        plan = list(streams._plan(task, Load(2, 6, references=references)))
    assert len({arrival.text for arrival in plan}) == 6
    given = [arrival.reference if references == "audio" else arrival.reference.codes for arrival in plan]
    assert len({each.tobytes() for each in given}) == (2 if references == "cached" else 6)
    seconds = len(given[0]) / 44_100 if references == "audio" else given[0].shape[1] / task.engine.frame_rate
    assert seconds == pytest.approx(10, abs=0.05)


@pytest.mark.parametrize("references", ["codes", "audio", "cached"])
def test_streams_of_the_micro_model(task, references, no_voice_is_kept):
    heard = streams.measure(task, Load(3, 5, arrivals=50.0, references=references))
    waits = heard.time_to_first_audio
    assert 0 < waits.p50 <= waits.p95 <= waits.p99
    assert heard.frames_per_second > 0
    assert heard.gaps >= heard.gaps_over_100_ms >= heard.streams_with_gaps_over_100_ms >= 0


class FakeBatch:
    """The batch of a decode step of two sequences."""

    columns = torch.zeros(2, 9)


class FakeRunner:
    """A runner whose steps take two milliseconds."""

    def step(self, cache, batch):
        time.sleep(0.002)
        return batch.columns, batch.columns


class FakeStream:
    """A stream over a generator."""

    def __init__(self, pieces):
        self.pieces = pieces

    def __iter__(self):
        return self.pieces

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.pieces.close()


class FakeEngine:
    """Speaks ten pieces of a frame each, and notes how many streams are open at once."""

    sample_rate, frame_rate = 1000, 20.0

    def __init__(self, fail_at=None):
        self.open, self.most, self.made, self.closed, self.fail_at = 0, 0, 0, 0, fail_at
        self.runner = FakeRunner()

    def speak(self, request):
        return FakeStream(self.pieces())

    def pieces(self):
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            for _ in range(10):
                self.made += 1
                self.runner.step(None, FakeBatch())
                if self.made == self.fail_at:
                    raise InputError("this one")
                yield AudioChunk(0, Span("", 0, 0), np.zeros((8, 1), np.int16), None, np.zeros(50, np.float32), 0)
        finally:
            self.open -= 1
            self.closed += 1


class FakeTask:
    """A task without a model."""

    text = "Text."

    def __init__(self, engine):
        self.engine = engine

    def voice(self):
        return None

    def request(self, *references, seed=0, frames, text=""):
        return text

    def silent(self):
        return FishError("silent")


def test_no_more_streams_than_allowed_and_each_is_closed():
    engine = FakeEngine()
    heard = streams.measure(FakeTask(engine), Load(3, 40, arrivals=1000.0))
    assert engine.most <= 3
    assert engine.closed == 41  # one to warm up
    assert heard.step_batch == 2
    assert 0 < heard.step_frames_per_second <= 1000
    assert "step" not in vars(engine.runner)  # as it was


def test_requests_wait_for_their_arrival():
    engine, wanted = FakeEngine(), Load(8, 8, arrivals=40.0, seed=3)
    last = poisson_arrivals(8, 40.0, seed=3)[-1]
    heard = streams.measure(FakeTask(engine), wanted)
    assert heard.frames_per_second < 80 / last


def test_a_request_that_fails_ends_the_measurement():
    engine = FakeEngine(fail_at=25)
    with pytest.raises(InputError, match="this one"):
        streams.measure(FakeTask(engine), Load(2, 50, arrivals=1000.0))
    assert engine.open == 0
    assert engine.made < 500


def test_a_model_without_a_word_is_an_error():
    engine = FakeEngine()
    engine.pieces = lambda: (each for each in ())
    with pytest.raises(FishError, match="silent"):
        streams.measure(FakeTask(engine), Load(2, 2, arrivals=100.0))


SHORT = ("--size", "micro", "--repeat", "2", "--streams", "2", "--arrivals", "20")


def test_command_in_json(fish):
    code, out, err = fish("bench", *SHORT, "--json", "-q")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told.keys() == {"model", "machine", "streams"}
    assert told["streams"].keys() == {field.name for field in dataclasses.fields(streams.Streams)}
    assert (told["streams"]["requests"], told["streams"]["streams"]) == (4, 2)


def test_command_in_lines(fish):
    code, out, err = fish("bench", *SHORT, "-q")
    assert (code, err) == (0, "")
    for line in (
        "time to first audio, 4 requests on 2 streams: ",
        "gaps over 100 ms: ",
        "all streams: ",
        "peak memory: ",
    ):
        assert line in out


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--streams", "0"], "--streams must be a whole number from 1 to 64, not 0."),
        (["--streams", "65"], "--streams must be a whole number from 1 to 64, not 65."),
        (["--streams", "2", "--references", "x"], "--references must be one of codes, audio, cached, not x."),
        *(
            (["--streams", "2", "--arrivals", rate], "--arrivals must be from 0.001 to 1000")
            for rate in ("0", "nan", "1e9")
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_errors(fish, wrong, said):
    code, out, err = fish("bench", *wrong)
    assert (code, out) == (2, "")
    assert said in err


def test_gaps_are_counted_by_request():
    players = [Player(0.0) for _ in range(3)]
    for player, late in zip(players, ([0.0, 0.3, 0.05], [0.0], [0.2]), strict=True):
        ends = 1.0
        player.receive(0.5, 0.5)
        for each in late:
            player.receive(ends + each, 1.0)
            ends += each + 1.0
    run = streams._Run(FakeTask(FakeEngine()), None)
    run.heard = [
        streams._Heard(player, 20, run.began + ended) for player, ended in zip(players, (1, 2, 1.5), strict=True)
    ]
    timer = StepTimer(FakeRunner())
    timer.steps, timer.frames, timer.seconds = 20, 60, 0.5
    heard = streams._summary(run.task, Load(3, 3), run, timer)
    assert (heard.step_frames_per_second, heard.step_batch) == (120, 3)
    assert (heard.gaps, heard.gaps_over_100_ms, heard.streams_with_gaps_over_100_ms) == (3, 2, 2)
    assert heard.longest_gap == pytest.approx(0.3)
    assert heard.frames_per_second == pytest.approx(30)
    assert heard.real_time_streams == pytest.approx(1.5)
    assert list(itertools.chain(*(player.gaps for player in players))) == pytest.approx([0.3, 0.05, 0.2])


@pytest.mark.slow
def test_the_benchmark_of_a_voice_that_joins(capsys):
    bench_joining.main(str(TINY), 2, 1)
    out = capsys.readouterr().out
    assert out.startswith("2 streams, ahead ")
    assert "first audio of the newcomer after" in out
