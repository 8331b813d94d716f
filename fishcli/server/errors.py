"""Errors as the clients of each API expect them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from fishcli.errors import EngineClosed, FishError, is_out_of_memory

log = logging.getLogger(__name__)

# The routes of OpenAI's API; all others have Fish Speech's.
_OPENAI = ("/v1/audio/", "/v1/models", "/v1/voices")
_PARAMS = {"text": "input", "format": "response_format"}  # our fields, by OpenAI's names
_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class Refused(FishError):
    """The server does not take a request: `status` is its HTTP status, `retry_after` the seconds to wait."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        field: str = "",
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, field=field)
        self.status = status
        self.retry_after = retry_after
        self.headers = dict(headers or {})


def refusal(path: str, error: FishError) -> JSONResponse:
    """Return the answer to a request to a path that failed with an error."""
    retry_after = getattr(error, "retry_after", None)
    headers = dict(getattr(error, "headers", {}))
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return JSONResponse(body(path, error), error.status, headers)


def internal() -> Refused:
    """Return the error for an exception that nobody expected; the log has the exception."""
    return Refused(500, "Internal error; the log of the server has more.")


def is_openai(path: str) -> bool:
    """Return whether a path belongs to OpenAI's API; all others belong to Fish Speech's."""
    return path.startswith(_OPENAI)


def body(path: str, error: FishError) -> dict[str, Any]:
    """Return the body of an error: Fish Speech's, which has exactly two keys, or OpenAI's."""
    message = sentence(error)
    if not is_openai(path):
        named = not error.field or error.field in message
        return {"status": error.status, "message": message if named else f"{error.field}: {message}"}
    kind = _KINDS.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    param = _PARAMS.get(error.field, error.field) or None
    return {"error": {"message": message, "type": kind, "param": param, "code": None}}


def sentence(error: FishError) -> str:
    """Return what a client may read of an error. What an engine has died of is for the log."""
    if isinstance(error, EngineClosed):
        return "The engine has stopped."
    return str(error).encode("utf-8", "backslashreplace").decode()  # a name may hold half of a character


def shown(error: BaseException) -> FishError:
    """Return an error as a client may see it. Raises those that nobody expected again: they are ours."""
    if isinstance(error, FishError):
        return error
    if is_out_of_memory(error):
        return Refused(503, "The server is out of memory; try a shorter text, or later.", retry_after=5)
    raise error


def said(error: Exception) -> FishError:
    """Return an error as a client may see it. One that nobody expected is logged, and is an internal one."""
    try:
        return shown(error)
    except Exception as unknown:
        log.error("internal error", exc_info=unknown)
        return internal()
