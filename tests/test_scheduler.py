"""The engine without a model: slots, policy, and a thousand clients over a fake runner and a fake clock."""

import itertools
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fishcli.engine.executor import Executor
from fishcli.engine.kv_pool import KVPool, Slot
from fishcli.engine.scheduler import Join, Scheduler, State, Step, Vocode
from fishcli.engine.streams import Channel, Stream
from fishcli.engine.tasks import PieceTask, SpeechTask
from fishcli.engine.vocoder import FIRST_PIECE, LONGEST_PIECE, Playback, Vocoder, piece_size
from fishcli.engine.worker import Worker
from fishcli.request import FISH_SPEECH, Request, SamplingParams, Script, Span

CODEBOOKS, CODES, CONTEXT = 2, 50, 400


class FakeClock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class FakeRunner:
    """Ends every chunk after as many frames as its first code says, and fails where a prompt holds the code 49."""

    exact, block = True, 96
    columns_per_second, seconds_per_step = 500, 0.03

    def __init__(self, clock):
        self.clock, self.steps = clock, []
        self.model = SimpleNamespace(codes=CODES, device=torch.device("cpu"))

    def cache(self, positions):
        self.keys = torch.zeros(1, 1, positions, 1)
        return SimpleNamespace(
            keys=self.keys, copy=self._copy, read=lambda *_: (self.keys, self.keys), write=lambda *_: None
        )

    def _copy(self, source, target, length):
        self.keys[:, :, target : target + length] = self.keys[:, :, source : source + length]

    def prefill(self, columns, cache, slot, start):
        self.clock.now += len(columns) / self.columns_per_second
        cache.keys[0, 0, slot + start : slot + start + len(columns), 0] = columns[:, 1].float()

    def step(self, cache, batch):
        self.clock.now += self.seconds_per_step
        self.steps.append(len(batch.columns))
        written = [cache.keys[0, 0, slot : slot + at, 0] for slot, at in zip(batch.slots, batch.positions, strict=True)]
        if any((each == 49).any() for each in written):
            raise RuntimeError("out of luck")
        cache.keys[0, 0, batch.slots + batch.positions, 0] = batch.columns[:, 1].float()
        choices = (batch.columns[:, 1:] - 1).clamp_min(0)  # counts down
        choices[:, 0] = torch.where(batch.columns[:, 1] <= 1, CODES, choices[:, 0])
        return torch.cat([choices[:, :1], choices.clamp_max(CODES - 1)], dim=1), choices


class FakePrompts:
    """Stands in for `Prepared`: the prompt of a chunk ends with the number of frames that its text names."""

    codebooks, codes, frame_rate = CODEBOOKS, CODES, 21.5
    cached, earlier, prefix = None, (), np.zeros((CODEBOOKS + 1, 0), np.int64)

    def __init__(self, chunks, samples=1, iterative=True, width=20):
        sampling = SamplingParams(seed=1).over(FISH_SPEECH)
        self.request = Request("Some text.", num_samples=samples, iterative_prompt=iterative, sampling=sampling)
        self.spans = [Span(str(frames), 0, 0) for frames in chunks]
        self.script = Script("", tuple(self.spans), "en", 1.0)
        self.width = width

    def check(self, span):
        pass

    def prompt(self, span, earlier):
        width = self.width + 30 * len(earlier)
        prompt = np.full((CODEBOOKS + 1, width), 7, np.int64)
        if span.text == "49":
            prompt[1, 3] = 49
        prompt[1:, -1] = min(int(span.text), 48)
        return prompt, list(earlier)

    def turn(self, span, codes):
        return codes

    def limit(self, width):
        return 60

    def positions(self, spans):
        return self.width + 90 * (len(spans) or 4)


