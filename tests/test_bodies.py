"""Bodies: JSON and msgpack, their depth, and the first field that is wrong, by name."""

from __future__ import annotations

import base64
import json

import ormsgpack
import pytest

from fishcli.errors import FishError, InputError
from fishcli.server import bodies
from fishcli.server.schemas import SpeechRequest, TTSRequest


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"1e",
        b'{"a": NaN}',
        b"[Infinity]",
        b"[" * 100_000,
        b"9" * 10_000,
        b"\x00",
        rb'{"text": "\ud800"}',
    ],
)
def test_what_is_no_json_is_refused(data):
    with pytest.raises(InputError):
        bodies.from_json(data)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x81", b"\xdf\xff\xff\xff\xff", b"\x91" * 100_000, b"\xa5hell"])
def test_what_is_no_msgpack_is_refused(data):
    with pytest.raises(InputError):
        bodies.from_msgpack(data)


@pytest.mark.parametrize(
    "read", [lambda v: bodies.from_json(json.dumps(v).encode()), lambda v: bodies.from_msgpack(ormsgpack.packb(v))]
)
def test_depth_is_bounded(read):
    assert read(nested(30)) == nested(30)
    with pytest.raises(InputError, match="nested"):
        read(nested(40))


WRONG = {
    "text": [None, 5, []],
    "format": ["ogg", "", None, 3],
    "sample_rate": [-1, 0, 7999, 1e9, "fast"],
    "mp3_bitrate": [0, 100, -1000],
    "opus_bitrate": [0, 1],
    "chunk_length": [0, -5, 1e30, 19, 2001],
    "min_chunk_length": [-1, 101],
    "latency": ["fast"],
    "normalize": ["perhaps", 7],
    "references": [5, [5], [{"audio": "not base64!"}], [{"text": "x"}], [{"audio": 5}]],
    "reference_id": [5, {"a": 1}],
    "prosody": [5, {"speed": 0.4}, {"speed": float("nan")}, {"volume": 21}, {"volume": "loud"}],
    "temperature": [-0.1, 2.1, float("nan"), float("inf"), "warm"],
    "top_p": [0, 1.1, -1, float("nan")],
    "repetition_penalty": [0, -1, 2.1, float("nan")],
    "max_new_tokens": [-1, 2**40, 0.5],
    "seed": [-1, 2**63, 0.5, "x"],
    "use_memory_cache": ["maybe"],
    "language": ["xx-unknown", 5],
    "retries": [-1, 11],
    "check": ["all"],
    "subtype": ["PCM_8"],
    "stream_format": ["ws"],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_wrong_field_is_named(field, value):
    with pytest.raises(FishError) as refused:
        bodies.validated({"text": "Hello.", field: value}, TTSRequest)
    assert refused.value.status == 400
    assert refused.value.field.split(".")[0] == field
    assert str(refused.value).startswith(field)
    str(refused.value).encode()  # no lone surrogate of the body is in it


def test_null_is_the_default_where_the_contract_says_so():
    nulls = ("sample_rate", "reference_id", "prosody", "temperature", "top_p", "repetition_penalty", "seed", "language")
    asked = bodies.validated({"text": "Hello."} | dict.fromkeys(nulls), TTSRequest)
    assert asked == bodies.validated({"text": "Hello."}, TTSRequest)


def test_unknown_fields_are_ignored():
    assert bodies.validated({"text": "Hello.", "mood": "happy"}, TTSRequest).text == "Hello."


def test_recordings_are_bytes_in_msgpack_and_base64_in_json():
    plain = {"text": "Hello.", "references": [{"audio": b"RIFF", "text": "said"}]}
    coded = {"text": "Hello.", "references": [{"audio": base64.b64encode(b"RIFF").decode(), "text": "said"}]}
    packed = bodies.validated(bodies.from_msgpack(ormsgpack.packb(plain)), TTSRequest)
    assert packed == bodies.validated(bodies.from_json(json.dumps(coded).encode()), TTSRequest)
    assert packed.references[0].audio == b"RIFF"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input", "x" * 4097),
        ("input", None),
        ("voice", 5),
        ("voice", {"name": "x"}),
        ("response_format", "aac"),
        ("speed", 0.2),
        ("speed", 4.1),
        ("stream_format", "ws"),
        ("model", None),
    ],
)
def test_a_wrong_field_of_openai_is_named(field, value):
    with pytest.raises(FishError) as refused:
        bodies.validated({"model": "tts-1", "input": "Hello.", "voice": "default", field: value}, SpeechRequest)
    assert refused.value.field == field


def test_a_voice_of_openai_may_be_a_map():
    asked = bodies.validated({"model": "tts-1", "input": "Hello.", "voice": {"id": "nova"}}, SpeechRequest)
    assert asked.voice == "nova"
