"""Server-sent events with sound, as OpenAI's API has them, and what else we know of each piece."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

from fishcli.request import AudioChunk
from fishcli.server.speech import Piece

MEDIA_TYPE = "text/event-stream"


async def events(pieces: AsyncGenerator[Piece], input_tokens: int, described: bool) -> AsyncGenerator[bytes]:
    """Yield an event for each piece and one at the end; `described` ones tell of the chunk of text and the codes."""
    frames = 0
    async with contextlib.aclosing(pieces):
        async for data, chunk in pieces:
            frames += 0 if chunk is None else chunk.codes.shape[1]
            about = _described(chunk) if described and chunk is not None else {}
            if data or about:
                yield _event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode(), **about})
    usage = {"input_tokens": input_tokens, "output_tokens": frames, "total_tokens": input_tokens + frames}
    yield _event({"type": "speech.audio.done", "usage": usage})


def _described(chunk: AudioChunk) -> dict[str, Any]:
    return {
        "text": chunk.text_span.text,
        "start": chunk.text_span.start,
        "end": chunk.text_span.end,
        "codes": chunk.codes.tolist(),
        "ended": chunk.ended,
        "fault": chunk.fault,
        "attempts": chunk.attempts,
        "seed": chunk.seed,
    }


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()
