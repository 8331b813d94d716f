"""The model thread: the one loop that generates. It runs what the scheduler picks and hands out the results."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from fishcli.engine.executor import Executor
from fishcli.engine.prepared import no_room
from fishcli.engine.scheduler import Join, Scheduler, State, Step, Work
from fishcli.engine.sequence import Sequence
from fishcli.engine.streams import EngineClosed
from fishcli.engine.tasks import DecodeTask, PieceTask, Sample, SpeechTask, Task
from fishcli.engine.vocoder import Playback

log = logging.getLogger(__name__)

_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


@dataclass(frozen=True)
class Running:
    """A sequence that can take a decode step, as the scheduler sees it."""

    sequence: Sequence
    sample: Sample

    @property
    def listener(self) -> Playback | None:
        """Who waits for its audio; nobody while an earlier chunk is not complete."""
        turn = bool(self.sample.turns) and self.sample.turns[0] is self.sequence
        return self.sample.playback if self.sample.vocoder and turn else None

    @property
    def missing(self) -> int:
        """Frames until its next piece of audio."""
        return self.sample.vocoder.missing if self.sample.vocoder else 0


class Worker:
    """Runs tasks on a thread of its own, which starts with the first task and ends with `close`.

    Only that thread touches the executor, the codec and the state of sequences. An exception in one task ends that
    task's stream alone. `error` is what the thread died of, if it did.
    """

    def __init__(
        self, scheduler: Scheduler, frame_rate: float, executor: Callable[[], Executor],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self.error: BaseException | None = None
        self.scheduler = scheduler
        self._frame_rate, self._make_executor, self._clock = frame_rate, executor, clock
        self._executor: Executor | None = None
        self._samples: dict[Sequence, Sample] = {}  # of the sequences that have a slot
        self._tasks: list[Task] = []  # in the order of their arrival
        self._admitted: dict[SpeechTask, int] = {}  # sequences of each so far
        self._condition = threading.Condition()
        self._awake = self._closing = False
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        _workers.add(self)

    @property
    def healthy(self) -> bool:
        """Whether tasks are run: the thread has not died, and nobody has closed it."""
        return self.error is None and not self._closing

    def submit(self, task: Task) -> None:
        """Run a task. Raises EngineClosed after `close`, and in a process that was forked from the one that loaded."""
        if os.getpid() != self._process:
            raise EngineClosed("The engine does not work in a forked process; load the model after the fork.")
        with self._condition:
            if not self.healthy:
                raise _closed(self.error)
            self._tasks.append(task)
            if self._thread is None:
                # A daemon, or Python would wait for it before `atexit` has it end.
                self._thread = threading.Thread(target=self._run, name="fishcli-model", daemon=True)
                self._thread.start()
        self.wake()

    def wake(self) -> None:
        """Have the thread look for work: something has changed."""
        with self._condition:
            self._awake = True
            self._condition.notify()

    def close(self) -> None:
        """End the thread and every stream; returns when the work in progress has ended."""
        with self._condition:
            self._closing = True
        self.wake()
        if self._thread and self._thread is not threading.current_thread() and os.getpid() == self._process:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closing:
                self._awake = False
                if self.work():
                    continue
                with self._condition:
                    while not (self._awake or self._closing):
                        self._condition.wait()
        except BaseException as error:  # whatever it is, nobody may wait for ever
            log.debug("the model thread has died", exc_info=True)
            self.error = error
        with self._condition:
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
        with self._condition:
            tasks = list(self._tasks)
        for task in tasks:
            if task.channel.cancelled or task.finished:
                self._remove(task)
        self._admit([task for task in self._tasks if isinstance(task, SpeechTask)])
        return self.scheduler.next(self._state())

    def _admit(self, tasks: list[SpeechTask]) -> None:
        """Give slots to waiting sequences: first of the task that has had the fewest, else in order of arrival.

        Nobody overtakes the one whose turn it is: a large request gets its slot when others leave.
        """
        while waiting := [task for task in tasks if task.waiting and task.waiting[0].chunks]:
            task = min(waiting, key=lambda task: self._admitted.get(task, 0))
            needed, positions = task.positions(task.waiting[0]), self._running.pool.positions
            if needed > positions:
                self._remove(task, no_room(needed, positions))
                tasks.remove(task)
            elif not (self._busy() < self.scheduler.max_batch and self._join_batch(task, needed)):
                return

    def _join_batch(self, task: SpeechTask, needed: int) -> bool:
        """Give a slot to the first waiting sequence of a task; False where there is none for now."""
        sequence = task.waiting[0]
        while not self._running.join(sequence, needed):
            if not self._park():
                return False
        task.waiting.popleft()
        self._samples[sequence] = task.samples[sequence.sample]
        self._admitted[task] = self._admitted.get(task, 0) + 1
        return True

    def _park(self) -> bool:
        """Take the slot of a sequence that waits for text, which computes its prompt anew then; False without one."""
        idle = next((sequence for sequence in self._samples if not sequence.chunks), None)
        if idle is None:
            return False
        self._samples[idle].task.waiting.append(idle)
        self._leave(idle)
        idle.computed = 0
        return True

    @property
    def _running(self) -> Executor:
        if self._executor is None:
            self._executor = self._make_executor()
        return self._executor

    def _busy(self) -> int:
        """Return the sequences that have something to generate; those that wait for text take part in no step."""
        return sum(bool(sequence.chunks) for sequence in self._samples)

    def _state(self) -> State:
        samples = self._samples.items()
        prefills = [sequence for sequence, _ in samples if sequence.prefilling]
        others = [task for task in self._tasks if isinstance(task, PieceTask)]
        runnable = [Running(*each) for each in samples if each[0].prefilled and each[1].has_room(each[0])]
        speaking: list[Sample | DecodeTask] = [
            sample for task in self._tasks if isinstance(task, SpeechTask) for sample in task.samples
        ]
        decodes = [task for task in self._tasks if isinstance(task, DecodeTask)]
        pieces = [each for each in speaking + decodes if each.has_piece]
        return State(self._clock(), [*others, *prefills], runnable, pieces)

    def _do(self, work: Work) -> None:
        began = self._clock()
        if isinstance(work, Step):
            self._step([each.sequence for each in work.batch if isinstance(each, Running)])
        elif isinstance(work, Join):
            self._join(work)
        else:
            piece = work.piece
            assert isinstance(piece, Sample | DecodeTask)
            task = piece.task if isinstance(piece, Sample) else piece
            self._contained(task, lambda: piece.decode_piece(self._clock, self._frame_rate))
        self.scheduler.timed(work, self._clock() - began)

    def _join(self, work: Join) -> None:
        if isinstance(work.item, PieceTask):
            self._contained(work.item, work.item.run)
        elif isinstance(work.item, Sequence):
            sequence = work.item
            self._contained(self._samples[sequence].task, lambda: self._running.prefill(sequence, work.columns))

    def _step(self, sequences: list[Sequence]) -> None:
        for sequence, result in self._running.step(sequences):
            sample = self._samples.get(sequence)
            if sample is None:  # another sequence of its task has failed in this step
                continue
            if isinstance(result, Exception):
                self._remove(sample.task, result)
                continue
            sample.take(sequence, result)
            if sequence.finished:
                self._leave(sequence)
        if len(self._samples) > self.scheduler.max_batch:
            for sequence in sequences:  # to the end, so that everybody gets a turn
                if sequence in self._samples:
                    self._samples[sequence] = self._samples.pop(sequence)

    def _contained(self, task: Task, work: Callable[[], None]) -> None:
        """Do something for one task, whose exception is that task's alone."""
        try:
            work()
        except Exception as error:
            self._remove(task, error)

    def _leave(self, sequence: Sequence) -> None:
        self._samples.pop(sequence, None)
        if self._executor:
            self._executor.leave(sequence)

    def _remove(self, task: Task, error: BaseException | None = None) -> None:
        """End a task: give back what it holds, and tell its reader."""
        with self._condition:
            if task in self._tasks:
                self._tasks.remove(task)
        self._drop(task, error)

    def _drop(self, task: Task, error: BaseException | None) -> None:
        if isinstance(task, SpeechTask):
            task.waiting.clear()
            self._admitted.pop(task, None)
        for sequence in [each for each, sample in self._samples.items() if sample.task is task]:
            self._leave(sequence)
        task.release()
        task.channel.end(error)


def _closed(error: BaseException | None) -> EngineClosed:
    reason = f"has stopped ({type(error).__name__}: {error})" if error else "is closed"
    return EngineClosed(f"The engine {reason}; load the model again.")


@atexit.register
def _close_all() -> None:
    """End the threads before Python frees what they use."""
    for worker in list(_workers):
        worker.close()
