"""Fish Speech 1.5: text and a voice in, speech out.

>>> from fishcli import load
>>> engine = load()
>>> for chunk in engine.speak("Hello, world!"):
...     play(chunk.samples, engine.sample_rate)
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Engine", "FishError", "Request", "Sampling", "Voice", "__version__", "load"]

if TYPE_CHECKING:
    from fishcli.engine import Engine as Engine
    from fishcli.engine import load as load
    from fishcli.engine.speech import Request as Request
    from fishcli.errors import FishError as FishError
    from fishcli.lm.prompt import Voice as Voice
    from fishcli.lm.sampling import Sampling as Sampling

_HOMES = {
    "Engine": "fishcli.engine",
    "FishError": "fishcli.errors",
    "load": "fishcli.engine",
    "Request": "fishcli.engine.speech",
    "Sampling": "fishcli.lm.sampling",
    "Voice": "fishcli.lm.prompt",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that `fish --help` never imports torch."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
