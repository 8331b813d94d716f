"""The engine: one model, one KV cache and one model thread, shared by everyone who speaks."""

from fishcli.engine.engine import MAX_BATCH, Engine, EngineStats, load
from fishcli.engine.streams import AudioStream, FrameStream, Stream

__all__ = ["MAX_BATCH", "AudioStream", "Engine", "EngineStats", "FrameStream", "Stream", "load"]
