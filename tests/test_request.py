"""Requests and sampling parameters validate themselves, and take the defaults of the model."""

import json
from fractions import Fraction

import numpy as np
import pytest
from conftest import TINY

from fishcli import Reference, Request, SamplingParams, load
from fishcli.checkpoints import local
from fishcli.errors import FishError, InputError, SettingError
from fishcli.request import FISH_SPEECH

SAMPLING = [
    ("temperature", [-0.1, 2.1, float("nan"), float("inf"), "x", True, [0.5]]),
    ("top_p", [0, -1, 1.01, float("nan"), "0.5"]),
    ("repetition_penalty", [0, 2.5, float("-inf"), "1"]),
    ("seed", [-1, 2**63, 1.5, "x", True]),
    ("max_new_tokens", [-1, 2**31 + 1, 2.0, "many", None]),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in SAMPLING for value in values])
def test_a_wrong_sampling_parameter_is_named(name, value):
    with pytest.raises(SettingError, match=name) as caught:
        SamplingParams(**{name: value})
    assert caught.value.field == name


@pytest.mark.parametrize(
    "values",
    [{}, {"temperature": 0}, {"temperature": np.float32(0.5)}, {"top_p": Fraction(1, 2)}, {"seed": np.int64(3)}],
)
def test_right_sampling_parameters(values):
    SamplingParams(**values)


REFUSED = [
    ({"text": None}, InputError, "text"),
    ({"text": 5}, InputError, "text"),
    ({"text": b"hi"}, InputError, "text"),
    ({"references": ["x"]}, InputError, "references"),
    ({"references": "x"}, InputError, "references"),
    ({"references": None}, InputError, "references"),
    ({"sampling": None}, InputError, "sampling"),
    ({"sampling": {"seed": 1}}, InputError, "sampling"),
    ({"num_samples": 0}, SettingError, "num_samples"),
    ({"num_samples": 65}, SettingError, "num_samples"),
    ({"num_samples": 1.5}, SettingError, "num_samples"),
    ({"chunk_length": 3}, SettingError, "chunk_length"),
    ({"chunk_length": 2001}, SettingError, "chunk_length"),
    ({"chunk_length": "200"}, SettingError, "chunk_length"),
    ({"language": 1}, InputError, "language"),
    ({"check": "listen carefully"}, SettingError, "check"),
    ({"check": None}, SettingError, "check"),
    ({"retries": -1}, SettingError, "retries"),
    ({"retries": 21}, SettingError, "retries"),
    ({"sampling": SamplingParams(seed=2**63 - 1), "num_samples": 2}, SettingError, "seed"),
]


@pytest.mark.parametrize(("fields", "error", "field"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_wrong_field_is_named(fields, error, field):
    with pytest.raises(error, match=field) as caught:
        Request(**{"text": "hi", **fields})
    assert caught.value.field == field


@pytest.mark.parametrize("text", [None, 5, b"hi", ["hi"]])
def test_the_engine_refuses_what_is_no_request(text):
    engine = load(TINY, device="cpu", threads=1)
    for method in (engine.speak, engine.generate):
        with pytest.raises(FishError, match="text must be"):
            method(text)


def test_parameters_over_defaults():
    given = SamplingParams(temperature=0, seed=3)
    assert given.over(FISH_SPEECH) == SamplingParams(0, 0.7, 1.2, 3)
    assert Request("hi", sampling=given).complete(FISH_SPEECH).sampling == SamplingParams(0, 0.7, 1.2, 3)
    assert Request("hi").complete(FISH_SPEECH).sampling.seed is not None


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of the built-in voice, without sampling parameters."""
    for name in (*local.NEEDED, "codec.json"):
        (tmp_path / name).symlink_to(TINY / name)
    return tmp_path


def test_the_built_in_voice_has_its_own_parameters(checkpoint):
    assert load(TINY, device="cpu", threads=1).sampling == SamplingParams(0.5, 0.7, 1.0)
    assert load(checkpoint, device="cpu", threads=1).sampling == FISH_SPEECH


def test_a_request_takes_the_parameters_of_the_model(checkpoint):
    """Greedy by the folder's file: two seeds give the same codes, unless the request says otherwise."""
    (checkpoint / local.SAMPLING).write_text(json.dumps({"temperature": 0, "do_sample": True}))
    engine = load(checkpoint, device="cpu", threads=1)
    assert engine.sampling == SamplingParams(0, 0.7, 1.2)

    def codes(**params):
        frames = engine.generate(Request("Good evening.", sampling=SamplingParams(max_new_tokens=20, **params)))
        return np.concatenate([frame.codes for frame in frames], axis=1).tobytes()

    assert codes(seed=1) == codes(seed=2)
    assert codes(seed=1, temperature=1) != codes(seed=2, temperature=1)


@pytest.mark.parametrize("content", ['{"temperature": 9}', '{"top_p": "x"}', "[]", "{", '{"repetition_penalty": 0}'])
def test_a_broken_file_of_parameters_is_named(checkpoint, content):
    (checkpoint / local.SAMPLING).write_text(content)
    engine = load(checkpoint, device="cpu", threads=1)
    with pytest.raises(InputError, match=r"generation_config\.json"):
        engine.speak("Hello.")


def test_a_reference_is_checked_by_the_engine():
    engine = load(TINY, device="cpu", threads=1)
    with pytest.raises(InputError, match="Codes must be"):
        engine.speak(Request("hi", [Reference(np.full((8, 5), 1000), "x")]))
