"""The OpenAPI document: bodies that we read ourselves, sound, errors in each dialect, and the WebSocket."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from fishcli.server.bodies import JSON, MSGPACK
from fishcli.server.errors import is_openai
from fishcli.server.schemas import DecodeRequest, EncodeRequest, SpeechRequest, TTSRequest

_SOUND = ("audio/wav", "audio/mpeg", "audio/ogg", "audio/flac", "audio/pcm")
_REFERENCE = "#/components/schemas/{model}"
_REFUSALS = {
    400: "A field is wrong; the message names it.",
    401: "The key is missing or wrong.",
    403: "The page that sent the request is not allowed to.",
    404: "There is no such voice.",
    408: "The body did not arrive in time.",
    413: "The body or the text is too large.",
    415: "The body is neither JSON nor msgpack.",
    421: "The host is not served.",
    429: "Too many requests are waiting; Retry-After tells when to try again.",
    503: "The server is stopping, loading or out of memory.",
}
_DESCRIPTION = """\
Speech synthesis and voice cloning with Fish Speech 1.5, by the APIs of Fish Speech (fish.audio) and OpenAI: their SDKs
work with the address of this server as `base_url`.

Bodies are JSON, or msgpack with `Content-Type: application/msgpack`; bytes are base64 in JSON. Unknown fields are
ignored. Where the server was started with a key, send it as `Authorization: Bearer KEY`.

**WebSocket `/v1/tts/live`** speaks a text that arrives piece by piece. Messages are msgpack maps in binary frames. Send
`{event: "start", request: {text: "", ...}}` with the fields of `POST /v1/tts`, then `{event: "text", text: "..."}` as
often as you like, `{event: "flush"}` to have what was sent spoken at once, and `{event: "stop"}` at the end. The server
sends `{event: "audio", audio: ...}` as sound is made, then `{event: "finish", reason: "stop"}`, or `reason: "error"`
with a `message`. Another `start` may follow.
"""
_TAGS = [
    {"name": "Fish Speech", "description": "Text to speech and the codec, by Fish Speech's API."},
    {"name": "OpenAI", "description": "Text to speech and its voices, by OpenAI's API."},
    {"name": "Voices", "description": "The library of voices, by fish.audio's API."},
    {"name": "Health", "description": "Whether the server lives, and its figures."},
]
_STRING = {"type": "string"}
_EVENT = {"type": "string", "contentMediaType": "application/json", "description": "`speech.audio.delta`, or `.done`."}
_NULLABLE = {"type": ["string", "null"]}
_ERRORS = {
    "FishError": {
        "type": "object",
        "description": "An error as Fish Speech's clients expect it.",
        "properties": {"status": {"type": "integer", "examples": [404]}, "message": _STRING},
        "required": ["status", "message"],
        "additionalProperties": False,
    },
    "OpenAIError": {
        "type": "object",
        "description": "An error as OpenAI's clients expect it.",
        "properties": {
            "error": {
                "type": "object",
                "properties": {"message": _STRING, "type": _STRING, "param": _NULLABLE, "code": _NULLABLE},
                "required": ["message", "type", "param", "code"],
            }
        },
        "required": ["error"],
        "additionalProperties": False,
    },
}


def body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the description of a body that is JSON or msgpack."""
    schema = {"$ref": _REFERENCE.format(model=model.__name__)}
    content = {kind: {"schema": schema} for kind in (JSON, MSGPACK[0])}
    return {"requestBody": {"required": True, "content": content}}


def sound() -> dict[int | str, dict[str, Any]]:
    """Return the answers of a route that speaks."""
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in _SOUND}
    event = {"type": "object", "properties": {"data": _EVENT}, "required": ["data"]}
    headers = {
        "X-Seed": {"description": "The seed that makes this sound again.", "schema": {"type": "integer"}},
        "X-Sample-Rate": {"description": "Hz.", "schema": {"type": "integer"}},
    }
    spoken = {
        "description": "The sound.",
        "content": {**content, "text/event-stream": {"schema": event}},
        "headers": headers,
    }
    return {200: spoken, **refusals()}


def packed(field: str, item: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Return the answers of a route that sends a list of items in one field, as JSON or msgpack."""
    schema = {"type": "object", "properties": {field: {"type": "array", "items": item}}, "required": [field]}
    content = {kind: {"schema": schema} for kind in (JSON, MSGPACK[0])}
    return {200: {"description": "One item for each that was sent.", "content": content}, **refusals()}


def refusals() -> dict[int | str, dict[str, Any]]:
    """Return the errors of any route; `describe` adds their bodies, in the dialect of its path."""
    return {status: {"description": text} for status, text in _REFUSALS.items()}


def describe(app: FastAPI) -> None:
    """Have an app show this document."""
    app.openapi = partial(_document, app)  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    """Return the document, which is made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes, tags=_TAGS,
            license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        )  # fmt: skip
        components = document.setdefault("components", {})
        found = {**components.get("schemas", {}), **_schemas(), **_ERRORS}
        components["schemas"] = {name: found[name] for name in found if "ValidationError" not in name}
        components["securitySchemes"] = {"Bearer": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{}, {"Bearer": []}]
        for path, operations in document["paths"].items():
            for operation in operations.values():
                _complete(path, operation)
        app.openapi_schema = document
    return app.openapi_schema


def _schemas() -> dict[str, Any]:
    """Return the schemas of the bodies, and those they refer to, by name."""
    found: dict[str, Any] = {}
    for model in (TTSRequest, SpeechRequest, EncodeRequest, DecodeRequest):
        schema = model.model_json_schema(ref_template=_REFERENCE)
        found |= {**schema.pop("$defs", {}), model.__name__: schema}
    return found


def _complete(path: str, operation: dict[str, Any]) -> None:
    """Give an operation the first sentence of its description as a summary, and its errors their bodies."""
    first, _, rest = operation.pop("description", operation["summary"]).partition("\n")[0].partition(". ")
    operation["summary"] = first.rstrip(".")
    if rest:
        operation["description"] = rest
    operation["responses"].pop("422", None)  # FastAPI's; ours is 400
    schema = {"$ref": _REFERENCE.format(model="OpenAIError" if is_openai(path) else "FishError")}
    for status, answer in operation["responses"].items():
        if int(status) >= 400:
            answer.setdefault("content", {JSON: {"schema": schema}})
