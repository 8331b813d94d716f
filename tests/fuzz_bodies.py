"""Fuzz the routes that take a body with JSON, msgpack, forms and plain bytes, valid, nearly valid and not at all.

    python tests/fuzz_bodies.py 50000

No answer may be a 5xx, the server may not log an error, and its memory may grow by 64 MiB at most.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import ormsgpack
from fuzz_api import LAX, RECORDING
from fuzz_server import fuzzed_server
from hypothesis import strategies as st

LIMIT = 64  # MiB
ROUTES = [
    ("POST", path)
    for path in ("/v1/tts", "/v1/audio/speech", "/v1/vqgan/encode", "/v1/vqgan/decode", "/model", "/v1/health")
] + [("PATCH", "/model/fox")]
TYPES = ["application/json", "application/msgpack", "multipart/form-data; boundary=b", "text/plain", ""]
RAW = base64.b64encode(RECORDING).decode()
GOOD: dict[str, dict[str, Any]] = {
    "/v1/tts": {
        "text": "One two.",
        "references": [{"audio": RAW, "text": "one"}],
        "prosody": {"speed": 1.5},
        "seed": 1,
    },
    "/v1/audio/speech": {"model": "m", "input": "One two.", "voice": "alloy", "response_format": "wav", "speed": 1},
    "/v1/vqgan/encode": {"audios": [RAW]},
    "/v1/vqgan/decode": {"tokens": [[[1, 2]] * 8]},
    "/model": {"title": "fox", "voices": [RAW], "texts": ["one"]},
}
FIELDS = ["text", "input", "voice", "audios", "tokens", "references", "format", "response_format", "prosody", "speed"]
FIELDS += [
    "sample_rate",
    "seed",
    "temperature",
    "chunk_length",
    "reference_id",
    "language",
    "stream_format",
    "streaming",
]
FIELDS += ["title", "voices", "texts", "tags", "visibility", "max_new_tokens", "opus_bitrate", "retries", "features"]

numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 2**64 - 1, 1e308, 44_100])
texts = st.text(st.characters(), max_size=20) | st.sampled_from(
    ["wav", "mp3", "sse", RAW, "\0", "\ud800", "<|im_end|>"]
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts | st.binary(max_size=20) | st.just(RECORDING),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | texts, inner, max_size=4),
    max_leaves=8,
)
nested = st.builds(lambda depth, pair: pair[0] * depth + pair[1] * depth, st.integers(1, 100_000), st.sampled_from(
    [(b"[", b"]"), (b'{"a":', b"}"), (b"\x91", b""), (b"\x81\xa1a", b"")]
))  # fmt: skip


def _json(value: Any) -> bytes:
    return json.dumps(value, default=lambda raw: base64.b64encode(raw).decode()).encode("utf-8", "surrogatepass")


def _msgpack(value: Any) -> bytes:
    try:
        return ormsgpack.packb(value, option=ormsgpack.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):  # a number or a text that msgpack does not have
        return _json(value)


@st.composite
def bodies(draw: st.DrawFn, path: str) -> tuple[str, bytes]:
    """Draw a media type and a body."""
    kind = draw(st.sampled_from(TYPES))
    if draw(st.integers(0, 9)) == 0:
        return kind, draw(st.binary(max_size=200) | nested)
    value = draw(values)
    if draw(st.booleans()):
        changes = draw(st.dictionaries(st.sampled_from(FIELDS), values, max_size=2))
        value = {**GOOD.get(path, {}), **changes}
    data = _msgpack(value) if "msgpack" in kind else _form(value) if "form" in kind else _json(value)
    if draw(st.integers(0, 4)) == 0:  # bytes are lost or changed
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.binary(max_size=3)) + data[place + draw(st.integers(0, 3)) :]
    return kind, data


def _form(value: Any) -> bytes:
    fields = value.items() if isinstance(value, dict) else ()
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="%s"; filename="a"\r\n\r\n%s\r\n'
        % (str(name).encode("utf-8", "replace"), RECORDING if name == "voices" else _json(each))
        for name, each in fields
    ]
    return b"".join(parts) + b"--b--\r\n"  # fmt: skip


def fuzz(number: int, checkpoint: Path | None = None) -> tuple[Counter[tuple[str, int]], float]:
    """Send so many bodies. Returns how often each route had each status, and how the server has grown in MiB."""
    seen: Counter[tuple[str, int]] = Counter()
    with fuzzed_server(checkpoint) as server, httpx.Client(base_url=server.url, timeout=60) as client:

        def send(data: st.DataObject) -> None:
            method, path = data.draw(st.sampled_from(ROUTES))
            kind, content = data.draw(bodies(path))
            answer = client.request(method, path, content=content, headers={"Content-Type": kind} if kind else {})
            seen[f"{method} {path}", answer.status_code] += 1
            assert answer.status_code < 500, (method, path, kind, content[:500], answer.text)
            if answer.status_code == 201:
                client.delete(f"/model/{answer.json()['_id']}")
            if sum(seen.values()) == number // 10:
                server.warmed()

        hypothesis.settings(LAX, max_examples=number)(hypothesis.given(st.data())(send))()
        return seen, server.check()


def main() -> None:
    number, began = int(sys.argv[1]), time.monotonic()
    seen, grown = fuzz(number)
    for (label, status), times in sorted(seen.items()):
        print(f"{times:6} {status} {label}")
    print(f"{sum(seen.values())} bodies in {time.monotonic() - began:.0f} s; memory of the server {grown:+.1f} MiB")
    if grown > LIMIT:
        raise SystemExit(f"The server has grown by more than {LIMIT} MiB.")


if __name__ == "__main__":
    main()
