"""What a user wrote, made ready to be spoken: checked, cleaned, read out in words, cut into chunks.

All functions are pure.
"""

from fishcli.request import Span
from fishcli.text.chunks import split, spoken
from fishcli.text.cleaning import MAX_CHARACTERS, check, clean, decode, finished, seconds, speakable
from fishcli.text.language import guess_language
from fishcli.text.normalize import can_normalize, needs_extra, normalize

__all__ = [
    "MAX_CHARACTERS",
    "Span",
    "can_normalize",
    "check",
    "clean",
    "decode",
    "finished",
    "guess_language",
    "needs_extra",
    "normalize",
    "seconds",
    "speakable",
    "split",
    "spoken",
]
