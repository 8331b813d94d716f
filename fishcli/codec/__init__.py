"""The codec (Firefly): waveform to codes and back."""

from fishcli.codec.firefly import Firefly, Stream, shapes
from fishcli.codec.settings import CodecSettings
from fishcli.codec.weights import canonical

__all__ = ["CodecSettings", "Firefly", "Stream", "canonical", "shapes"]
