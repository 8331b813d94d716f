"""Text preparation: decoding, checks, cleaning, language detection, normalisation and chunking.

All functions are pure. `prepare` runs them in order; `IncrementalScript` does so for a text that arrives over time.
"""

from fishcli.request import Script, Span
from fishcli.text.chunks import split
from fishcli.text.cleaning import MAX_CHARACTERS, check, clean, decode, finished, seconds, speakable
from fishcli.text.incremental import IncrementalScript
from fishcli.text.language import guess_language
from fishcli.text.language_codes import check_language
from fishcli.text.normalize import can_normalize, needs_extra, normalize
from fishcli.text.script import prepare

__all__ = [
    "MAX_CHARACTERS",
    "IncrementalScript",
    "Script",
    "Span",
    "can_normalize",
    "check",
    "check_language",
    "clean",
    "decode",
    "finished",
    "guess_language",
    "needs_extra",
    "normalize",
    "prepare",
    "seconds",
    "speakable",
    "split",
]
