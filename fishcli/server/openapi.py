"""Parts of the OpenAPI document that FastAPI cannot know: bodies that we read ourselves, and sound as an answer."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

JSON, MSGPACK = "application/json", "application/msgpack"
_SOUND = ("audio/wav", "audio/mpeg", "audio/ogg", "audio/flac", "audio/pcm", "text/event-stream")
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


def body(model: type[BaseModel], *kinds: str) -> dict[str, Any]:
    """Return the description of a body that is JSON or msgpack, or of other media types."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    content = {kind: {"schema": schema} for kind in kinds or (JSON, MSGPACK)}
    return {"requestBody": {"required": True, "content": content}}


def definitions(*models: type[BaseModel]) -> dict[str, Any]:
    """Return the schemas that the bodies refer to."""
    found: dict[str, Any] = {}
    for model in models:
        found |= model.model_json_schema(ref_template="#/components/schemas/{model}").get("$defs", {})
    return found


def sound() -> dict[int | str, dict[str, Any]]:
    """Return the answers of a route that speaks."""
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"description": "The sound.", "content": dict.fromkeys(_SOUND, schema)}, **refusals()}


def refusals() -> dict[int | str, dict[str, Any]]:
    """Return the errors of any route."""
    return {status: {"description": text} for status, text in _REFUSALS.items()}
