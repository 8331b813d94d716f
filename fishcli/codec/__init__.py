"""Firefly, the neural audio codec of Fish Speech: audio to codes and back."""

from fishcli.codec.firefly import Firefly, StreamingDecoder, shapes
from fishcli.codec.settings import CodecSettings
from fishcli.codec.weights import amplify, canonical

__all__ = ["CodecSettings", "Firefly", "StreamingDecoder", "amplify", "canonical", "shapes"]
