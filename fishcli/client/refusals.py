"""Turn the answers of a server that refuses a request into errors. What a server says is not trusted."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from fishcli.errors import AuthError, FishError, InputError, NetworkError

_LONGEST = 300  # characters of a server's sentence that are shown


def refusal(url: str, status: int, body: bytes) -> FishError:
    """Return the error for an answer with a status of 300 or more."""
    said = _sentence(body)
    answer = f"{url} answered {status} {_phrase(status)}".rstrip()
    if status < 400:
        return NetworkError(f"{answer}, a redirect, which is not followed; use the address of the server itself.")
    message = f"{url}: {said}" if said else f"{answer}."
    if status in (401, 403):
        return AuthError(message if said else f"{answer}; check the API key.", field="api_key")
    if status >= 500 or status in (408, 429):
        return NetworkError(message)
    return InputError(message)


def printable(text: str, longest: int = _LONGEST) -> str:
    """Return a server's text on one line, for a terminal: control characters escaped, and not too long."""
    words = " ".join(text[: 4 * longest].split())
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in words)
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def _sentence(body: bytes) -> str:
    """Return what an error's body says: JSON of several dialects, or one plain text; "" where it is a page."""
    text = body.decode("utf-8", errors="replace").strip()
    try:
        text = _message(json.loads(text))
    except (ValueError, RecursionError):
        if text.startswith("<"):  # a page, of a proxy for example
            return ""
    text = printable(text)
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def _message(answer: Any) -> str:
    """Return the message in `{"status", "message"}`, OpenAI's `{"error": {"message"}}`, or FastAPI's `{"detail"}`."""
    if isinstance(answer, str):
        return answer
    if isinstance(answer, list):  # FastAPI's list of wrong fields
        return _message(answer[0]) if answer else ""
    if not isinstance(answer, dict):
        return ""
    found = (answer[name] for name in ("message", "error", "detail", "msg") if answer.get(name))
    return _message(next(found, ""))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
