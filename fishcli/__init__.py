"""Fish Speech 1.5: text and a voice in, speech out.

>>> from fishcli import load
>>> engine = load()
>>> for chunk in engine.speak("Hello, world!"):
...     play(chunk.samples, engine.sample_rate)
"""

from __future__ import annotations

TYPE_CHECKING = False  # without `typing`: the command line imports this before it can handle a Ctrl-C

__version__ = "0.1.0"
__all__ = [
    "AudioChunk",
    "Engine",
    "FishError",
    "Frame",
    "Reference",
    "Request",
    "SamplingParams",
    "TextFeed",
    "__version__",
    "load",
]

if TYPE_CHECKING:
    from typing import Any

    from fishcli.engine import Engine as Engine
    from fishcli.engine import load as load
    from fishcli.errors import FishError as FishError
    from fishcli.request import AudioChunk as AudioChunk
    from fishcli.request import Frame as Frame
    from fishcli.request import Reference as Reference
    from fishcli.request import Request as Request
    from fishcli.request import SamplingParams as SamplingParams
    from fishcli.request import TextFeed as TextFeed

_HOMES = {
    "Engine": "fishcli.engine",
    "load": "fishcli.engine",
    "FishError": "fishcli.errors",
    **dict.fromkeys(("AudioChunk", "Frame", "Reference", "Request", "SamplingParams", "TextFeed"), "fishcli.request"),
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: a client or the command line starts without torch."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
