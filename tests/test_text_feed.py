"""A text feed: its events reach one reader, in order, whenever that is attached."""

import threading

import pytest

from fishcli.errors import InputError, SettingError
from fishcli.request import FISH_SPEECH, Request, TextFeed


class Recorder:
    """A reader that keeps what it gets; it refuses the text "bad"."""

    def __init__(self):
        self.events, self.threads = [], set()

    def feed(self, text):
        self.threads.add(threading.current_thread())
        if text == "bad":
            raise InputError("bad text")
        self.events.append(text)

    def flush(self):
        self.events.append("<flush>")

    def close(self):
        self.events.append("<close>")


def attached():
    feed, reader = TextFeed(), Recorder()
    feed.attach(reader)
    return feed, reader


ACTIONS = [
    lambda feed: feed.feed("a"),
    lambda feed: feed.feed("b"),
    lambda feed: feed.flush(),
    lambda feed: feed.feed("c"),
    lambda feed: feed.close(),
]


@pytest.mark.parametrize("before", range(len(ACTIONS) + 1))
def test_the_reader_gets_all_in_order_whenever_it_is_attached(before):
    feed, reader = TextFeed(), Recorder()
    for action in ACTIONS[:before]:
        action(feed)
    feed.attach(reader)
    for action in ACTIONS[before:]:
        action(feed)
    assert reader.events == ["a", "b", "<flush>", "c", "<close>"]


def test_delivery_is_in_the_feeding_thread_and_at_once():
    feed, reader = attached()
    feed.feed("a")
    assert reader.events == ["a"]
    assert reader.threads == {threading.current_thread()}


def test_a_second_reader_is_refused():
    feed, reader = attached()
    with pytest.raises(SettingError, match="another request"):
        feed.attach(Recorder())
    feed.feed("a")
    assert reader.events == ["a"]


@pytest.mark.parametrize("action", [lambda feed: feed.feed("a"), lambda feed: feed.flush()])
@pytest.mark.parametrize("detached", [False, True])
def test_a_closed_feed_takes_no_more(action, detached):
    feed, reader = attached()
    feed.close()
    if detached:
        feed.detach()
    with pytest.raises(SettingError, match="closed"):
        action(feed)
    assert reader.events == ["<close>"]


def test_closing_again_does_nothing():
    feed, reader = attached()
    feed.close()
    feed.close()
    assert feed.closed
    assert reader.events == ["<close>"]


def test_a_block_closes():
    with TextFeed() as feed:
        assert not feed.closed
    assert feed.closed


def test_a_block_closes_after_an_exception():
    feed, reader = attached()
    feed.feed("a")
    with pytest.raises(KeyError), feed:
        raise KeyError
    assert reader.events == ["a", "<close>"]


def test_the_feeder_gets_the_error_of_its_text_and_may_go_on():
    feed, reader = attached()
    with pytest.raises(InputError, match="bad text"):
        feed.feed("bad")
    feed.feed("good")
    assert reader.events == ["good"]


def test_text_that_is_refused_when_the_reader_comes():
    feed, reader = TextFeed(), Recorder()
    feed.feed("a")
    feed.feed("bad")
    with pytest.raises(InputError, match="bad text"):
        feed.attach(reader)
    assert feed.closed
    feed.feed("b")
    assert reader.events == ["a"]


def test_text_is_dropped_once_the_reader_has_gone():
    feed, reader = attached()
    feed.feed("a")
    feed.detach()
    assert feed.closed
    feed.feed("b")
    feed.flush()
    feed.close()
    assert reader.events == ["a"]


def test_a_reader_may_detach_itself():
    feed = TextFeed()

    class Once(Recorder):
        def feed(self, text):
            super().feed(text)
            feed.detach()

    reader = Once()
    feed.attach(reader)
    feed.feed("a")
    feed.feed("b")
    assert reader.events == ["a"]


def test_threads_feed_one_at_a_time_while_a_reader_is_attached():
    """Each thread's pieces stay in order, none is lost or delivered twice, and no two calls of the reader overlap."""

    class Careful(Recorder):
        busy = threading.Lock()

        def feed(self, text):
            assert self.busy.acquire(blocking=False)
            super().feed(text)
            self.busy.release()

    feed, reader, start = TextFeed(), Careful(), threading.Barrier(9)

    def write(name):
        start.wait()
        for number in range(200):
            feed.feed(f"{name} {number}")

    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    start.wait()
    feed.attach(reader)
    for thread in threads:
        thread.join()
    feed.close()
    assert reader.events.pop() == "<close>"
    by_name = [[event for event in reader.events if event.startswith(f"{name} ")] for name in range(8)]
    assert by_name == [[f"{name} {number}" for number in range(200)] for name in range(8)]
    assert len(reader.events) == 1600


def test_detaching_does_not_wait_for_a_delivery():
    feed, inside, leave = TextFeed(), threading.Event(), threading.Event()

    class Slow(Recorder):
        def feed(self, text):
            inside.set()
            assert leave.wait(10)
            super().feed(text)

    reader = Slow()
    feed.attach(reader)
    thread = threading.Thread(target=feed.feed, args=("a",))
    thread.start()
    assert inside.wait(10)
    feed.detach()  # holds no lock that the delivery holds: it would never come back here
    leave.set()
    thread.join()
    assert feed.closed
    assert reader.events == ["a"]


def test_a_request_keeps_its_feed():
    feed = TextFeed()
    assert Request(feed).complete(FISH_SPEECH).text is feed
