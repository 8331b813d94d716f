"""The voice library on disk: named recordings with their transcripts, and what the API tells about them."""

from fishcli.voices.exports import Exported, export_voice, read_export
from fishcli.voices.library import Library
from fishcli.voices.voice import (
    Recording,
    Visibility,
    Voice,
    VoiceExists,
    VoiceMissing,
    VoiceReadOnly,
    check_id,
    is_id,
    printable,
)

__all__ = [
    "Exported",
    "Library",
    "Recording",
    "Visibility",
    "Voice",
    "VoiceExists",
    "VoiceMissing",
    "VoiceReadOnly",
    "check_id",
    "export_voice",
    "is_id",
    "printable",
    "read_export",
]
