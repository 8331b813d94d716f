"""Fish Speech's API: recordings to codes, and codes to sound."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import ormsgpack
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from fishcli import audio
from fishcli.errors import InputError
from fishcli.request import as_codes
from fishcli.server import bodies
from fishcli.server.answers import cancelled, left
from fishcli.server.errors import Refused
from fishcli.server.openapi import body, packed
from fishcli.server.schemas import DecodeRequest, EncodeRequest
from fishcli.server.speech import Service

T = TypeVar("T")

_MAX_FRAMES = 30_000  # of a request to decode: more than twenty minutes of sound

_LIST = {"type": "array"}
_CODES = packed("tokens", {**_LIST, "items": {**_LIST, "items": {"type": "integer"}}})
_AUDIOS = packed("audios", {"type": "string", "description": "PCM float16; in JSON, base64."})


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["Fish Speech"])

    @routes.post("/v1/vqgan/encode", openapi_extra=body(EncodeRequest), responses=_CODES, response_class=Response)
    async def encode(request: Request) -> Response:
        """Encode recordings. Each gets a list of frames for each codebook."""
        asked = await bodies.read(request, EncodeRequest)
        tokens = await _while_connected(service, request, lambda stopped: _encode(service, asked.audios, stopped))
        return await service.in_thread(_answer, request, {"tokens": tokens})

    @routes.post("/v1/vqgan/decode", openapi_extra=body(DecodeRequest), responses=_AUDIOS, response_class=Response)
    async def decode(request: Request) -> Response:
        """Decode codes. Each list of them gets its sound as PCM float16, mono, at the rate of the codec."""
        asked = await bodies.read(request, DecodeRequest)
        audios = await _while_connected(service, request, lambda stopped: _decode(service, asked.tokens, stopped))
        return await service.in_thread(_answer, request, {"audios": audios})

    return routes


def _encode(service: Service, audios: list[bytes], stopped: threading.Event) -> list[Any]:
    engine, limit = service.engine, service.settings.max_audio_seconds
    tokens = []
    for number, data in enumerate(audios, 1):
        try:
            samples = audio.read(data, engine.sample_rate, name=f"audios: recording {number}", max_seconds=limit)
        except InputError as error:
            raise InputError(str(error), field="audios") from error
        tokens.append(engine.encode(samples, stopped).tolist())
    return tokens


def _decode(service: Service, tokens: list[list[list[int]]], stopped: threading.Event) -> list[bytes]:
    settings = service.engine.codec_settings
    try:
        codes = [as_codes(np.array(each), settings.codebooks, settings.codes) for each in tokens]
    except (ValueError, OverflowError) as error:  # lists of different lengths, numbers beyond 64 bits
        raise InputError("tokens: the lists of one sound must have the same length.", field="tokens") from error
    except InputError as error:
        raise InputError(f"tokens: {error}", field="tokens") from error
    if sum(each.shape[1] for each in codes) > _MAX_FRAMES:
        raise InputError(f"tokens: at most {_MAX_FRAMES:,} frames are decoded at once; split them.", field="tokens")
    return [_decoded(service, each, stopped) for each in codes]


def _decoded(service: Service, codes: Any, stopped: threading.Event) -> bytes:
    pieces = []
    with service.engine.decode(codes) as stream:
        for samples in stream:
            if stopped.is_set():
                break
            pieces.append(samples.astype("<f2").tobytes())
    return b"".join(pieces)


async def _while_connected(service: Service, request: Request, work: Callable[[threading.Event], T]) -> T:
    """Do work in a thread while the request has a place. It is told to stop when the client leaves, or time is up."""
    stopped, limit = threading.Event(), service.settings.request_timeout
    async with service.admission.place(0):
        working = asyncio.ensure_future(service.in_thread(work, stopped))
        leaving = asyncio.ensure_future(left(request.receive))
        try:
            done, _ = await asyncio.wait({working, leaving}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            stopped.set()
            if not done:
                raise Refused(503, f"The answer took more than {limit:g} seconds.")
            return await working
        finally:
            stopped.set()
            await cancelled(working, leaving)


def _answer(request: Request, value: dict[str, Any]) -> Response:
    """Return an answer in the media type of the request."""
    if bodies.content_type(request) in bodies.MSGPACK:
        return Response(ormsgpack.packb(value), media_type=bodies.MSGPACK[0])
    if "audios" in value:
        value = {"audios": [base64.b64encode(each).decode() for each in value["audios"]]}
    return JSONResponse(value)
