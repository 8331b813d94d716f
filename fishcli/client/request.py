"""A request for speech, as Fish Speech's API takes it: JSON, or msgpack where recordings are sent."""

from __future__ import annotations

import base64
import dataclasses
import importlib.util
import json
from dataclasses import dataclass
from typing import Any, NamedTuple


class Recording(NamedTuple):
    """A recording of a voice: the bytes of an audio file, and what is said in it."""

    audio: bytes
    text: str


@dataclass(frozen=True)
class SpeechRequest:
    """The fields of `POST /v1/tts`. None is not sent, and the server's default holds.

    `voice` is the id of a voice that the server knows. The fields from `language` on are known to our server alone.
    """

    text: str
    format: str = "wav"
    references: tuple[Recording, ...] = ()
    voice: str | None = None
    streaming: bool | None = None
    sample_rate: int | None = None
    chunk_length: int | None = None
    normalize: bool | None = None
    latency: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    max_new_tokens: int | None = None
    seed: int | None = None
    use_memory_cache: str | None = None
    language: str | None = None
    subtype: str | None = None
    retries: int | None = None
    check: str | None = None
    iterative_prompt: bool | None = None
    stream_format: str | None = None

    def encode(self) -> tuple[bytes, str]:
        """Return the body and its content type."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["reference_id"] = fields.pop("voice")
        fields["references"] = None
        fields = {name: value for name, value in fields.items() if value is not None}
        if self.references and importlib.util.find_spec("ormsgpack"):
            import ormsgpack

            fields["references"] = [each._asdict() for each in self.references]
            return ormsgpack.packb(fields), "application/msgpack"
        if self.references:
            fields["references"] = [_in_json(each) for each in self.references]
        return json.dumps(fields).encode(), "application/json"


def _in_json(recording: Recording) -> dict[str, Any]:
    return {"audio": base64.b64encode(recording.audio).decode(), "text": recording.text}
