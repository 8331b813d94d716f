"""The buffer between the model thread and a reader."""

import queue
import signal
import sys
import threading
import time

import pytest

from fishcli.engine.streams import Channel


def test_items_come_in_order_and_then_the_end():
    channel = Channel(10, lambda: None)
    for item in (1, 2):
        channel.put(item, 4)
    assert channel.room == 2
    channel.end()
    assert [channel.get(), channel.get()] == [1, 2]
    for _ in range(2):
        with pytest.raises(StopIteration):
            channel.get()


def test_an_error_comes_after_the_items_before_it():
    channel = Channel(10, lambda: None)
    channel.put(1, 1)
    channel.end(ValueError("lost"))
    channel.end()
    assert channel.get() == 1
    with pytest.raises(ValueError, match="lost"):
        channel.get()


@pytest.mark.parametrize("leave", ["end", "cancel"])
def test_readers_that_wait_are_told(leave):
    channel, told = Channel(10, lambda: None), queue.SimpleQueue()

    def read():
        with pytest.raises(StopIteration):
            channel.get()
        told.put(None)

    for _ in range(2):
        threading.Thread(target=read, daemon=True).start()
    time.sleep(0.05)
    getattr(channel, leave)()
    for _ in range(2):
        told.get(timeout=10)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no timer")
def test_a_reader_that_is_interrupted_at_any_point_holds_up_nobody():
    def interrupt(*_):
        raise KeyboardInterrupt

    def fill():
        while not channel.cancelled:
            channel.put(1, 1)
            time.sleep(0)
        ended.put(None)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for attempt in range(2_000):
            channel, ended = Channel(10**9, lambda: None), queue.SimpleQueue()
            threading.Thread(target=fill, daemon=True).start()
            with pytest.raises(KeyboardInterrupt):  # noqa: PT012
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + attempt / 4_000_000)
                while True:
                    channel.get()
            channel.cancel()
            ended.get(timeout=10)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
