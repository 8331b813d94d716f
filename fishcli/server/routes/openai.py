"""OpenAI's API for speech."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HTTPRequest
from starlette.responses import Response

from fishcli import audio
from fishcli.errors import InputError
from fishcli.request import Request, SamplingParams
from fishcli.server import bodies
from fishcli.server.answers import spoken
from fishcli.server.openapi import body, refusals, sound
from fishcli.server.routes.fish import check_length
from fishcli.server.schemas import SpeechRequest
from fishcli.server.speech import Order, Service
from fishcli.voices import VoiceMissing

# OpenAI's own names, unless the library has a voice of that name, speak without a reference.
_NAMES = {
    "default", "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer",
    "verse",
}  # fmt: skip
_PCM_RATE = 24_000  # Hz


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["OpenAI"])
    started = int(time.time())

    @routes.post("/v1/audio/speech", openapi_extra=body(SpeechRequest), responses=sound(), response_class=Response)
    async def speech(request: HTTPRequest) -> Response:
        """Speak a text. The sound leaves as it is made."""
        asked = await bodies.read(request, SpeechRequest)
        check_length(service, asked.input, "input")
        voice = await service.in_thread(_voice, service, asked.voice)
        return spoken(service, order(service, asked, voice), asked.stream_format)

    @routes.get("/v1/models", responses=refusals())
    async def models() -> dict[str, Any]:
        """List the one model that this server has."""
        return {"object": "list", "data": [_model(service, started)]}

    return routes


def order(service: Service, asked: SpeechRequest, voice: str | None) -> Order:
    """Return what a request asks for, in a voice of the library or in that of the model."""
    rate = _PCM_RATE if asked.response_format == "pcm" else None
    form = audio.requested(asked.response_format, rate, codec_rate=service.engine.sample_rate)
    request = Request(asked.input, sampling=SamplingParams(seed=asked.seed), language=asked.language)
    return Order(request.complete(service.engine.sampling), form, voice, speed=asked.speed)


def _voice(service: Service, name: str) -> str | None:
    """Return the name in the library that a voice of a request means; None for the voice without a reference."""
    try:
        return service.library.find(name).id
    except VoiceMissing as error:
        if name in _NAMES:
            return None
        message = f"voice: there is no voice {name!r:.80}; GET /v1/audio/voices lists them."
        raise InputError(message, field="voice") from error


def _model(service: Service, started: int) -> dict[str, Any]:
    return {"id": service.engine.model.name, "object": "model", "created": started, "owned_by": "fishcli"}
