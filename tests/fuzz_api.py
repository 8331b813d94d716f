"""Fuzz the HTTP API from its own OpenAPI document, with requests that fit it and requests that do not.

    python tests/fuzz_api.py 20000

No answer may be a 5xx, none may differ from the document, and the server may not log an error.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import ormsgpack
import requests
import schemathesis
import soundfile
from fuzz_server import fuzzed_server
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, checks

CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
LAX = hypothesis.settings(
    database=None,
    deadline=None,
    derandomize=True,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)


def _recording() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, 0.3 * np.sin(np.arange(8_000) / 7), 16_000, format="WAV")
    return file.getvalue()


RECORDING = _recording()
SOUND: dict[str, Any] = {
    "text": "One two.",
    "input": "One two.",
    "voice": "alloy",
    "reference_id": None,
    "language": "en",
    "sample_rate": None,
    "tokens": [[[1, 2]] * 8],
    "title": "Fox",
}


@schemathesis.serializer("application/msgpack")
def _packed(_context: Any, value: Any) -> bytes:
    try:
        return ormsgpack.packb(value)
    except (TypeError, ValueError):  # a number or a text that msgpack does not have
        return json.dumps(value, default=str).encode()


def fuzz(number: int, checkpoint: Path | None = None) -> tuple[Counter[tuple[str, int]], float]:
    """Send so many requests. Returns how often each operation had each status, and how the server has grown in MiB."""
    seen: Counter[tuple[str, int]] = Counter()
    with fuzzed_server(checkpoint) as server, requests.Session() as session:
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        operations = sorted((each.ok() for each in schema.get_all_operations()), key=_takes_something)
        runs = [(each, GenerationMode.POSITIVE) for each in operations]
        runs += [(each, GenerationMode.NEGATIVE) for each in operations if _takes_something(each)]

        def send(data: st.DataObject, case: schemathesis.Case) -> None:
            if data.draw(st.booleans()):
                _make_real(case, session, server.url)
            response = case.call(session=session)
            seen[case.operation.label, response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

        for done, (operation, mode) in enumerate(runs):
            examples = (number - sum(seen.values())) // (len(runs) - done)
            settings = hypothesis.settings(LAX, max_examples=max(1, examples))
            with contextlib.suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else contextlib.nullcontext():
                settings(hypothesis.given(st.data(), operation.as_strategy(generation_mode=mode))(send))()
            if done == len(operations):
                server.warmed()
        return seen, server.check()


def _takes_something(operation: schemathesis.APIOperation) -> bool:
    return bool(operation.body or operation.path_parameters or operation.query)


def _make_real(case: Any, session: requests.Session, url: str) -> None:
    """Give a request recordings that are sound, and the id of a voice that is there."""
    if isinstance(case.body, dict):
        binary = case.media_type == "multipart/form-data"
        _fill(case.body, RECORDING if binary else base64.b64encode(RECORDING).decode())
    if case.path_parameters and "id" in case.path_parameters:
        form = {"title": "Fox", "texts": "fox"}
        made = session.post(f"{url}/model", data=form, files={"voices": RECORDING}, timeout=60)
        case.path_parameters["id"] = made.json().get("_id", "none")
    if case.method == "GET" and case.path == "/model":
        for item in session.get(f"{url}/model?page_size=1000", timeout=60).json()["items"][20:]:
            session.delete(f"{url}/model/{item['_id']}", timeout=60)


def _fill(body: dict[str, Any], recording: Any) -> None:
    """Give a body what no schema describes; whatever else is in it stays."""
    for name in ("audios", "voices"):
        if isinstance(body.get(name), list):
            body[name] = [recording for _ in body[name]]
    for each in body["references"] if isinstance(body.get("references"), list) else ():
        if isinstance(each, dict) and "audio" in each:
            each["audio"] = recording
    body.update({name: value for name, value in SOUND.items() if name in body})
    body.pop("cover_image", None)


def main() -> None:
    number, began = int(sys.argv[1]), time.monotonic()
    seen, grown = fuzz(number)
    for (label, status), times in sorted(seen.items()):
        print(f"{times:6} {status} {label}")
    print(f"{sum(seen.values())} requests in {time.monotonic() - began:.0f} s; memory of the server {grown:+.1f} MiB")


if __name__ == "__main__":
    main()
