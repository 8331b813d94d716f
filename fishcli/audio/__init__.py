"""Audio files, encoders that stream, players, and the files that hold codes."""

from fishcli.audio.formats import MAX_BYTES, MAX_RATE, MAX_SECONDS, MIN_RATE, Writer, output_format, read

__all__ = ["MAX_BYTES", "MAX_RATE", "MAX_SECONDS", "MIN_RATE", "Writer", "output_format", "read"]
