"""Fuzz msgpack bodies: they are a request or one InputError that names a field in one line; never another error.

Needs `pip install atheris` and Python 3.11. Run it on demand, with any option of libFuzzer:
`python tests/fuzz_msgpack.py -runs=1000000`
"""

import os
import sys
import tempfile
from pathlib import Path

import atheris
import ormsgpack

with atheris.instrument_imports(include=["fishcli"]):
    from fishcli.errors import InputError
    from fishcli.server import bodies, schemas
    from fishcli.server.errors import body
    from fishcli.server.settings import MAX_DEPTH

MODELS = [schemas.TTSRequest, schemas.SpeechRequest, schemas.EncodeRequest, schemas.DecodeRequest]
MODELS += [schemas.StartEvent, schemas.TextEvent, schemas.NewVoice, schemas.VoiceChanges]
SOUND = {"audio": b"RIFF", "text": "one"}
TTS = {"text": "One.", "format": "opus", "references": [SOUND], "prosody": {"speed": 1.5, "volume": -3}, "seed": 7}
TTS |= {"reference_id": ["fox"], "opus_bitrate": -1000, "temperature": 0.7, "language": "en", "features": ["a"]}
SEEDS = [
    TTS,
    {"model": "m", "input": "One.", "voice": {"id": "fox"}, "response_format": "pcm", "speed": 2},
    {"audios": [b"RIFF", "UklGRg=="]},
    {"tokens": [[[1, 2], [3, 4]]]},
    {"event": "start", "request": TTS},
    {"event": "text", "text": "One."},
    {"title": "Fox", "voices": [b"RIFF"], "texts": ["one"], "tags": ["a"], "visibility": "private"},
    [[[[[[[[]]]]]]]],
    {1: None, None: True, 2.5: ormsgpack.Ext(5, b"x")},
]


def one_input(data: bytes) -> None:
    """The first byte chooses the model; the rest is the body."""
    model = MODELS[data[0] % len(MODELS)] if data else MODELS[0]
    try:
        value = bodies.from_msgpack(data[1:])
    except InputError as error:
        _check(error)
        return
    if _depth(value) > 1 + MAX_DEPTH:  # what is in the body, and itself
        raise RuntimeError("a deep body was let through")
    try:
        bodies.validated(value, model)
    except InputError as error:
        _check(error)


def _check(error: InputError) -> None:
    """Raise where a client could not be told of the error."""
    message = body("/v1/tts", error)["message"]
    if not message or "\n" in message or len(message) > 1_000:
        raise RuntimeError(f"no good message: {message!r}")


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def main() -> None:
    corpus = Path(tempfile.mkdtemp())
    os.chdir(corpus)  # where libFuzzer leaves an input that fails
    for number, value in enumerate(SEEDS):
        packed = ormsgpack.packb(value, option=ormsgpack.OPT_NON_STR_KEYS)
        (corpus / str(number)).write_bytes(bytes([number % len(MODELS)]) + packed)
    print(f"inputs are kept in {corpus}")
    atheris.Setup([*sys.argv, str(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
