"""The figures of a server."""

import pytest

pytest.importorskip("prometheus_client")

from fishcli.engine import EngineStats
from fishcli.errors import InputError
from fishcli.server.errors import Refused
from fishcli.server.metrics import Metrics


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


def test_a_player_that_falls_silent_is_an_underrun():
    clock = Clock()
    metrics = Metrics(clock)
    timer = metrics.speech("/v1/tts")
    for now, seconds in [(0.2, 1.0), (1.15, 0.5), (1.9, 1.0), (2.0, 0.5), (3.45, 0.1)]:
        clock.now = now
        timer.audio(seconds)
    clock.now = 4.0
    timer.end("done")
    timer.end("error")  # of a `finally`
    # Silent from 1.7 on, heard again at 1.9; from there 1.5 s of audio last until 3.4, and 0.05 s are not heard.
    assert value(metrics, "fishcli_underruns_total", route="/v1/tts") == 1
    assert value(metrics, "fishcli_first_audio_seconds_sum", route="/v1/tts") == pytest.approx(0.2)
    assert value(metrics, "fishcli_speech_seconds_sum", route="/v1/tts") == pytest.approx(4.0)
    assert value(metrics, "fishcli_audio_seconds_total", route="/v1/tts") == pytest.approx(3.1)
    assert value(metrics, "fishcli_speech_errors_total") == 0


def test_silence_between_sentences_that_arrive_over_time_is_no_underrun():
    clock = Clock()
    metrics = Metrics(clock)
    timer = metrics.speech("/v1/tts/live")
    for now in (0.0, 60.0):
        clock.now = now
        timer.audio(1.0)
        timer.pause()
    clock.now = 120.0
    timer.audio(1.0)
    assert value(metrics, "fishcli_underruns_total", route="/v1/tts/live") is None
    clock.now = 123.0
    timer.audio(1.0)
    assert value(metrics, "fishcli_underruns_total", route="/v1/tts/live") == 1
    assert value(metrics, "fishcli_first_audio_seconds_count", route="/v1/tts/live") == 1


@pytest.mark.parametrize(("error", "count"), [(Refused(429, "Wait."), 0), (InputError("No."), 0), (OSError(), 1)])
def test_what_is_wrong_with_a_request_is_no_error_of_the_server(error, count):
    metrics = Metrics()
    metrics.speech("/v1/tts").failed(error)
    assert value(metrics, "fishcli_speech_errors_total") == count
    assert value(metrics, "fishcli_speech_seconds_count", route="/v1/tts") is None


@pytest.mark.parametrize("reason", ["disconnect", "timeout", "shutdown"])
def test_cancellations_are_counted_by_reason(reason):
    metrics = Metrics()
    metrics.speech("/v1/tts").end(reason)
    assert value(metrics, "fishcli_cancellations_total", reason=reason) == 1
    assert value(metrics, "fishcli_speech_seconds_count", route="/v1/tts") is None


def test_an_engine_is_asked_when_the_figures_are_read():
    metrics = Metrics()
    asked = []

    def stats():
        asked.append(None)
        return EngineStats(3, 2, 500, 8192, 77)

    metrics.watch(stats)
    assert not asked
    metrics.queue(lambda: 4, lambda: 8)
    with metrics.live():
        text, kind = metrics.render()
    assert len(asked) == 1
    assert kind.startswith("text/plain")
    lines = text.decode().splitlines()
    for line in [
        "fishcli_batch_size 3.0",
        "fishcli_sequences_waiting 2.0",
        "fishcli_kv_positions_used 500.0",
        "fishcli_kv_positions 8192.0",
        "fishcli_frames_total 77.0",
        "fishcli_queue_length 4.0",
        "fishcli_requests_running 8.0",
        "fishcli_live_sockets 1.0",
    ]:
        assert line in lines
    assert value(metrics, "fishcli_live_sockets") == 0


def test_two_servers_in_one_process_have_figures_of_their_own():
    one, other = Metrics(), Metrics()
    one.request("/v1/tts", 200, 0.1)
    assert value(one, "fishcli_requests_total", route="/v1/tts", status="200") == 1
    assert value(other, "fishcli_requests_total", route="/v1/tts", status="200") is None