class House:
    """A worker without a thread, whose tasks the test gives it and whose clock it owns."""

    def __init__(self, positions=CONTEXT * 4, max_batch=8):
        self.clock = FakeClock()
        self.runner = FakeRunner(self.clock)
        self.executor = Executor(self.runner, positions)
        self.worker = Worker(Scheduler(max_batch), 20.0, lambda: self.executor, self.clock)

    def submit(self, prompts, sound=True, capacity=100_000):
        channel = Channel(capacity, self.worker.wake)
        vocoders = [Vocoder(self.decode) if sound else None for _ in range(prompts.request.num_samples)]
        task = SpeechTask(prompts, channel, vocoders, self.worker.wake)
        self.worker.add(task)
        return task

    def decode(self, codes):
        self.clock.now += 0.007 * codes.shape[1]
        return np.zeros(codes.shape[1], np.float32)

    def run(self):
        while self.worker.work():
            pass


def frames_of(task):
    return sum(each.codes.shape[1] for each in Stream(task.channel))


@pytest.mark.parametrize("seed", range(5))
def test_slots_do_not_overlap_and_come_back(seed):
    rng, pool, held = random.Random(seed), KVPool(1000), []
    for _ in range(2_000):
        if held and rng.random() < 0.5:
            pool.release(held.pop(rng.randrange(len(held))))
        elif slot := pool.reserve(rng.randint(1, 200)):
            held.append(slot)
        ranges = sorted(held)
        assert all(a.start + a.length <= b.start for a, b in itertools.pairwise(ranges))
        assert pool.free + sum(slot.length for slot in held) == 1000
    for slot in held:
        pool.release(slot)
    assert pool.reserve(1000) == Slot(0, 1000)
    assert pool.reserve(1) is None


def test_sizes_of_pieces_grow_and_follow_the_index_alone():
    sizes, frame = [], 0
    while frame < 1000:
        sizes.append(piece_size(frame))
        frame += sizes[-1]
    assert sizes[0] == FIRST_PIECE
    assert sizes[-1] == LONGEST_PIECE
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("factor", [0.1, 0.5, 0.7, 0.8])
def test_a_listener_does_not_run_dry_while_pieces_grow(factor):
    """A piece is there before the earlier ones were played, where audio takes `factor` of its duration to make."""
    made = played_until = frame = 0.0
    while frame < 2000:
        size = piece_size(int(frame))
        made += size * factor
        assert frame == 0 or made <= played_until + 1e-9
        played_until = (made if frame == 0 else played_until) + size
        frame += size


def heard(seconds, now=0.0):
    playback = Playback()
    playback.deliver(seconds, now)
    return SimpleNamespace(playback=playback, missing=4)


def test_the_most_urgent_piece_comes_first_and_a_prefill_between_steps():
    scheduler = Scheduler(8)
    near, far = heard(0.05), heard(2.0)
    assert scheduler.next(State(0.0, pieces=[far, near])) == Vocode(near)
    runnable = [heard(3.0), heard(2.0)]
    state = State(0.0, ["a", "b"], runnable)
    kinds = [scheduler.next(state) for _ in range(4)]
    assert [type(kind) for kind in kinds] == [Join, Step, Join, Step]
    assert kinds[0].item == "a"
    assert kinds[1].batch == runnable


@pytest.mark.parametrize(("ahead", "columns"), [(0.0, 32), (0.05, 32), (0.12, 45), (0.3, 96), (9.0, 96)])
def test_a_prefill_block_follows_how_far_the_listeners_are_ahead(ahead, columns):
    work = Scheduler(8).next(State(0.0, ["prompt"], [heard(ahead), heard(9.0)]))
    assert work == Join("prompt", columns)


def test_prefill_blocks_of_a_runner_that_is_not_exact_have_one_size():
    scheduler = Scheduler(8)
    scheduler.exact, scheduler.block = False, 128
    assert scheduler.next(State(0.0, ["prompt"], [heard(0.0)])) == Join("prompt", 128)


def test_nothing_to_do():
    assert Scheduler(8).next(State(0.0)) is None


