"""The bodies of the API, with the ranges of their fields. Unknown fields are ignored, as clients send what is new."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from fishcli.errors import SettingError
from fishcli.request import CHUNK_LENGTHS, MAX_RETRIES, MAX_SEED, SamplingParams
from fishcli.text import check_language
from fishcli.voices import Visibility

MAX_REFERENCES = 16
MAX_SPEECH_INPUT = 4096  # characters, OpenAI's limit


def _binary(value: Any) -> Any:
    """Return bytes as they are, and decode the base64 text that JSON holds instead."""
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("must be base64") from error


def _language(value: Any) -> Any:
    try:
        check_language(value if isinstance(value, str) else None)
    except SettingError as error:
        raise ValueError(str(error)) from error
    return value


def _voice(value: Any) -> Any:
    """Return the name in OpenAI's longer form, {"id": name}."""
    return value["id"] if isinstance(value, dict) and "id" in value else value


Binary = Annotated[
    bytes,
    BeforeValidator(_binary),
    WithJsonSchema({"type": "string", "contentEncoding": "base64", "description": "Bytes; in JSON, base64."}),
]
Language = Annotated[str | None, BeforeValidator(_language)]


# A list ends at its first wrong item: an error for each of a million takes gigabytes, and minutes.
Texts = Annotated[list[str], Field(fail_fast=True)]
Binaries = Annotated[list[Binary], Field(fail_fast=True)]
Numbers = Annotated[list[int], Field(fail_fast=True)]
Codes = Annotated[list[Numbers], Field(fail_fast=True)]


class Body(BaseModel):
    """The base of all bodies: no NaN, no infinity, and null is the default, as some clients send every field."""

    model_config = ConfigDict(allow_inf_nan=False, extra="ignore", populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return {name: each for name, each in value.items() if each is not None} if isinstance(value, dict) else value


class ReferenceAudio(Body):
    """A recording of the voice to clone, in any format that libsndfile reads, and what is said in it."""

    audio: Binary
    text: str = ""


class Prosody(Body):
    """Speed, with the pitch kept, and volume in dB."""

    speed: float = Field(1.0, ge=0.5, le=2)
    volume: float = Field(0.0, ge=-20, le=20)


class TTSRequest(Body):
    """A text to speak, by Fish Speech's API.

    Sampling parameters that are null are those of the model. `latency`, `min_chunk_length`, `early_stop_threshold`,
    `features` and `use_memory_cache` are taken and change nothing: sound always leaves as soon as it is made, and the
    voice prompt is always cached.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "Hello, world!"}]})

    text: str = Field(examples=["Hello, world!"])
    format: Literal["wav", "pcm", "mp3", "opus", "flac"] = "wav"
    sample_rate: int | None = Field(None, description="Hz; null: 44,100, and 48,000 for opus.", ge=8000, le=96_000)
    mp3_bitrate: Literal[64, 128, 192] = Field(128, description="kbit/s")
    opus_bitrate: Literal[-1000, 24, 32, 48, 64, 24000, 32000, 48000, 64000] = Field(
        32, description="kbit/s or bit/s; -1000: automatic"
    )
    subtype: Literal["PCM_16", "FLOAT"] = Field("PCM_16", description="Samples of wav and pcm.")
    chunk_length: int = Field(200, ge=CHUNK_LENGTHS[0], le=CHUNK_LENGTHS[1], description="UTF-8 bytes of a chunk.")
    min_chunk_length: int = Field(50, ge=0, le=100)
    latency: Literal["normal", "balanced", "low"] = "normal"
    normalize: bool = Field(True, description="Speak numbers as words, and no markup.")
    language: Language = Field(None, description="ISO 639-1; null: guessed.")
    streaming: bool = Field(False, description="For wav: send it as it is made, with a header without a length.")
    stream_format: Literal["audio", "sse"] = "audio"
    reference_id: str | Texts | None = Field(None, description="A voice of the library.")
    references: list[ReferenceAudio] = Field([], max_length=MAX_REFERENCES, fail_fast=True)
    prosody: Prosody | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=2)
    max_new_tokens: int = Field(1024, ge=0, le=2**31, description="Frames of each chunk; 0: no limit.")
    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    use_memory_cache: Literal["on", "off"] = "off"
    condition_on_previous_chunks: bool = Field(
        True, validation_alias=AliasChoices("condition_on_previous_chunks", "iterative_prompt")
    )
    early_stop_threshold: float = 1.0
    features: Texts = []
    check: Literal["length", "off"] = "length"
    retries: int | None = Field(
        None, ge=0, le=MAX_RETRIES, description="Of a chunk that came out wrong; null: 2, and 0 where sound streams."
    )

    @property
    def whole(self) -> bool:
        """Whether the answer is sent in one piece, when it is complete: a WAV file has its length in front."""
        return self.format == "wav" and not self.streaming and self.stream_format == "audio"

    @property
    def sampling(self) -> SamplingParams:
        """The sampling parameters."""
        return SamplingParams(self.temperature, self.top_p, self.repetition_penalty, self.seed, self.max_new_tokens)


class SpeechRequest(Body):
    """A text to speak, by OpenAI's API. `model` may be anything; `instructions` are taken and change nothing."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "fish-speech-1.5", "input": "Hello, world!", "voice": "default"}]}
    )

    model: str = Field(examples=["fish-speech-1.5"])
    input: str = Field(max_length=MAX_SPEECH_INPUT, examples=["Hello, world!"])
    voice: Annotated[
        str,
        BeforeValidator(_voice),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string"},
                    {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
                ]
            }
        ),
    ] = Field(examples=["default"])
    instructions: str | None = None
    response_format: Literal["mp3", "opus", "flac", "wav", "pcm"] = "mp3"
    speed: float = Field(1.0, ge=0.25, le=4)
    stream_format: Literal["audio", "sse"] = "audio"
    language: Language = None
    seed: int | None = Field(None, ge=0, le=MAX_SEED)


class EncodeRequest(Body):
    """Recordings to encode."""

    audios: Binaries = Field(min_length=1, max_length=MAX_REFERENCES)


class DecodeRequest(Body):
    """Codes to decode: `tokens[i]` has a list of frames for each codebook."""

    tokens: list[Codes] = Field(min_length=1, max_length=MAX_REFERENCES, fail_fast=True)


class VoiceChanges(Body):
    """Changes of a voice; null leaves a field as it is."""

    title: str | None = None
    description: str | None = None
    tags: Texts | None = None
    visibility: Visibility | None = None
    cover_image: Binary | None = Field(None, description="This server keeps no pictures, and refuses one.")


class NewVoice(VoiceChanges):
    """A voice to add: audio files, and what is said in each. `enhance_audio_quality` is taken and changes nothing."""

    title: str = Field(examples=["Paimon"])
    voices: Binaries = Field(min_length=1, max_length=MAX_REFERENCES)
    texts: Texts = []
    visibility: Visibility | None = "private"
    type: Literal["tts"] = "tts"
    train_mode: Literal["fast"] = "fast"
    enhance_audio_quality: bool = True


class StartEvent(Body):
    """The start of an utterance on the WebSocket."""

    event: Literal["start"]
    request: TTSRequest


class TextEvent(Body):
    """A piece of its text."""

    event: Literal["text"]
    text: str
