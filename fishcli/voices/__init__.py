"""The voice library on disk: named recordings with their transcripts, and what the API tells about them."""

from fishcli.voices.library import Library
from fishcli.voices.voice import Recording, Visibility, Voice, VoiceExists, VoiceMissing, VoiceReadOnly, check_id

__all__ = ["Library", "Recording", "Visibility", "Voice", "VoiceExists", "VoiceMissing", "VoiceReadOnly", "check_id"]