def test_a_voice_that_joins_adds_a_block_and_a_piece_to_the_gap():
    house = House(positions=10_000)
    running = [house.submit(FakePrompts([48] * 4)) for _ in range(7)]
    while sum(house.runner.steps) < 70:
        assert house.worker.work()
    before = len(house.runner.steps)
    joined = house.submit(FakePrompts([10], width=400))
    longest, last = 0.0, house.clock.now
    while not joined.samples[0].playback.started:
        assert house.worker.work()
        if len(house.runner.steps) > before:
            before, longest, last = len(house.runner.steps), max(longest, house.clock.now - last), house.clock.now
    step, block, piece = 0.03, 96 / 500, 0.007 * 32
    assert longest <= step + block + 7 * piece / 4  # the pieces of all seven are due now and then, joining or not
    house.run()
    assert [frames_of(task) for task in running] == [4 * 47] * 7


def test_a_reader_that_stops_pauses_its_sequence_alone():
    house = House(positions=10_000)
    stuck, other = house.submit(FakePrompts([48] * 8), capacity=16), house.submit(FakePrompts([48] * 8))
    house.run()
    assert frames_of(other) == 8 * 47
    waiting = stuck.samples[0].vocoder.waiting
    assert stuck.channel.room <= 0
    assert waiting <= 64
    stream = Stream(stuck.channel)
    taken = 0
    while not stuck.finished or stuck.channel._items:
        taken += next(stream).codes.shape[1]
        house.run()
    assert taken == 8 * 47


def test_large_requests_are_not_overtaken_for_ever():
    house = House(positions=600)
    small = [house.submit(FakePrompts([5])) for _ in range(4)]
    large = house.submit(FakePrompts([5] * 6))  # 560 positions
    later = [house.submit(FakePrompts([5])) for _ in range(20)]
    order = []
    while house.worker.work():
        order += [task for task in [large, *later] if task.samples[0].playback.started and task not in order]
    assert order[0] is large
    assert all(frames_of(task) == 4 for task in [*small, *later])


def test_samples_of_one_request_leave_room_for_others():
    house = House(positions=100_000)
    many = house.submit(FakePrompts([40], samples=64))
    one = house.submit(FakePrompts([40]))
    while not one.finished:
        assert house.worker.work()
    assert sum(sample.playback.started for sample in many.samples) < 20
    house.run()
    assert frames_of(many) == 64 * 39


def test_a_failure_ends_its_stream_alone():
    house = House()
    tasks = [
        house.submit(FakePrompts([20, 20])),
        house.submit(FakePrompts([5, 49])),
        house.submit(FakePrompts([20, 20])),
    ]
    house.run()
    assert [frames_of(tasks[0]), frames_of(tasks[2])] == [38, 38]
    stream = Stream(tasks[1].channel)
    with pytest.raises(RuntimeError, match="out of luck"):
        list(stream)
    assert house.executor.pool.free == house.executor.pool.positions


def test_a_request_that_can_never_fit_is_refused_and_the_others_go_on():
    house = House(positions=300)
    large, small = house.submit(FakePrompts([5] * 9)), house.submit(FakePrompts([5]))
    house.run()
    with pytest.raises(Exception, match="needs 830 positions of the KV cache, which has 300"):
        list(Stream(large.channel))
    assert frames_of(small) == 4


class Crowd:
    """Clients that come, go, fail and feed at random, and what each of them has to hear."""

    def __init__(self, seed):
        self.rng, self.house = random.Random(seed), House(positions=3_000)
        self.expected, self.failing, self.cancelled, self.feeding = {}, set(), set(), []

    def join(self):
        rng = self.rng
        chunks = [rng.choice([2, 5, 20, 48]) for _ in range(rng.randint(1, 3))]
        fails, samples = rng.random() < 0.1, rng.choice([1, 1, 1, 3])
        prompts = FakePrompts([*chunks[:-1], 49] if fails else chunks, samples, rng.random() < 0.7, rng.randint(10, 90))
        task = self.house.submit(prompts, sound=rng.random() < 0.8)
        self.expected[task] = samples * sum(frames - 1 for frames in chunks)
        if fails:
            self.failing.add(task)
        elif prompts.request.iterative_prompt and rng.random() < 0.2:  # its last chunk comes later
            self.expected[task] += samples * 4
            for sample in task.samples:
                sample.sequences[0].open = True
            self.feeding.append(task)

    def cancel(self):
        gone = self.rng.choice(list(self.expected))
        gone.channel.cancel()
        self.cancelled.add(gone)

    def feed(self):
        """Give one of the texts that arrive over time its last chunk."""
        if self.feeding:
            for sample in self.feeding.pop(0).samples:
                for sequence in sample.sequences:
                    sequence.chunks.append(Span("5", 0, 0))
                    sequence.open = False

    def check(self):
        pool = self.house.executor.pool
        slots = sorted(sequence.slot for sequence in self.house.executor.running)
        assert all(a.start + a.length <= b.start for a, b in itertools.pairwise(slots))
        assert all(sequence.length <= sequence.slot.length for sequence in self.house.executor.running)
        assert pool.free + sum(slot.length for slot in slots) == pool.positions


