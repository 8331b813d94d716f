"""The log: one line for each request, as JSON or for a reader, never with a text, a key or a query."""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import time
from collections.abc import Iterator
from typing import Any, TextIO

from fishcli.server.exchange import Exchange

log = logging.getLogger("fishcli.server.access")

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")

_TAKEN_OVER = ("fishcli", "uvicorn", "uvicorn.error", "asyncio", "python_multipart")  # the loggers of a server
_FIELDS = "fishcli_fields"  # of a record


def write(exchange: Exchange) -> None:
    """Log a request that has ended."""
    log.log(logging.WARNING if exchange.status >= 500 else logging.INFO, "request", extra={_FIELDS: _fields(exchange)})


def _fields(exchange: Exchange) -> dict[str, Any]:
    fields = {
        "id": exchange.id,
        "method": exchange.method,
        "route": exchange.route,
        "status": exchange.status,
        "seconds": round(exchange.seconds, 4),
        "first_byte": None if exchange.first_byte is None else round(exchange.first_byte, 4),
        "bytes": exchange.sent,
        "audio_seconds": exchange.audio_seconds,
        "client_gone": exchange.gone,
    }
    if log.isEnabledFor(logging.DEBUG):
        fields["path"] = exchange.path[:200]
    return fields


@contextlib.contextmanager
def logging_to(stream: TextIO, as_json: bool, debug: bool = False, quiet: bool = False) -> Iterator[None]:
    """Write what the server and its libraries log to a stream, one line a record; leave logging as it was.

    `debug` shows tracebacks and what uvicorn says; `quiet` leaves warnings and errors only.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Formatter(as_json, debug))
    own = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    before = {}
    for name in _TAKEN_OVER:
        logger = logging.getLogger(name)
        before[name] = (logger.handlers[:], logger.level, logger.propagate)
        logger.handlers[:] = [] if name == "uvicorn.error" else [handler]
        logger.propagate = name == "uvicorn.error"  # to uvicorn
        # Below that uvicorn names the address and the whole path of each socket, and everyone who sends nonsense.
        logger.setLevel(own if name == "fishcli" else logging.INFO if debug else logging.ERROR)
    try:
        yield
    finally:
        for name, (handlers, level, propagate) in before.items():
            logger = logging.getLogger(name)
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)


class _Formatter(logging.Formatter):
    """One line for each record: JSON, or words."""

    def __init__(self, as_json: bool, debug: bool) -> None:
        super().__init__()
        self._as_json, self._debug = as_json, debug

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, _FIELDS, {})
        return self._json(record, fields) if self._as_json else self._words(record, fields)

    def _json(self, record: logging.LogRecord, fields: dict[str, Any]) -> str:
        line = {"time": _utc(record.created), "level": record.levelname.lower(), "event": record.getMessage().strip()}
        if (current := request_id.get()) and "id" not in fields:
            line["id"] = current
        line |= fields
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = repr(record.exc_info[1])[:500] if self._debug else type(record.exc_info[1]).__name__
            if self._debug:
                line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)  # which escapes control characters and all that is not ASCII

    def _words(self, record: logging.LogRecord, fields: dict[str, Any]) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        words = _sentence(fields) if fields else f"{record.levelname.lower()}: {record.getMessage().strip()}"
        if record.exc_info and record.exc_info[1] is not None:
            words += f" ({type(record.exc_info[1]).__name__})"
        line = f"{clock} {escaped(words)}"
        if self._debug and record.exc_info:
            line += f"\n{self.formatException(record.exc_info)}"
        return line


def escaped(text: str) -> str:
    """Return a text on one line, its control characters escaped: a log is read on a terminal."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _sentence(fields: dict[str, Any]) -> str:
    parts = [f"{fields['status']} {fields['method']} {fields.get('path') or fields['route']} {fields['seconds']:.3f} s"]
    if fields["first_byte"] is not None and fields["bytes"]:
        parts.append(f"first byte {fields['first_byte'] * 1000:.0f} ms")
    if fields["bytes"]:
        parts.append(f"{fields['bytes']:,} bytes")
    if fields["audio_seconds"] is not None:
        parts.append(f"{fields['audio_seconds']:.1f} s of audio")
    if fields["client_gone"]:
        parts.append("client gone")
    return f"{', '.join(parts)} [{fields['id']}]"


def _utc(seconds: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds % 1 * 1000):03d}Z"
