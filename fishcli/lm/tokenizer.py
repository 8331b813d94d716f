"""The tokenizer: byte-pair encoding in tiktoken's format, plus the control tokens of Fish Speech."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import tiktoken

from fishcli.checkpoints.convert import read_settings
from fishcli.errors import InputError
from fishcli.threads import Worker

# The seventh alternative was meant as `\s+(?!\S)`. The models were trained with the typing error, so it stays.
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

_MAX_RANKS = 1 << 24  # bytes; the real file has 1.7 million


class Tokenizer:
    """The tokenizer of one checkpoint.

    `size` is the number of token ids. The `codes` semantic tokens, one for each value of the first codebook, have
    consecutive ids from `semantic` on; `end` is the id of `<|im_end|>`. Raises InputError for files it cannot use.
    """

    def __init__(self, ranks: Path, specials: Path) -> None:
        tokens = _read_ranks(ranks)
        self.specials = _read_specials(specials, first=len(tokens))
        self._encoding = tiktoken.Encoding(
            "fish-speech", pat_str=_PATTERN, mergeable_ranks=tokens, special_tokens=self.specials
        )
        self._begin()
        self.size = len(tokens) + len(self.specials)
        self.codes = sum(name.startswith("<|semantic:") for name in self.specials)
        self.semantic = self.special("<|semantic:0|>")
        self.end = self.special("<|im_end|>")

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text. The names of control tokens in it are plain characters."""
        if self._process != os.getpid():  # a forked process has no thread
            self._begin()
        return self._thread.run(self._encoding.encode_ordinary, text)

    def _begin(self) -> None:
        """Start the thread that encodes for all.

        tiktoken keeps a matcher of 150 kB for each thread that it has seen, up to 256 of them, and never frees one;
        the threads of a server come and go.
        """
        self._process = os.getpid()
        self._thread = Worker()

    def special(self, name: str) -> int:
        """Return the id of a control token, such as `<|im_end|>`. Raises InputError."""
        if name not in self.specials:
            raise InputError(f"special_tokens.json lacks {name}; download the checkpoint again.")
        return self.specials[name]


def _read_ranks(path: Path) -> dict[bytes, int]:
    """Read `tokenizer.tiktoken`: a line for each token, its bytes in base64, a space, its rank (from 0 up)."""
    try:
        if path.stat().st_size > _MAX_RANKS:
            raise ValueError("it is too large")
        lines = [line.split() for line in path.read_bytes().splitlines()]
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name} is not a tokenizer file ({error}); download the checkpoint again.") from error
    # tiktoken panics if two tokens share a rank, or a byte is no token.
    if {*ranks.values()} != {*range(len(lines))} or not ranks.keys() >= {bytes([i]) for i in range(256)}:
        raise InputError(f"{path.name} lacks a token or has one twice; download the checkpoint again.")
    return ranks


def _read_specials(path: Path, first: int) -> dict[str, int]:
    """Read `special_tokens.json`: names and ids, consecutive from `first` on, the semantic tokens in order."""
    specials = read_settings(path)
    numbers = [i for i in specials.values() if type(i) is int]
    codes = [name for name in specials if name.startswith("<|semantic:")]
    start = specials.get("<|semantic:0|>", first)
    if (
        len(numbers) < len(specials)
        or {*numbers} != {*range(first, first + len(specials))}
        or any(specials.get(f"<|semantic:{i}|>") != start + i for i in range(len(codes)))
    ):
        raise InputError(f"{path.name} does not number the control tokens from {first} up; download it again.")
    return specials
