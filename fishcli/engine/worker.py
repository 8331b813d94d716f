"""The model thread: the one loop that generates. It runs what the scheduler picks and hands out the results."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from fishcli.engine.executor import Executor
from fishcli.engine.prepared import no_room
from fishcli.engine.scheduler import Join, Scheduler, State, Step, Vocode
from fishcli.engine.sequence import Sequence
from fishcli.engine.tasks import DecodeTask, PieceTask, Sample, SpeechTask, Task
from fishcli.engine.vocoder import Playback
from fishcli.errors import EngineClosed

log = logging.getLogger(__name__)

_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


@dataclass(frozen=True)
class Running:
    """A sequence that can take a decode step, as the scheduler sees it."""

    sequence: Sequence
    sample: Sample

    @property
    def playback(self) -> Playback | None:
        """The playback of its sample; None without audio, and while an earlier chunk is incomplete."""
        first = self.sample.sequences[:1] == [self.sequence]
        return self.sample.playback if self.sample.vocoder and first else None

    @property
    def missing(self) -> int:
        """Frames until its next piece of audio."""
        return self.sample.vocoder.missing if self.sample.vocoder else 0


class Load(NamedTuple):
    """The load of a worker: sequences with a slot and without, positions reserved, frames so far."""

    running: int
    waiting: int
    positions: int
    frames: int


Work = Join[Sequence | PieceTask] | Step[Running] | Vocode[Sample | DecodeTask]


class Worker:
    """Runs tasks on a thread of its own, which starts with the first task and ends with `close`.

    Only that thread touches the executor and the codec. An exception in one task ends that task's stream alone.
    `error` is the exception that the thread died of, if it did.
    """

    def __init__(
        self, scheduler: Scheduler, frame_rate: float, executor: Callable[[], Executor],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self.error: BaseException | None = None
        self.scheduler = scheduler
        self._frame_rate, self._make_executor, self._clock = frame_rate, executor, clock
        self._executor: Executor | None = None
        self._active: dict[Sequence, Sample] = {}  # the sequences that have a slot
        self._tasks: list[Task] = []  # in the order of their arrival
        self._admitted: dict[SpeechTask, int] = {}  # sequences of each so far
        self._frames = 0
        # Both may be used again by a finalizer that the garbage collector runs while they are in use.
        self._lock = threading.RLock()
        self._signal: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        _workers.add(self)

    @property
    def healthy(self) -> bool:
        """Whether tasks are run: the thread has not died, and nobody has closed it."""
        return self.error is None and not self._closing

    @property
    def load(self) -> Load:
        """Its load now. Any thread may ask: copying a list is one step of the interpreter, so nothing is locked."""
        slots = [slot for each in list(self._active) if (slot := each.slot)]
        waiting = sum(len(task.waiting) for task in list(self._tasks) if isinstance(task, SpeechTask))
        return Load(len(slots), waiting, sum(slot.length for slot in slots), self._frames)

    def submit(self, task: Task) -> None:
        """Run a task. Raises EngineClosed after `close`, and in a process that was forked from the one that loaded."""
        if os.getpid() != self._process:
            raise EngineClosed("The engine does not work in a forked process; load the model after the fork.")
        with self._lock:
            if not self.healthy:
                raise _closed(self.error)
            if self._thread is None:
                # A daemon, or Python would wait for it before `atexit` has it end.
                thread = threading.Thread(target=self._run, name="fishcli-model", daemon=True)
                thread.start()
                self._thread = thread
            self.add(task)
        self.wake()

    def add(self, task: Task) -> None:
        """Put a task behind those that have arrived."""
        if isinstance(task, SpeechTask):  # a newcomer counts as having had as many slots as the task with the fewest
            self._admitted[task] = min(self._admitted.values(), default=0)
        self._tasks.append(task)

    def wake(self) -> None:
        """Have the thread look for work: something has changed."""
        if os.getpid() == self._process:
            self._signal.put(None)

    def stop(self) -> None:
        """End the thread and every stream soon, without waiting for it."""
        self._closing = True
        self.wake()

    def close(self) -> None:
        """End the thread and every stream; returns when the work in progress has ended."""
        self.stop()
        thread = self._thread
        if thread and thread is not threading.current_thread() and os.getpid() == self._process:
            thread.join()

    def _run(self) -> None:
        try:
            while not self._closing:
                while not self._signal.empty():
                    self._signal.get()
                if not self.work():
                    self._signal.get()  # what came after the signals were cleared is still there
        except BaseException as error:  # nobody may wait for ever, whatever it is
            log.debug("the model thread has died", exc_info=True)
            self.error = error
        self._closing = True
        with self._lock:
            tasks, self._tasks = self._tasks, []
        for task in tasks:
            self._drop(task, _closed(self.error))

    def work(self) -> bool:
        """Do one piece of work; False when there is nothing to do. The thread calls it in a loop."""
        work = self._next()
        if work is not None:
            self._do(work)
        return work is not None

    def _next(self) -> Work | None:
        """Drop what has ended, admit what waits, and pick the next piece of work."""
        with self._lock:
            tasks = list(self._tasks)
        for task in tasks:
            if task.channel.cancelled or task.finished:
                self._remove(task)
        speaking = [task for task in tasks if isinstance(task, SpeechTask) and task in self._admitted]
        try:
            self._admit([task for task in speaking if task.waiting])
        except Exception as error:  # the KV cache cannot be allocated
            for task in speaking:
                self._remove(task, error)
        return self.scheduler.next(self._state())

    def _admit(self, tasks: list[SpeechTask]) -> None:
        """Give slots to waiting sequences: first of the task that has had the fewest, else in order of arrival.

        A sequence for which there is no room keeps its turn: it gets a slot when others leave.
        """
        while waiting := [task for task in tasks if task.wants_slot]:
            task = min(waiting, key=lambda task: self._admitted[task])
            needed, positions = task.positions(task.waiting[0]), self.executor.pool.positions
            if needed > positions:
                self._remove(task, no_room(needed, positions))
                tasks.remove(task)
            elif not (self._busy() < self.scheduler.max_batch and self._activate(task, needed)):
                return

    def _activate(self, task: SpeechTask, needed: int) -> bool:
        """Give a slot to the first waiting sequence of a task; False where there is none for now."""
        sequence = task.waiting[0]
        parked = [each for each, sample in self._active.items() if _waits(each, sample)]
        room = self.executor.pool.free + sum(each.slot.length for each in parked if each.slot)
        while not self.executor.join(sequence, needed):
            if not parked or room < needed:
                return False
            self._park(parked.pop(0))
        task.waiting.popleft()
        self._active[sequence] = task.samples[sequence.sample]
        self._admitted[task] += not sequence.started
        return True

    def _park(self, sequence: Sequence) -> None:
        """Take the slot of a sequence that waits for text or for its reader; it computes its columns anew later."""
        self._active[sequence].task.waiting.append(sequence)
        self._deactivate(sequence)
        sequence.computed = 0

    @property
    def executor(self) -> Executor:
        """The executor, which allocates the KV cache when it is first used."""
        if self._executor is None:
            self._executor = self._make_executor()
            runner = self._executor.runner
            self.scheduler.exact, self.scheduler.block = runner.exact, runner.block
        return self._executor

    def _busy(self) -> int:
        """Return the sequences that take part in steps: not those that wait for text or for their reader."""
        return sum(not _waits(*each) for each in self._active.items())

    def _state(self) -> State[Sequence | PieceTask, Running, Sample | DecodeTask]:
        active = self._active.items()
        runnable = [Running(*each) for each in active if each[0].prefilled and each[1].has_room(each[0])]
        pieces = [each for task in self._tasks for each in _vocoders(task) if each.has_piece]
        return State(self._clock(), self._joining(), runnable, pieces)

    def _joining(self) -> list[Sequence | PieceTask]:
        """Return prefills and other work in pieces: first those of running listeners, then in order of arrival."""
        now = self._clock()
        prefills = [(sequence, sample) for sequence, sample in self._active.items() if sequence.prefilling]
        urgent = [each for each in prefills if each[1].playback.started and each[1].sequences[:1] == [each[0]]]
        urgent.sort(key=lambda each: each[1].playback.ahead(now))
        others = [each for each in prefills if each not in urgent]
        joining: list[Sequence | PieceTask] = [sequence for sequence, _ in urgent]
        for task in self._tasks:
            if isinstance(task, PieceTask):
                joining.append(task)
            else:
                joining += [sequence for sequence, sample in others if sample.task is task]
        return joining

    def _do(self, work: Work) -> None:
        began, columns = self._clock(), 0
        if isinstance(work, Step):
            self._step([each.sequence for each in work.batch])
        elif isinstance(work, Join):
            columns = self._join(work.item, work.columns)
        else:
            with self._contained(work.piece.task):
                work.piece.decode_piece(self._clock, self._frame_rate)
        self.scheduler.timed(work, self._clock() - began, columns)

    def _join(self, item: Sequence | PieceTask, columns: int) -> int:
        """Do a block of a prefill, or of other work; return the columns that a prefill computed."""
        if isinstance(item, Sequence):
            with self._contained(self._active[item].task):
                return self.executor.prefill(item, columns)
        else:
            with self._contained(item):
                item.run()
        return 0

    def _step(self, sequences: list[Sequence]) -> None:
        self._frames += len(sequences)
        for sequence, result in self.executor.step(sequences):
            sample = self._active.get(sequence)
            if sample is None:  # another sequence of its task has failed in this step
                continue
            if isinstance(result, Exception):
                self._remove(sample.task, result)
                continue
            sample.task.channel.count_step(self._clock())
            with self._contained(sample.task):
                sample.take(sequence, result)
            if sequence.finished:
                self._deactivate(sequence)
        if len(self._active) > self.scheduler.max_batch:
            for sequence in sequences:  # to the end, so that everybody gets a turn
                if sequence in self._active:
                    self._active[sequence] = self._active.pop(sequence)

    @contextlib.contextmanager
    def _contained(self, task: Task) -> Iterator[None]:
        """Let an exception in the block end one task alone."""
        try:
            yield
        except Exception as error:
            self._remove(task, error)

    def _deactivate(self, sequence: Sequence) -> None:
        self._active.pop(sequence, None)
        if self._executor:
            self._executor.leave(sequence)

    def _remove(self, task: Task, error: BaseException | None = None) -> None:
        """End a task: give back what it holds, and tell its reader."""
        with self._lock:
            if task in self._tasks:
                self._tasks.remove(task)
        self._drop(task, error)

    def _drop(self, task: Task, error: BaseException | None) -> None:
        try:
            if isinstance(task, SpeechTask):
                task.waiting.clear()
                self._admitted.pop(task, None)
            for sequence in [each for each, sample in self._active.items() if sample.task is task]:
                self._deactivate(sequence)
            task.release()
        finally:
            task.channel.end(error)


def _waits(sequence: Sequence, sample: Sample) -> bool:
    """Whether a sequence can only go on when it gets more text, or when its reader reads on."""
    return not sequence.chunks or sample.task.channel.room <= 0


def _vocoders(task: Task) -> list[Sample | DecodeTask]:
    """Return what may have a piece of audio to decode."""
    if isinstance(task, SpeechTask):
        return list(task.samples)
    return [task] if isinstance(task, DecodeTask) else []


def _closed(error: BaseException | None) -> EngineClosed:
    reason = f"has stopped ({type(error).__name__}: {error})" if error else "is closed"
    return EngineClosed(f"The engine {reason}; load the model again.")


@atexit.register
def _close_all() -> None:
    """End the threads before Python frees what they use."""
    for worker in list(_workers):
        worker.close()
