"""A thread that works for others, interrupted wherever it may be."""

import gc
import queue
import signal
import sys
import threading
import time

import pytest

from fishcli.threads import Worker


def test_functions_run_one_after_another_in_one_thread():
    with Worker() as worker:
        seen = [worker.run(threading.get_ident) for _ in range(3)]
        calls = [worker.start(lambda number=number: time.sleep(0.01) or number) for number in range(3)]
        assert [call.result() for call in calls] == [0, 1, 2]
    assert len(set(seen)) == 1
    assert seen[0] != threading.get_ident()


def test_an_error_is_raised_where_the_result_is_wanted():
    with Worker() as worker:
        call = worker.start(int, "x")
        assert worker.run(int, "7") == 7
        for _ in range(2):
            with pytest.raises(ValueError, match="invalid literal"):
                call.result()


def test_a_wait_has_an_end():
    with Worker() as worker:
        hold = queue.SimpleQueue()
        call = worker.start(hold.get)
        assert not call.wait(0.01)
        hold.put(5)
        assert call.wait()
        assert call.done
        assert call.result() == 5


def test_many_threads_may_ask():
    with Worker() as worker:
        found = []
        threads = [threading.Thread(target=lambda n=n: found.append(worker.run(abs, -n))) for n in range(20)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert sorted(found) == list(range(20))


def test_a_worker_that_nobody_holds_ends():
    worker, ended = Worker(), queue.SimpleQueue()

    class Last:
        def __del__(self):
            ended.put(None)

    kept = [Last()]
    worker.run(kept.append, 1)
    del worker, kept
    gc.collect()
    ended.get(timeout=10)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no timer")
def test_an_interrupt_at_any_point_leaves_no_lock_behind():
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for attempt in range(2_000):
            with pytest.raises(KeyboardInterrupt), Worker() as worker:  # noqa: PT012
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + attempt / 4_000_000)
                while True:
                    worker.run(int)
            assert worker._end.done
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
