"""The card of the built-in voice, and the word error rate of the recogniser on its sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from fishcli.audio.recogniser import is_installed, resampled, transcribe
from fishcli.checkpoints import local
from fishcli.text.transcripts import edit_distance

__all__ = ["card", "is_installed", "resampled", "sentences", "transcribe", "word_error_rate", "word_errors", "words"]


@cache
def card() -> str:
    """Return the text of the built-in voice's card."""
    return (local.built_in() / "CARD.md").read_text(encoding="utf-8")


def sentences() -> list[str]:
    """Return the sentences of the card, on which its figures were measured."""
    return re.findall(r"^\d+\. (.+)$", card(), re.MULTILINE)


def words(text: str) -> list[str]:
    """Return the words of English text in lower case, without punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower().replace("’", "'"))


def word_errors(spoken: str, heard: str) -> int:
    """Return the edit distance between the words of two texts: insertions, deletions and substitutions."""
    return edit_distance(words(spoken), words(heard))


def word_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Return the word errors of all pairs (spoken, heard) over all spoken words."""
    pairs = list(pairs)
    return sum(word_errors(*pair) for pair in pairs) / sum(len(words(spoken)) for spoken, _ in pairs)
