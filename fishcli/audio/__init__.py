"""Read and encode audio, play it, and read and write codes files."""

from fishcli.audio.encoder import Encoder, output_format
from fishcli.audio.reader import MAX_BYTES, MAX_RATE, MAX_SECONDS, MIN_RATE, read

__all__ = ["MAX_BYTES", "MAX_RATE", "MAX_SECONDS", "MIN_RATE", "Encoder", "output_format", "read"]
