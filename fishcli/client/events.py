"""Read server-sent events, each a JSON object."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from fishcli.errors import NetworkError

_LONGEST = 64 * 2**20  # bytes of one event: five minutes of sound


def events(blocks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the data of each event, however the stream is cut into blocks. Raises NetworkError for another content."""
    data: list[bytes] = []
    for line in _lines(blocks):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield _object(b"\n".join(data))
            data = []


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the complete lines, without their ends."""
    pieces: list[bytes] = []  # of the line that is not complete
    size = 0
    for block in blocks:
        *ended, rest = block.split(b"\n")
        for line in ended:
            yield b"".join([*pieces, line]).removesuffix(b"\r")
            pieces, size = [], 0
        pieces.append(rest)
        size += len(rest)
        if size > _LONGEST:
            raise NetworkError("The server sent an event without an end.")


def _object(data: bytes) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NetworkError("The server sent an event that is not JSON.") from error
    if not isinstance(event, dict):
        raise NetworkError("The server sent an event that is not a JSON object.")
    return event
