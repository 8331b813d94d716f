"""Warn about references that cannot make a good voice: too short, or with a transcript that is of something else."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from fishcli import text
from fishcli.request import Reference

log = logging.getLogger(__name__)

_SHORT, _LONG = 1.0, 30.0  # seconds


def warn_about(references: Sequence[Reference], frame_rate: float) -> None:
    """Log a sentence for each reference whose length, or whose transcript for its length, cannot be right."""
    for number, reference in enumerate(references, 1):
        name = "The reference" if len(references) == 1 else f"Reference {number}"
        spoken = np.shape(reference.codes)[1] / frame_rate
        lasts = f"{round(spoken, 2 if spoken < 1 else 1):g} s"
        if spoken < _SHORT:
            log.warning("%s lasts %s; a voice needs a second or more, and 5 to 30 s are best.", name, lasts)
        elif spoken > _LONG:
            log.info("%s lasts %s; 5 to 30 s are best, and a longer one takes time and room.", name, lasts)
        if reference.text.strip() and (misfit := _misfit(reference.text, spoken)):
            message = "%s has a transcript too %s for its %s of sound, which makes the voice babble; correct it."
            log.warning(message, name, misfit, lasts)


def _misfit(transcript: str, spoken: float) -> str:
    """Return "long" or "short" for a transcript that nobody says in `spoken` seconds, at any pace; else ""."""
    expected = text.seconds(transcript.strip())
    if expected > 2 * spoken + 1:
        return "long"
    return "short" if 5 * expected + 3 < spoken else ""
