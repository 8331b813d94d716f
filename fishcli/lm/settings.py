"""The dimensions of the two transformers, read from a checkpoint's `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fishcli.errors import InputError, SettingError
from fishcli.request import FISH_SPEECH, SamplingParams

# Far above any known model; a larger value is broken or hostile, and would fill the memory.
_LIMITS = {
    "n_layer": 1 << 9,
    "n_fast_layer": 1 << 9,
    "dim": 1 << 16,
    "n_head": 1 << 10,
    "n_local_heads": 1 << 10,
    "head_dim": 1 << 12,
    "intermediate_size": 1 << 18,
    "vocab_size": 1 << 22,
    "codebook_size": 1 << 16,
    "num_codebooks": 1 << 8,
    "max_seq_len": 1 << 17,
}


@dataclass(frozen=True)
class StackSettings:
    """The dimensions of one stack of transformer blocks."""

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
        """Query heads that share one key/value head (grouped-query attention)."""
        return self.heads // self.kv_heads

    @property
    def qkv(self) -> int:
        """Rows of `wqkv`: queries, keys, values."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim


@dataclass(frozen=True)
class LMSettings:
    """The dimensions of the dual-AR model: a slow transformer over positions, a fast one over codebooks."""

    slow: StackSettings
    fast: StackSettings
    vocab_size: int
    codebook_size: int
    codebooks: int
    max_seq_len: int
    rope_base: float
    tied: bool  # the output layer is the embedding matrix

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> LMSettings:
        """Return the settings that `config.json` gives; keys of training alone are ignored. Raises InputError."""
        if (kind := config.get("model_type", "dual_ar")) != "dual_ar":
            raise InputError(f"config.json describes a {_shown(kind)} model; fishcli runs Fish Speech 1.5 (dual_ar).")
        slow = _stack(config, "n_layer", "", {})
        return cls(
            slow=slow,
            fast=_stack(config, "n_fast_layer", "fast_", config),
            vocab_size=_count(config, "vocab_size"),
            codebook_size=_count(config, "codebook_size"),
            codebooks=_count(config, "num_codebooks"),
            max_seq_len=_count(config, "max_seq_len"),
            rope_base=_between(config, "rope_base", 1, 1e12),
            tied=_flag(config, "tie_word_embeddings"),
        )


def sampling_params(config: Mapping[str, Any]) -> SamplingParams:
    """Return the sampling parameters of a `generation_config.json`, over those of Fish Speech. Raises InputError."""
    names = ("temperature", "top_p", "repetition_penalty")
    try:
        return SamplingParams(**{name: config[name] for name in names if name in config}).over(FISH_SPEECH)
    except SettingError as error:
        raise InputError(f"generation_config.json cannot be used: {error}") from error


def _stack(config: Mapping[str, Any], layers: str, prefix: str, fallback: Mapping[str, Any]) -> StackSettings:
    """Return one stack; keys that the `fast_` stack leaves out are those of the slow one (`fallback`)."""
    names = ("dim", "n_head", "n_local_heads", "head_dim", "intermediate_size")
    dim, heads, kv_heads, head_dim, inner = (_count(config, prefix + name, fallback.get(name)) for name in names)
    return StackSettings(
        layers=_count(config, layers),
        dim=dim,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        inner=inner,
        qkv_bias=_flag(config, f"{prefix}attention_qkv_bias", fallback.get("attention_qkv_bias")),
        eps=_between(config, "norm_eps", 1e-12, 1),
    )


def _count(config: Mapping[str, Any], key: str, default: object = None) -> int:
    value = _value(config, key, default)
    limit = _LIMITS[key.removeprefix("fast_")]
    if type(value) is not int or not 0 < value <= limit:
        raise _unusable(key, value, f"an integer from 1 to {limit}")
    return value


def _between(config: Mapping[str, Any], key: str, low: float, high: float) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _unusable(key, value, f"a number from {low:g} to {high:g}")
    return float(value)


def _flag(config: Mapping[str, Any], key: str, default: object = None) -> bool:
    value = _value(config, key, default)
    if not isinstance(value, bool | None):
        raise _unusable(key, value, "true or false")
    return bool(value)


def _value(config: Mapping[str, Any], key: str, default: object) -> Any:
    """Return the value of a key; if it is missing or null, `default`."""
    value = config.get(key)
    return default if value is None else value


def _unusable(key: str, value: object, rule: str) -> InputError:
    return InputError(f"config.json is not usable: {key} is {_shown(value)}, not {rule}.")


def _shown(value: object) -> str:
    """Return any value of a JSON file, shortened for a message."""
    return f"a {type(value).__name__}" if isinstance(value, list | dict) else repr(value)[:40]
