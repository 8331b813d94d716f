"""OpenAI's API for speech."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from fishcli import audio
from fishcli.errors import InputError
from fishcli.request import SamplingParams
from fishcli.server import bodies, sse
from fishcli.server.answers import Answer
from fishcli.server.metrics import SpeechTimer
from fishcli.server.openapi import body, refusals, sound
from fishcli.server.routes.fish import check_length, data
from fishcli.server.schemas import SpeechRequest
from fishcli.server.speech import Order, Service, Utterance, speak
from fishcli.voices import VoiceMissing

# OpenAI's own names, unless the library has a voice of that name, speak without a reference.
_NAMES = frozenset(
    ("default", "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer")
) | {"verse"}
_PCM_RATE = 24_000  # Hz


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["OpenAI"])
    started = int(time.time())

    @routes.post("/v1/audio/speech", openapi_extra=body(SpeechRequest), responses=sound(), response_class=Response)
    async def speech(request: Request) -> Response:
        """Speak a text. The sound leaves as it is made."""
        asked = await bodies.read(request, SpeechRequest)
        check_length(service, asked.input, "input")
        voice = await service.in_thread(_voice, service, asked.voice)
        return answer(service, asked, voice)

    @routes.get("/v1/models", responses=refusals())
    async def models() -> dict[str, Any]:
        """List the one model that this server has."""
        return {"object": "list", "data": [_model(service, started)]}

    return routes


def answer(service: Service, asked: SpeechRequest, voice: str | None) -> Response:
    """Return the answer: a stream of sound, or one of events."""
    rate = _PCM_RATE if asked.response_format == "pcm" else None
    form = audio.requested(asked.response_format, rate, codec_rate=service.engine.sample_rate)
    order = Order(asked.input, SamplingParams(seed=asked.seed), form, voice, speed=asked.speed, language=asked.language)

    def pieces(timer: SpeechTimer) -> AsyncGenerator[bytes]:
        heard = speak(service, Utterance(service, order), timer)
        if asked.stream_format == "sse":
            return sse.events(heard, len(asked.input), described=False)
        return data(heard)

    media_type = sse.MEDIA_TYPE if asked.stream_format == "sse" else form.kind.media_type
    headers = {"X-Seed": str(order.sampling.seed), "X-Sample-Rate": str(form.sample_rate)}
    return Answer(service, pieces, len(asked.input), media_type, headers)


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
