"""What an engine tells about its load."""

import pytest
from conftest import TINY

from fishcli import Request, SamplingParams, load
from fishcli.errors import SettingError


def test_stats_follow_the_requests_and_come_back():
    engine = load(TINY, max_batch=2)
    try:
        assert engine.max_batch == 2
        before = engine.stats
        assert (before.running, before.waiting, before.kv_used) == (0, 0, 0)
        assert before.kv_positions == engine.kv_positions
        request = Request("One sentence stands here.", sampling=SamplingParams(seed=1, max_new_tokens=0), check="off")
        streams = [engine.speak(request) for _ in range(3)]
        next(streams[0])
        during = engine.stats
        assert during.running == 2
        assert during.waiting == 1
        assert 0 < during.kv_used <= during.kv_positions
        assert during.frames > before.frames
        for stream in streams:
            stream.close()
        engine.generate("Hello.").close()
        list(engine.generate(Request("Hi.", sampling=SamplingParams(seed=1, max_new_tokens=4))))
        assert engine.stats[:3] == (0, 0, 0)
    finally:
        engine.close()


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True])
def test_a_batch_has_at_least_one_sequence(wrong):
    with pytest.raises(SettingError, match="max_batch must be"):
        load(TINY, max_batch=wrong)
