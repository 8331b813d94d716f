"""Convert a sound that the page holds into another format, for a download."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from fishcli import audio
from fishcli.errors import InputError

_AT_ONCE = anyio.CapacityLimiter(2)
_RATES = (8_000, 96_000)  # Hz


async def convert(request: Request) -> Response:
    """Answer {"audio": PCM of 16 bits in base64, "sample_rate": Hz, "format": name} with the sound in that format."""
    data, media_type = await anyio.to_thread.run_sync(_converted, await request.body(), limiter=_AT_ONCE)
    return Response(data, media_type=media_type)


def _converted(body: bytes) -> tuple[bytes, str]:
    """Return the bytes of a sound and their media type. Raises FishError."""
    asked = _read(body)
    rate = asked.get("sample_rate")
    if type(rate) is not int or not _RATES[0] <= rate <= _RATES[1]:
        raise InputError("sample_rate must be a number from 8,000 to 96,000.", field="sample_rate")
    form = audio.requested(str(asked.get("format")), codec_rate=rate)
    samples = _samples(asked.get("audio")).astype(np.float32) / 32768
    encoder = audio.StreamEncoder(form, rate, live=False)
    file = bytearray(encoder.encode(samples) + encoder.finish())
    for position, piece in encoder.rewrites():  # the length, in front
        file[position : position + len(piece)] = piece
    return bytes(file), form.kind.media_type


def _read(body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError("The body is not valid JSON.") from error
    if not isinstance(asked, dict):
        raise InputError("The body must be a JSON object.")
    return asked


def _samples(text: Any) -> Any:
    try:
        data = base64.b64decode(text if isinstance(text, str) else "!", validate=True)
        return np.frombuffer(data, "<i2")
    except (binascii.Error, ValueError) as error:
        raise InputError("audio must be samples of 16 bits in base64.") from error
