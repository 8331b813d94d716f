"""From a request to frames and sound: chunks side by side, voices that are known, the size of pieces."""

import dataclasses
import itertools

import numpy as np
import pytest
from fishcli.engine.speech import FIRST_PUSH, LONGEST_PUSH, Schedule

from fishcli import Reference, Request, SamplingParams, load
from fishcli.checkpoints.tensor_cache import TensorCache
from fishcli.engine.prefix_cache import PrefixCache
from fishcli.text import spoken

TEXT = "One sentence stands here. Another one stands here. A third one is the last."
SHORT = SamplingParams(seed=5, max_new_tokens=6)


@pytest.fixture(scope="module")
def engine(micro):
    return load(micro, device="cpu", dtype="float32")


def by_sample(frames):
    """(sample, text) -> codes (K, T), in the order of the frames."""
    parts = {}
    for frame in frames:
        parts.setdefault((frame.sample, frame.text_span.text), []).append(frame.codes)
    return {key: np.concatenate(codes, axis=1) for key, codes in parts.items()}


def test_chunks_side_by_side_come_in_the_order_of_the_text(engine, monkeypatch):
    request = Request(TEXT, sampling=SHORT, num_samples=2, chunk_length=30, iterative_prompt=False)
    spans = [span.text for span in spoken(request.text, request.chunk_length)]
    assert len(spans) == 3
    widths = []
    step = engine.runner.step
    monkeypatch.setattr(engine.runner, "step", lambda c, rows: widths.append(len(rows.columns)) or step(c, rows))
    frames = list(engine.generate(request))
    assert max(widths) == 6  # two samples of three chunks
    for sample in range(2):
        order = [key for key, _ in itertools.groupby(f.text_span.text for f in frames if f.sample == sample)]
        assert order == spans
    ends = [frame for frame in frames if frame.ended is not None]
    assert len(ends) == 6
    monkeypatch.setattr("fishcli.engine.speech._ROWS", 1)
    alone = by_sample(engine.generate(request))
    for key, codes in by_sample(frames).items():
        np.testing.assert_array_equal(codes, alone[key])
    assert len({codes.tobytes() for codes in alone.values()}) == 6  # no two share their random numbers


def test_the_first_chunk_is_the_same_side_by_side_or_not(engine):
    request = Request(TEXT, sampling=SHORT, chunk_length=30)
    one = next(iter(by_sample(engine.generate(request)).values()))
    other = next(iter(by_sample(engine.generate(dataclasses.replace(request, iterative_prompt=False))).values()))
    np.testing.assert_array_equal(one, other)


def test_sound_of_chunks_side_by_side(engine):
    request = Request(TEXT, sampling=SHORT, chunk_length=30, iterative_prompt=False)
    chunks = list(engine.speak(request))
    codes = np.concatenate([chunk.codes for chunk in chunks], axis=1)
    whole = np.concatenate(list(engine.decode(codes)))
    np.testing.assert_allclose(np.concatenate([chunk.samples for chunk in chunks]), whole, atol=1e-4)


@pytest.fixture
def voice(golden):
    return Reference(golden["ref0_codes"], "This is the reference sentence.")


@pytest.fixture
def store(monkeypatch, tmp_path):
    """An empty store of voices."""
    monkeypatch.setenv("FISHCLI_CACHE_DIR", str(tmp_path))
    fresh = lambda: monkeypatch.setattr("fishcli.engine.prefix_cache._STORE", TensorCache("voices", 10**7, 10**7))  # noqa: E731
    fresh()
    return fresh


def test_a_voice_is_computed_once(engine, voice, monkeypatch, store):
    """Also by the next process, which finds it on disk; the speech is the same to the last code."""
    widths = []
    prefill = engine.runner.prefill
    monkeypatch.setattr(
        engine.runner, "prefill", lambda columns, *at: widths.append(len(columns)) or prefill(columns, *at)
    )
    opening = engine._prompts.prefix([voice]).shape[1]

    def spoken(text, voices=(voice,)):
        widths.clear()
        codes = [frame.codes for frame in engine.generate(Request(text, list(voices), SHORT))]
        return np.concatenate(codes, axis=1), sum(widths)

    first, computed = spoken("Again.")
    for restart in (lambda: None, store):
        restart()
        again, left = spoken("Again.")
        np.testing.assert_array_equal(first, again)
        assert left == computed - opening
    assert spoken("Other words.")[1] < opening
    other = dataclasses.replace(voice, text="Other words that are said in it.")
    assert spoken("Again.", [other])[1] > opening  # another voice, though of the same sound
    monkeypatch.setattr(engine, "_openings", PrefixCache("another model"))
    assert spoken("Again.")[1] == computed


def test_a_recording_is_encoded_once(engine, monkeypatch, store):
    monkeypatch.setattr("fishcli.engine.engine._RECORDINGS", TensorCache("recordings", 10_000, 10_000))
    encoded = []
    encode = engine.codec.encode
    monkeypatch.setattr(engine.codec, "encode", lambda samples: encoded.append(1) or encode(samples))
    samples = np.sin(np.arange(30_000, dtype=np.float32) / 9)
    first, again = engine.encode(samples), engine.encode(samples)
    np.testing.assert_array_equal(first, again)
    again[:] = 0  # a caller may do as he likes with it
    np.testing.assert_array_equal(first, engine.encode(samples))
    assert len(encoded) == 1
    engine.encode(samples[:-1])
    assert len(encoded) == 2


def sizes(pace, frame_rate=20.0, pieces=12):
    """The sizes of pieces where a frame takes `pace` seconds to make."""
    now = 0.0
    schedule = Schedule(frame_rate, clock=lambda: now)
    made = []
    for _ in range(pieces):
        now += schedule.size * pace
        made.append(schedule.size)
        schedule.sent(schedule.size)
    return made


@pytest.mark.parametrize("pace", [0.001, 0.01, 0.03, 0.045, 0.049])
def test_pieces_grow_while_nobody_waits(pace):
    made = sizes(pace, pieces=400)
    assert made[0] == FIRST_PUSH
    assert made[-1] == (LONGEST_PUSH if pace < 0.049 else made[-1])
    assert made == sorted(made)
    ready = np.cumsum(made) * pace
    played = ready[0] + np.cumsum([0, *made[:-1]]) / 20.0
    assert (ready <= played + 1e-9).all()  # each piece is there when the one before has been played


def test_pieces_are_large_where_speech_is_slower_than_it_is_played():
    assert sizes(0.2)[-1] == LONGEST_PUSH
