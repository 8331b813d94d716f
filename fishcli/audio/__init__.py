"""Read and encode audio, change its speed, play it, and read and write codes files."""

from fishcli.audio.encoder import Encoder, output_format
from fishcli.audio.formats import SoundFormat, requested
from fishcli.audio.prosody import Prosody
from fishcli.audio.reader import MAX_BYTES, MAX_RATE, MAX_SECONDS, MIN_RATE, read
from fishcli.audio.stream_encoder import StreamEncoder

__all__ = [
    "MAX_BYTES",
    "MAX_RATE",
    "MAX_SECONDS",
    "MIN_RATE",
    "Encoder",
    "Prosody",
    "SoundFormat",
    "StreamEncoder",
    "output_format",
    "read",
    "requested",
]
