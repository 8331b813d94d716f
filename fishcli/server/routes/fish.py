"""Fish Speech's API: text to speech."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from fastapi import APIRouter, Request
from starlette.responses import Response

from fishcli import audio
from fishcli.errors import InputError
from fishcli.request import TextFeed
from fishcli.server import bodies, sse
from fishcli.server.answers import Answer
from fishcli.server.errors import Refused
from fishcli.server.metrics import SpeechTimer
from fishcli.server.openapi import body, sound
from fishcli.server.schemas import TTSRequest
from fishcli.server.speech import Order, Piece, Service, Utterance, speak

_RETRIES = 2  # of a chunk that came out wrong, where nobody has heard it


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["Fish Speech"])

    @routes.post("/v1/tts", openapi_extra=body(TTSRequest), responses=sound(), response_class=Response)
    async def tts(request: Request) -> Response:
        """Speak a text. The sound leaves as it is made."""
        asked = await bodies.read(request, TTSRequest)
        check_length(service, asked.text)
        return answer(service, asked, order(service, asked))

    return routes


def check_length(service: Service, text: str, field: str = "text") -> None:
    """Raise Refused for a text that is longer than this server takes."""
    limit = service.settings.max_text_length
    if limit and len(text) > limit:
        message = f"{field} has {len(text):,} characters, and this server takes {limit:,}; split it."
        raise Refused(413, message, field=field)


def order(service: Service, asked: TTSRequest, feed: TextFeed | None = None) -> Order:
    """Return what a request asks for; its text may arrive by a feed. Raises FishError that names a field."""
    prosody = asked.prosody
    unheard = asked.whole and feed is None  # until it is complete
    return Order(
        feed or asked.text,
        asked.sampling,
        sound_format(service, asked),
        voice_of(asked),
        tuple((each.audio, each.text) for each in asked.references),
        speed=prosody.speed if prosody else 1.0,
        volume=prosody.volume if prosody else 0.0,
        chunk_length=asked.chunk_length,
        iterative_prompt=asked.condition_on_previous_chunks,
        language=asked.language,
        normalize=asked.normalize,
        check=asked.check,
        retries=asked.retries if asked.retries is not None else _RETRIES * unheard,
    )


def answer(service: Service, asked: TTSRequest, spoken_order: Order) -> Response:
    """Return the answer: a complete file, a stream of sound, or one of events."""
    form = spoken_order.sound
    headers = {"X-Seed": str(spoken_order.sampling.seed), "X-Sample-Rate": str(form.sample_rate)}

    def pieces(timer: SpeechTimer) -> AsyncGenerator[bytes]:
        heard = speak(service, Utterance(service, spoken_order), timer)
        if asked.stream_format == "sse":
            return sse.events(heard, len(asked.text), described=True)
        return data(heard)

    media_type = sse.MEDIA_TYPE if asked.stream_format == "sse" else form.kind.media_type
    return Answer(service, pieces, len(asked.text), media_type, headers, form if asked.whole else None)


def sound_format(service: Service, asked: TTSRequest) -> audio.SoundFormat:
    """Return the format of the answer. Raises SettingError that names a field."""
    return audio.requested(
        asked.format,
        asked.sample_rate,
        codec_rate=service.engine.sample_rate,
        mp3_bitrate=asked.mp3_bitrate,
        opus_bitrate=asked.opus_bitrate,
        subtype=None if asked.subtype == "PCM_16" else asked.subtype,  # the default, which an MP3 has no need of
    )


def voice_of(asked: TTSRequest) -> str | None:
    """Return the one voice that a request names."""
    if not isinstance(asked.reference_id, list):
        return asked.reference_id or None
    if len(asked.reference_id) > 1:
        raise InputError("reference_id: one voice speaks at a time; name one.", field="reference_id")
    return asked.reference_id[0] if asked.reference_id else None


async def data(pieces: AsyncGenerator[Piece]) -> AsyncGenerator[bytes]:
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            if piece.data:
                yield piece.data
