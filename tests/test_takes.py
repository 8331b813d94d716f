"""Takes of a chunk: judged, spoken again where they are suspect, and the best one kept; and `--check listen`."""

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

import fishcli
from fishcli import Reference, Request, SamplingParams, TextFeed, load
from fishcli.audio import recogniser
from fishcli.errors import FishError, InputError
from fishcli.jobs.judge import Ears, Listener, Meter, Verdict, compared, sound_fault
from fishcli.jobs.takes import TakeStream, remembered, speak, spoken
from fishcli.text.transcripts import error_rate

RATE = 8000
SECOND = np.arange(RATE) / RATE
TEXT = "The first one is here. The second one is there. And the third one is gone."
heard = pytest.mark.skipif(not recogniser.is_installed(), reason="needs the extra `listen`")


def tone(height: float) -> np.ndarray:
    return (height * np.sin(2 * np.pi * 220 * SECOND)).astype(np.float32)


SOUNDS = {
    "speech is loud": (tone(0.3), None),
    "nothing at all": (np.zeros(RATE, np.float32), "silent"),
    "the noise of a codec": (tone(0.002), "silent"),
    "one word in a long silence": (np.concatenate([np.zeros(RATE, np.float32), tone(0.1)]), None),
    "cut off at full scale": (tone(3).clip(-1, 1), "clipped"),
    "bent by tanh": (np.tanh(tone(6)), "clipped"),
    "a single click": (np.concatenate([tone(0.3), np.ones(2, np.float32)]), None),
    "no samples": (np.zeros(0, np.float32), None),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_a_sound_that_is_silent_or_clipped_is_told(name):
    samples, fault = SOUNDS[name]
    assert sound_fault(samples, RATE) == fault
    meter = Meter(RATE)
    for piece in np.array_split(samples, 7):
        meter.add(piece)
    assert meter.fault == fault


TEN = "One of ten words is wrong here, and nobody minds."


@pytest.mark.parametrize(
    ("words", "said", "language", "fault"),
    [
        (TEN, TEN, "en", None),
        (TEN, TEN.replace("minds", "mines"), "en", None),
        (TEN, TEN.replace("here", "there").replace("minds", "mines"), "en", "misheard"),
        ("Nine words are too few for a single error.", "nine words are too few for a simple error", "en", "misheard"),
        ("It is $5.", "it is five dollars", "en", None),
        ("今天天气很好，我们去公园散步。", "今天天气很好我们去公园散不", "zh", None),
        ("今天天气很好。", "今天天气不好", "zh", "misheard"),
    ],
)
def test_one_error_in_ten_is_heard_right(words, said, language, fault):
    verdict = compared(words, said, language)
    assert (verdict.fault, verdict.heard) == (fault, said)


def test_a_language_that_the_recogniser_does_not_know_is_told_once(monkeypatch, caplog):
    monkeypatch.setattr(recogniser, "is_installed", lambda: True)
    ears = Ears()
    with caplog.at_level(logging.WARNING):
        assert [ears.judge(language) for language in ("zh", "zh-CN", "zh")] == [None] * 3
        assert ears.judge("en-GB") is not None
    assert [record.getMessage() for record in caplog.records] == [
        "The recogniser knows no 'zh'; the length of each chunk is checked instead."
    ]


@pytest.fixture(scope="module")
def recording():
    """A recording of speech, its rate, and its words."""
    assets = Path(fishcli.__file__).parent / "assets/tiny"
    samples, rate = soundfile.read(assets / "reference.wav", dtype="float32")
    return samples, rate, (assets / "reference.lab").read_text(encoding="utf-8").strip()


@heard
def test_a_word_that_was_not_said_is_doubted(recording):
    samples, rate, words = recording
    assert recogniser.doubt([words], samples, rate) < 0.5
    for word in ("evidence", "not", "hope"):
        assert recogniser.doubt([words.replace(word, "umbrella")], samples, rate) > 5
    assert recogniser.doubt(["Umbrella.", words], samples, rate) == recogniser.doubt([words], samples, rate)


@heard
@pytest.mark.parametrize(("spellings", "seconds"), [([], 1), (["", " "], 1), (["One."], 31)])
def test_nothing_to_doubt(spellings, seconds):
    assert recogniser.doubt(spellings, np.zeros(seconds * RATE, np.float32), RATE) == 0


JUDGED = {  # what is heard twice; the doubt of each spelling; error rate, doubt and fault
    "right and sure": (("seven", "Seven"), {"Seven.": 0.2, "seven": 0.1, "Seven": 0.3}, (0, 0.1, None)),
    "right, and doubted": (("seven", "seven"), {"Seven.": 2.0, "seven": 1.5}, (0, 1.5, "misheard")),
    "right in another spelling": (("7", "seven"), {"Seven.": 9.0, "7": 0.1, "seven": 8.0}, (0, 0.1, None)),
    "otherwise at first": (("eleven", "seven"), {"Seven.": 0.5, "seven": 0.4}, (0.5, 0.4, "misheard")),
    "otherwise at last": (("seven", "eleven"), {"Seven.": 0.5, "seven": 0.4}, (0.5, 0.4, "misheard")),
    "otherwise twice": (("eleven", "heaven"), {"Seven.": 7.0}, (1, 7.0, "misheard")),
}


@pytest.mark.parametrize("name", JUDGED)
def test_two_hearings_and_a_doubt_make_a_verdict(monkeypatch, name):
    heard, doubts, expected = JUDGED[name]
    monkeypatch.setattr(recogniser, "hearings", lambda *_: heard)
    monkeypatch.setattr(recogniser, "doubt", lambda texts, *_: min(doubts[each] for each in texts))
    verdict = Listener("en")("Seven.", np.zeros(1, np.float32), RATE)
    assert (verdict.error_rate, verdict.doubt, verdict.fault) == expected


@heard
def test_two_recognisers_hear_the_words(recording):
    samples, rate, words = recording
    hearings = recogniser.hearings(samples, rate)
    assert [error_rate(words, each, "en") for each in hearings] == [0, 0]
    assert recogniser.hearings(samples, rate) == hearings
    assert recogniser.hearings(np.zeros(RATE, np.float32), RATE)[1] == ""


def test_of_two_takes_with_as_many_errors_the_less_doubtful_is_kept(engine):
    class Sceptic(Critic):
        def __call__(self, words, samples, sample_rate):
            verdict = super().__call__(words, samples, sample_rate)
            return verdict._replace(fault="misheard", error_rate=0.5, doubt=verdict.error_rate)

    sceptic = Sceptic(0)
    for chunk, doubts in zip(spoken(engine, request(), sceptic).chunks, sceptic.heard.values(), strict=True):
        assert len(doubts) == 3
        assert (chunk.seed != 5) == (doubts.index(min(doubts)) > 0)


def test_without_the_recogniser_there_are_no_ears(monkeypatch):
    monkeypatch.setattr(recogniser, "is_installed", lambda: False)
    with pytest.raises(FishError, match=r"needs a speech recogniser; run `pip install 'fishcli\[listen\]'`"):
        Ears()


# Takes, through the engine


@pytest.fixture(scope="module")
def engine(micro):
    return load(micro, device="cpu", dtype="float32", threads=1)


def request(**changes):
    """A request of three chunks of 20 frames, which random weights seldom end before; so their length is not judged."""
    sampling = SamplingParams(seed=5, max_new_tokens=20)
    return dataclasses.replace(Request(TEXT, sampling=sampling, chunk_length=30, retries=2, check="off"), **changes)


class Critic:
    """A judge that hears an error rate in the samples, and is content below `bound`. It keeps what it has heard."""

    def __init__(self, bound: float) -> None:
        self.bound = bound
        self.heard: dict[str, list[float]] = {}

    def __call__(self, words, samples, sample_rate):
        rate = float(np.abs(samples).sum() % 1)
        self.heard.setdefault(words, []).append(rate)
        return Verdict(None if rate < self.bound else "misheard", rate)


@pytest.mark.parametrize("iterative", [True, False])
def test_takes_that_are_all_right_are_what_one_request_makes(engine, iterative):
    """The same codes, and the same samples but for their last bits; also where the text is spoken twice."""
    asked = request(iterative_prompt=iterative, num_samples=2)
    plain, judged = (list(speak(engine, asked, judge)) for judge in (None, Critic(2)))
    assert len(judged) == 6
    for sample in range(2):
        one, other = ([piece for piece in made if piece.sample == sample] for made in (plain, judged))
        np.testing.assert_array_equal(*(np.concatenate([p.codes for p in each], axis=1) for each in (one, other)))
        sounds = [np.concatenate([p.samples for p in each]) for each in (one, other)]
        np.testing.assert_allclose(*sounds, atol=1e-6)
        assert [p.text_span for p in one if p.ended is not None] == [p.text_span for p in other]
        assert {p.seed for p in one} == {p.seed for p in other} == {5 + sample}


@pytest.mark.parametrize("bound", [0.0, 0.4])
def test_a_suspect_chunk_is_spoken_again_and_the_best_take_kept(engine, bound):
    critic, again = Critic(bound), Critic(bound)
    made, repeated = spoken(engine, request(), critic), spoken(engine, request(), again)
    np.testing.assert_array_equal(made.samples, repeated.samples)
    assert (made.chunks, critic.heard) == (repeated.chunks, again.heard)
    assert [chunk.text for chunk in made.chunks] == list(critic.heard)
    for chunk, rates in zip(made.chunks, critic.heard.values(), strict=True):
        assert chunk.attempts == len(rates) == len(set(rates)) <= 3
        assert all(rate >= bound for rate in rates[:-1])
        assert (chunk.seed != 5) == (rates.index(min(rates)) > 0)
        assert chunk.fault == (None if min(rates) < bound else "misheard")
    assert max(chunk.attempts for chunk in made.chunks) == 3 or bound
    per_frame = len(made.samples) // made.frames
    for chunk, rates in zip(made.chunks, critic.heard.values(), strict=True):
        samples = made.samples[chunk.start * per_frame : (chunk.start + chunk.frames) * per_frame]
        assert float(np.abs(samples).sum() % 1) == min(rates)
    assert [chunk.start for chunk in made.chunks] == list(np.cumsum([0] + [chunk.frames for chunk in made.chunks[:-1]]))


@pytest.mark.parametrize("changes", [{"retries": 0}, {"sampling": SamplingParams(temperature=0, max_new_tokens=5)}])
def test_without_retries_and_greedily_there_is_one_take(engine, changes):
    critic = Critic(0)
    made = spoken(engine, request(**changes), critic)
    assert [chunk.attempts for chunk in made.chunks] == [1, 1, 1]
    assert {chunk.fault for chunk in made.chunks} == {"misheard"}


def test_a_fault_that_the_engine_has_tried_to_mend_is_not_tried_again(engine):
    """All chunks are truncated at 20 frames: too few for their words, so that no other take can be better."""
    made = spoken(engine, request(check="length"), Critic(0))
    assert [(chunk.fault, chunk.attempts) for chunk in made.chunks] == [("truncated", 1)] * 3


@pytest.mark.parametrize(
    ("lengths", "kept"),
    [
        ([10] * 10, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ([10] * 11, [0, 7, 8, 9, 10]),
        ([60, 10, 10, 30], [0, 3]),
        ([10, 10, 90], [0, 2]),
        ([90, 20], [0, 1]),
    ],
)
def test_the_first_chunk_and_the_latest_are_remembered(lengths, kept):
    """Within 100 frames all of them, else as many as half of the frames hold."""
    chunks = [Reference(np.zeros((8, length), np.int16), str(place)) for place, length in enumerate(lengths)]
    assert [int(chunk.text) for chunk in remembered(chunks, 100)] == kept


def test_a_closed_stream_ends(engine):
    with TakeStream(engine, request(), Critic(2)) as stream:
        assert next(stream).text_span.text == "The first one is here."
        steps = stream.steps
        stream.close()
        assert list(stream) == []
    assert stream.steps == steps == 20


def test_text_that_arrives_over_time_is_refused(engine):
    with pytest.raises(InputError, match="cannot be listened to"):
        speak(engine, request(text=TextFeed()), Critic(2))


def test_a_silent_chunk_is_marked_unless_the_check_is_off(engine, monkeypatch):
    monkeypatch.setattr("fishcli.jobs.judge._SILENT", 20.0)  # dBFS: nothing is as loud
    monkeypatch.setattr("fishcli.engine.attempts.Attempts._fault", lambda *_: None)
    assert {chunk.fault for chunk in spoken(engine, request(check="length")).chunks} == {"silent"}
    assert {chunk.fault for chunk in spoken(engine, request(check="off")).chunks} == {None}


@pytest.mark.parametrize("earlier", ["Hello.", ["Hello."], None])
def test_earlier_chunks_are_references(earlier):
    with pytest.raises(InputError, match="earlier must be a sequence of Reference"):
        Request("Hi.", earlier=earlier)


# The command


def test_the_command_names_the_extra_before_it_loads_a_model(fish, monkeypatch):
    monkeypatch.setattr(recogniser, "is_installed", lambda: False)
    for command in ("say", "generate"):
        ran = fish(command, "Hello.", "--check", "listen", "--checkpoint-path", "built-in")
        assert (ran.code, ran.out) == (1, "")
        assert ran.err == "error: Listening needs a speech recogniser; run `pip install 'fishcli[listen]'`.\n"


def test_a_server_does_not_listen(fish, monkeypatch):
    monkeypatch.setattr(recogniser, "is_installed", lambda: True)
    ran = fish("say", "Hello.", "--check", "listen", "--server", "http://127.0.0.1:1")
    assert (ran.code, ran.err) == (2, "error: A server does not listen to its speech; leave out --server.\n")


@heard
def test_the_command_listens(fish):
    ran = fish("say", "Hello there.", "--check", "listen", "--seed", 1, "--json", "--checkpoint-path", "built-in")
    figures = json.loads(ran.out)
    assert ran.code == 0
    assert (figures["faults"], figures["outputs"]) == ([], ["out.wav"])
    assert figures["retries"] <= 20
