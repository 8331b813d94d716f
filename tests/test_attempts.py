"""The check of a chunk, and the attempts at it: the rules alone, then the built-in voice through the engine."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import TINY

from fishcli import Reference, Request, SamplingParams, load
from fishcli.engine.attempts import Attempts, loops
from fishcli.request import chunk_seed

RATE = 20.0  # frames per second
WORDS = "Forty-two letters make just three seconds."  # 42 letters: 2.8 s and 0.4 s around them
EXPECTED = 64  # frames


def attempts_of(retries=0, limit=1024, references=(), check="length"):
    request = Request(
        "Any.", references, SamplingParams(max_new_tokens=limit), chunk_length=20, check=check, retries=retries
    )
    return Attempts(SimpleNamespace(request=request, frame_rate=RATE), seed=7, place=0)


def codes_of(frames, seed=0):
    return np.random.default_rng(seed).integers(0, 1000, (8, frames)).astype(np.int16)


@pytest.mark.parametrize(
    ("frames", "ended", "fault"),
    [
        (0, True, "empty"),
        (20, True, "too short"),
        (26, True, None),
        (EXPECTED, True, None),
        (102, True, None),
        (103, True, "too long"),
        (1024, False, "truncated"),
        (40, False, "truncated"),
    ],
)
def test_the_fault_of_a_chunk(frames, ended, fault):
    assert attempts_of().take(WORDS, codes_of(frames), ended).fault == fault
    assert attempts_of(check="off").take(WORDS, codes_of(frames), ended).fault is None


@pytest.mark.parametrize(
    ("period", "repeated", "found"), [(1, 41, True), (7, 47, True), (20, 60, True), (1, 39, False), (25, 75, False)]
)
def test_loops(period, repeated, found):
    """40 frames in a row that each repeat the one at most 20 before."""
    start, loop = codes_of(30), codes_of(period, seed=1)
    codes = np.concatenate([start, *[loop] * 80], axis=1)[:, : 30 + repeated]
    assert loops(np.concatenate([codes, codes_of(9, seed=2)], axis=1), 20, 40) == found


def test_a_loop_is_a_fault():
    assert attempts_of().take(WORDS, np.repeat(codes_of(1), EXPECTED, axis=1), True).fault == "looping"


def test_short_codes_do_not_loop():
    assert not any(loops(np.zeros((8, n), np.int16), 20, 40) for n in range(41))


@pytest.mark.parametrize(
    ("tries", "kept", "fault"),
    [  # (frames, ended) of each attempt; the one that is kept
        ([(64, True)], 0, None),
        ([(0, True), (64, True)], 1, None),
        ([(160, False), (64, True)], 1, None),
        ([(120, True), (130, True)], 1, None),  # they agree: it is the pace of the voice
        ([(20, True), (19, True)], 1, None),
        ([(0, True), (0, True), (0, True)], 2, "empty"),  # nothing agrees on silence
        ([(120, True), (160, False), (150, True)], 0, "too long"),
        ([(20, True), (160, False), (10, True)], 0, "too short"),
        ([(0, True), (160, False), (0, True)], 1, "too long"),
    ],
)
def test_the_best_of_three_attempts_is_kept(tries, kept, fault):
    attempts = attempts_of(retries=2)
    given = [(codes_of(frames, seed=place), ended) for place, (frames, ended) in enumerate(tries)]
    for codes, ended in given[:-1]:
        assert attempts.take(WORDS, codes, ended) is None
    best = attempts.take(WORDS, *given[-1])
    assert best.fault == fault
    np.testing.assert_array_equal(best.codes, given[kept][0])
    assert attempts.count == len(tries)


def test_an_attempt_is_given_up_unless_it_is_the_last():
    attempts = attempts_of(retries=1)
    assert attempts.most_frames(WORDS) == 160
    assert attempts.take(WORDS, codes_of(160), False) is None
    assert attempts.most_frames(WORDS) is None
    assert attempts_of().most_frames(WORDS) is None


@pytest.mark.parametrize(("limit", "again"), [(1024, True), (0, True), (103, True), (102, False), (20, False)])
def test_a_limit_too_low_for_the_text_is_not_tried_again(limit, again):
    attempts = attempts_of(retries=2, limit=limit)
    assert (attempts.take(WORDS, codes_of(limit or 150), False) is None) == again


@pytest.mark.parametrize(
    ("seconds", "letters", "frames", "fault"),
    [
        (10, 75, 189, None),  # half as fast as the average speaker
        (10, 75, 220, "too long"),
        (2, 60, 90, "too long"),  # twice as fast
        (10, 4, 270, "too long"),  # a transcript that does not fit counts as a very slow speaker at most
        (10, 0, 110, "too long"),  # no transcript, no pace
    ],
)
def test_the_references_give_the_pace(seconds, letters, frames, fault):
    reference = Reference(codes_of(round(seconds * RATE)), "a" * letters)
    assert attempts_of(references=[reference]).take(WORDS, codes_of(frames), True).fault == fault


def test_the_pace_of_earlier_chunks_counts():
    """Three chunks at half the average speed: only the first needs a second attempt."""
    attempts, tries = attempts_of(retries=2), []
    for _ in range(3):
        while attempts.take(WORDS, codes_of(125), True) is None:
            pass
        tries.append(attempts.count)
        attempts.begin_chunk()
    assert tries == [2, 1, 1]


def test_every_attempt_at_every_chunk_has_its_own_seed():
    seeds = {chunk_seed(seed, chunk, attempt) for seed in (0, 1) for chunk in range(20) for attempt in range(3)}
    assert len(seeds) == 2 * 20 * 3
    assert chunk_seed(42, 0, 0) == 42


@pytest.fixture(scope="module")
def engine():
    return load(TINY, device="cpu", dtype="float32", threads=1)


def spoken(engine, request):
    chunks = list(engine.speak(request))
    return np.concatenate([c.codes for c in chunks], axis=1), [c for c in chunks if c.ended is not None]


def test_a_chunk_that_came_out_wrong_is_generated_again(engine):
    """At this temperature the built-in voice fails on nearly half of the seeds: those are mended, no other changes."""
    mended = 0
    for seed in range(6):
        once = Request("Hello.", sampling=SamplingParams(seed=seed, temperature=1.5, top_p=1.0))
        codes, [last] = spoken(engine, once)
        again, [final] = spoken(engine, dataclasses.replace(once, retries=2))
        if last.fault is None:
            np.testing.assert_array_equal(codes, again)
            assert final.attempts == 1
        else:
            assert final.attempts > 1
            mended += final.fault is None
        assert last.attempts == 1
    assert mended >= 1


def test_a_retry_repeats_alone_and_in_company(engine):
    text = "Hello. " * 4
    sampling = SamplingParams(temperature=1.5, top_p=1.0)
    requests = [
        Request(text, sampling=dataclasses.replace(sampling, seed=seed), chunk_length=20, retries=2)
        for seed in range(3)
    ]
    alone = [spoken(engine, request) for request in requests]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda request: spoken(engine, request), requests))
    for (codes, ends), (others, other_ends) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(codes, others)
        assert [end.attempts for end in ends] == [end.attempts for end in other_ends]
    assert max(end.attempts for _, ends in alone for end in ends) > 1


def test_frames_wait_for_the_check_only_where_there_are_retries(engine):
    request = Request("The children were playing in the garden.", sampling=SamplingParams(seed=1))
    frames = list(engine.generate(request))
    held = list(engine.generate(dataclasses.replace(request, retries=2)))
    np.testing.assert_array_equal(*(np.concatenate([f.codes for f in each], axis=1) for each in (frames, held)))
    assert [f.ended for f in frames] == [f.ended for f in held] == [None] * (len(frames) - 1) + [True]


def test_the_steps_are_counted_while_frames_wait(engine):
    with engine.generate(Request("Hello there.", sampling=SamplingParams(seed=1), retries=1)) as stream:
        frames = list(stream)
    assert stream.steps >= len(frames)
    assert stream.first_step is not None


@pytest.fixture(scope="module")
def wrong(engine):
    """Options with which the first attempt at "Hello." comes out too long."""
    for seed in range(100):
        sampling = SamplingParams(seed=seed, temperature=1.5, top_p=1.0)
        *_, last = engine.generate(Request("Hello.", sampling=sampling))
        if last.fault == "too long":
            return ["Hello.", "--temperature", 1.5, "--top-p", 1, "--seed", seed, "--dtype", "float32"]
    raise AssertionError("every seed is right")


def test_a_file_gets_the_best_attempt(fish, wrong):
    ran = fish("say", *wrong, "-v", "--json")
    assert json.loads(ran.out)["retries"] > 0
    assert '"Hello." was generated ' in ran.err
    codes = fish("generate", *wrong, "--json")
    assert json.loads(codes.out)["retries"] == json.loads(ran.out)["retries"]


def test_what_may_have_been_heard_is_reported(fish, wrong):
    ran = fish("say", *wrong, "-o", "-")
    assert 'warning: "Hello." came out too long (' in ran.err
    assert "try another --seed" in ran.err


def test_the_check_can_be_off(fish, wrong):
    ran = fish("say", *wrong, "--check", "off", "--json")
    assert (json.loads(ran.out)["retries"], json.loads(ran.out)["faults"]) == (0, [])
    assert "warning" not in ran.err
    assert fish("say", *wrong, "--check", "maybe").code == 2
