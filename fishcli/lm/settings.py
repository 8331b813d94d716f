"""The dimensions of the two transformers, as `config.json` of a checkpoint gives them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fishcli.errors import InputError

# Far above any model there is; a file that asks for more is broken or hostile, and would only fill the memory.
_LIMIT = 1 << 24


@dataclass(frozen=True)
class StackSettings:
    """One stack of transformer blocks."""

    layers: int
    dim: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int  # width of the feed-forward
    qkv_bias: bool
    eps: float

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads or self.head_dim % 2:
            raise InputError(
                f"config.json is not usable: {self.heads} heads of {self.head_dim} over {self.kv_heads} key/value "
                "heads do not divide; download the checkpoint again."
            )

    @property
    def group(self) -> int:
        """Query heads that share one key/value head."""
        return self.heads // self.kv_heads

    @property
    def qkv(self) -> int:
        """Rows of `wqkv`: queries, keys, values."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim


@dataclass(frozen=True)
class LMSettings:
    """The whole language model."""

    slow: StackSettings
    fast: StackSettings
    vocab_size: int
    codebook_size: int
    codebooks: int
    max_seq_len: int
    rope_base: float
    tied: bool  # the embeddings serve as the output layer

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> LMSettings:
        """Read `config.json`; keys that say nothing about inference are ignored. Raises InputError."""
        if (kind := config.get("model_type", "dual_ar")) != "dual_ar":
            raise InputError(f"config.json describes a {kind!r} model; fishcli runs Fish Speech 1.5 (dual_ar).")
        slow = _stack(config, "n_layer", "", {})
        return cls(
            slow=slow,
            fast=_stack(config, "n_fast_layer", "fast_", config),
            vocab_size=_count(config, "vocab_size"),
            codebook_size=_count(config, "codebook_size"),
            codebooks=_count(config, "num_codebooks"),
            max_seq_len=_count(config, "max_seq_len"),
            rope_base=_positive(config, "rope_base"),
            tied=bool(config.get("tie_word_embeddings", False)),
        )


def _stack(config: Mapping[str, Any], layers: str, prefix: str, fallback: Mapping[str, Any]) -> StackSettings:
    """The `fast_` stack takes what it does not say itself from the slow one."""
    names = ("dim", "n_head", "n_local_heads", "head_dim", "intermediate_size")
    given = {name: config.get(prefix + name, fallback.get(name)) for name in names}
    dim, heads, kv_heads, head_dim, inner = (_count(given, name) for name in names)
    bias = config.get(f"{prefix}attention_qkv_bias", fallback.get("attention_qkv_bias", False))
    return StackSettings(
        layers=_count(config, layers),
        dim=dim,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        inner=inner,
        qkv_bias=bool(bias),
        eps=_positive(config, "norm_eps"),
    )


def _count(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if type(value) is not int or not 0 < value <= _LIMIT:
        raise InputError(f"config.json is not usable: {key} is {value!r}, not a positive whole number.")
    return value


def _positive(config: Mapping[str, Any], key: str) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"config.json is not usable: {key} is {value!r}, not a positive number.")
    return float(value)
