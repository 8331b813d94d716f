"""Fish Speech's API: text to speech."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi import Request as HTTPRequest
from starlette.responses import Response

from fishcli import audio
from fishcli.errors import InputError
from fishcli.request import RETRIES, Request, TextFeed
from fishcli.server import bodies
from fishcli.server.answers import spoken
from fishcli.server.errors import Refused
from fishcli.server.openapi import body, sound
from fishcli.server.schemas import TTSRequest
from fishcli.server.speech import Order, Service


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["Fish Speech"])

    @routes.post("/v1/tts", openapi_extra=body(TTSRequest), responses=sound(), response_class=Response)
    async def tts(request: HTTPRequest) -> Response:
        """Speak a text. The sound leaves as it is made."""
        asked = await bodies.read(request, TTSRequest)
        check_length(service, asked.text)
        return spoken(service, order(service, asked), asked.stream_format, whole=asked.whole, described=True)

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
    request = Request(
        feed or asked.text,
        sampling=asked.sampling,
        chunk_length=asked.chunk_length,
        iterative_prompt=asked.condition_on_previous_chunks,
        language=asked.language,
        normalize=asked.normalize,
        check=asked.check,
        retries=asked.retries if asked.retries is not None else RETRIES * unheard,
    )
    return Order(
        request.complete(service.engine.sampling),
        sound_format(service, asked),
        voice_of(asked),
        tuple((each.audio, each.text) for each in asked.references),
        speed=prosody.speed if prosody else 1.0,
        volume=prosody.volume if prosody else 0.0,
    )


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
