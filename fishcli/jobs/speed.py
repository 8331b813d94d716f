"""How fast a model has spoken on this machine: what a job took for a second of sound, remembered in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import math
from pathlib import Path

from fishcli import files
from fishcli.jobs.identity import ModelIdentity

_ENOUGH = 10.0  # seconds of sound; less tells too little


def remembered(model: ModelIdentity) -> float | None:
    """Return the real-time factor of the last job with a model; None: there was none."""
    try:
        factor = float(_place(model).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return factor if math.isfinite(factor) and factor > 0 else None


def remember(model: ModelIdentity, seconds: float, elapsed: float) -> None:
    """Remember that so many seconds of sound took so long."""
    if seconds < _ENOUGH:
        return
    with contextlib.suppress(OSError):  # a cache that cannot be written
        path = _place(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path, durable=False) as temporary:
            temporary.write_text(f"{elapsed / seconds:.4f}", encoding="ascii")


def _place(model: ModelIdentity) -> Path:
    return files.folder("cache") / "speed" / hashlib.sha256(repr(model).encode()).hexdigest()[:32]
