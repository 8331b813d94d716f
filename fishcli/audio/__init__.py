"""Read and encode audio, play it, and read and write codes files."""

from fishcli.audio.encoder import Encoder, output_format
from fishcli.audio.formats import SoundFormat, requested
from fishcli.audio.reader import MAX_BYTES, MAX_RATE, MAX_SECONDS, MIN_RATE, read
from fishcli.audio.stream_encoder import StreamEncoder

__all__ = [
    "MAX_BYTES",
    "MAX_RATE",
    "MAX_SECONDS",
    "MIN_RATE",
    "Encoder",
    "SoundFormat",
    "StreamEncoder",
    "output_format",
    "read",
    "requested",
]