def test_readers_that_stop_keep_nobody_out():
    """Not from the batch, and not from the KV cache: their slots are taken, and come back when they read on."""
    house = House(positions=900)
    stuck = [house.submit(FakePrompts([48] * 4), capacity=16) for _ in range(9)]
    house.run()
    other = house.submit(FakePrompts([40, 40]))
    house.run()
    assert frames_of(other) == 2 * 39
    for task in stuck:
        taken, stream = 0, Stream(task.channel)
        while not task.finished or task.channel._items:
            taken += next(stream).codes.shape[1]
            house.run()
        assert taken == 4 * 47


def test_a_request_of_many_samples_is_not_put_off_by_newcomers():
    house = House(positions=400)  # two at a time
    many = house.submit(FakePrompts([10], samples=6))
    for _ in range(40):
        house.submit(FakePrompts([10]))
        for _ in range(30):
            house.worker.work()
    assert many.finished


def test_other_work_and_prefills_take_turns_in_order_of_arrival():
    house, done = House(positions=10_000), []
    running = house.submit(FakePrompts([48] * 3))
    while not running.samples[0].playback.started:
        house.worker.work()

    def encoding(name):
        for _ in range(50):
            house.clock.now += 0.04
            done.append(name)
            yield name

    for name in "ab":
        house.worker.add(PieceTask(lambda name=name: encoding(name), Channel(1, house.worker.wake)))
    voice = house.submit(FakePrompts([20]))
    for name in "cd":
        house.worker.add(PieceTask(lambda name=name: encoding(name), Channel(1, house.worker.wake)))
    slack = 9.0
    while not voice.samples[0].playback.started:
        assert house.worker.work()
        slack = min(slack, running.samples[0].playback.ahead(house.clock.now))
    assert done[:100] == ["a"] * 50 + ["b"] * 50  # those that came before it
    assert len(done) < 110  # then one piece at most between two steps
    assert slack > -1.5  # the next chunk of a running voice waits for none of them, which take 4 s


def test_playback_goes_on_after_an_underrun():
    playback = Playback()
    playback.deliver(1.0, 0.0)
    assert playback.ahead(5.0) == -4.0
    playback.deliver(1.0, 5.0)
    assert playback.ahead(5.5) == 0.5


@pytest.mark.parametrize("seed", range(4))
def test_a_thousand_clients_join_cancel_fail_and_feed(seed):
    """250 each time. No slot is lost, nobody starves, the budget holds, and everyone who stays hears all of it."""
    crowd = Crowd(seed)
    rng, house = crowd.rng, crowd.house
    for _ in range(250):
        crowd.join()
        for _ in range(rng.randint(0, 30)):
            house.worker.work()
            crowd.check()
        if rng.random() < 0.15:
            crowd.cancel()
        if rng.random() < 0.3:
            crowd.feed()
    while crowd.feeding:
        crowd.feed()
    house.run()
    assert house.executor.pool.free == 3_000
    assert not house.executor.running
    assert not house.worker._tasks
    assert house.worker.healthy
    for task in crowd.expected.keys() - crowd.cancelled - crowd.failing:
        assert frames_of(task) == crowd.expected[task]
    for task in crowd.failing - crowd.cancelled:
        with pytest.raises(RuntimeError, match="out of luck"):
            frames_of(task)
