"""Bodies: JSON and msgpack, their depth, and the first field that is wrong, by name."""

from __future__ import annotations

import base64
import json

import ormsgpack
import pytest
from pydantic import ValidationError

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
        b'{"text": "\xed\xa0\x80"}',
        rb'{"text": "\ud800"}'.decode().encode("utf-16"),
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
    "format": ["ogg", "", 3],
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
    "retries": [-1, 21],
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


def test_null_is_the_default_of_every_field_that_has_one():
    asked = bodies.validated(dict.fromkeys(TTSRequest.model_fields) | {"text": "Hello."}, TTSRequest)
    assert asked == bodies.validated({"text": "Hello."}, TTSRequest)
    needed = {"model": "tts-1", "input": "Hello.", "voice": "default"}
    asked = bodies.validated(dict.fromkeys(SpeechRequest.model_fields) | needed, SpeechRequest)
    assert asked == bodies.validated(needed, SpeechRequest)


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


MANY = 2**23
EMPTY_MAPS = b"\x82\xa4text\xa2Hi\xa8features\xdd" + MANY.to_bytes(4, "big") + b"\x80" * MANY


@pytest.mark.parametrize("data", [EMPTY_MAPS, EMPTY_MAPS.replace(b"\x80", b"\xc0"), b"\xdd\xff\xff\xff\xff" * 2**20])
def test_a_msgpack_message_of_millions_of_values_is_refused_before_it_takes_memory(data):
    with pytest.raises(InputError, match="values"):
        bodies.from_msgpack(data)


@pytest.mark.parametrize("value", [b"{},", b"[],", b"0,", b"[["])
def test_a_json_text_of_millions_of_values_is_refused_before_it_takes_memory(value):
    with pytest.raises(InputError, match="values"):
        bodies.from_json(b"[" + value * 2**21 + b"0]")


@pytest.mark.parametrize("field", ["features", "references", "reference_id"])
def test_of_many_wrong_items_only_the_first_is_looked_at(field):
    with pytest.raises(ValidationError) as caught:
        TTSRequest.model_validate({"text": "Hi", field: [None] * 10_000})
    assert caught.value.error_count() <= 3


@pytest.mark.parametrize("value", [{"text": "Hi", "tokens": [[[1000, 7, -1, 2**40]] * 9], "f": [0.5, None, True]}])
@pytest.mark.parametrize("text", ["", "x" * 31, "x" * 32, "x" * 300, "x" * 70_000])
def test_every_msgpack_value_is_counted_once(monkeypatch, value, text):
    data = ormsgpack.packb({**value, "text": text, "bytes": [text.encode(), ormsgpack.Ext(5, text.encode())]})
    monkeypatch.setattr(bodies, "MAX_VALUES", 60)
    bodies._count(data)
    monkeypatch.setattr(bodies, "MAX_VALUES", 59)
    with pytest.raises(InputError, match="values"):
        bodies._count(data)
