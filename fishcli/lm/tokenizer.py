"""Text to token ids: byte-pair encoding in tiktoken's format, plus the control tokens of Fish Speech."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import tiktoken

from fishcli.errors import InputError

# The seventh alternative was meant as `\s+(?!\S)`; the models were trained with the typing error, and other
# ids would come out without it.
_PATTERN = "|".join(
    [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"\p{P}",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(\?!\S)",
        r"\s+",
    ]
)


class Tokenizer:
    """The tokenizer of one checkpoint.

    `semantic` is the id of `<|semantic:0|>`, the first of the ids that stand for codes; `end` is the id of
    `<|im_end|>`.
    """

    def __init__(self, ranks: Path, specials: Path) -> None:
        self.specials = _read_specials(specials)
        self._encoding = tiktoken.Encoding(
            "fish-speech", pat_str=_PATTERN, mergeable_ranks=_read_ranks(ranks), special_tokens=self.specials
        )
        self.semantic = self.special("<|semantic:0|>")
        self.end = self.special("<|im_end|>")

    def encode(self, text: str) -> list[int]:
        """The ids of a text that somebody wrote: control tokens in it are plain characters."""
        return self._encoding.encode_ordinary(text)

    def special(self, name: str) -> int:
        """The id of a control token, such as `<|im_end|>`."""
        if name not in self.specials:
            raise InputError(f"special_tokens.json lacks {name}; download the checkpoint again.")
        return self.specials[name]


def _read_ranks(path: Path) -> dict[bytes, int]:
    """Parse `tokenizer.tiktoken`: a line for each token, its bytes in base64, a space, its rank."""
    try:
        lines = path.read_bytes().splitlines()
        return {base64.b64decode(token, validate=True): int(rank) for token, rank in map(bytes.split, lines)}
    except ValueError as error:
        raise InputError(f"{path.name} is not a tokenizer file ({error}); download the checkpoint again.") from error


def _read_specials(path: Path) -> dict[str, int]:
    try:
        specials = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path.name} is not JSON ({error}); download the checkpoint again.") from error
    if not isinstance(specials, dict) or not all(type(i) is int and i >= 0 for i in specials.values()):
        raise InputError(f"{path.name} does not map names to ids; download the checkpoint again.")
    return specials
