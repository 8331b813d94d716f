"""The weights of a codec's checkpoint in one canonical form: no prefix, weight norm folded."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fishcli.errors import InputError

_PREFIX = "generator."
# The two ways in which PyTorch stores weight norm: the suffixes of (magnitude, direction).
_NORMS = (
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
    (".weight_g", ".weight_v"),
)


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the generator without their prefix, weight norm folded.

    If any key contains `generator.`, the other weights serve training (discriminators) and are left out. Raises
    InputError.
    """
    if not any(_PREFIX in key for key in state):
        return fold(state)
    weights: dict[str, Tensor] = {}
    for prefixed in (key for key in state if _PREFIX in key):
        key = prefixed.replace(_PREFIX, "")
        if key in weights:
            raise InputError(f"The codec's checkpoint cannot be used: it holds {key[:80]!a} under two names.")
        weights[key] = state[prefixed]
    return fold(weights)


def amplify(weights: Mapping[str, Tensor], gain: float) -> dict[str, Tensor]:
    """Return the folded weights with the vocoder's last convolution scaled by a gain."""
    scaled = {f"head.conv_post.conv.{name}" for name in ("weight", "bias")} if gain != 1 else set()
    return {key: value.float() * gain if key in scaled else value for key, value in weights.items()}


def fold(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with weight norm folded, in float32; all others unchanged, in the same order.

    A half without its pair stays, so that the check of the keys names it. Raises InputError.
    """
    folded: dict[str, Tensor] = {}
    for key, value in weights.items():
        pair = _pair(key)
        if pair is None or not all(half in weights for half in pair[1:]):
            folded[key] = value
        elif key == pair[2]:
            folded[pair[0]] = _fold(weights[pair[1]], value, pair[0])
    return folded


def _pair(key: str) -> tuple[str, str, str] | None:
    """Return the keys (folded, magnitude, direction) if `key` is one of the last two."""
    for magnitude, direction in _NORMS:
        for suffix in (magnitude, direction):
            if key.endswith(suffix):
                base = key.removesuffix(suffix)
                return f"{base}.weight", base + magnitude, base + direction
    return None


def _fold(magnitude: Tensor, direction: Tensor, key: str) -> Tensor:
    """Return w = g * v / ||v||, the norm over all dimensions but the first (Salimans and Kingma, 2016)."""
    if direction.dim() < 2 or magnitude.shape != (len(direction), *[1] * (direction.dim() - 1)):
        raise InputError(f"The codec's checkpoint cannot be used: the weight norm of {key} has a wrong shape.")
    v = direction.float()  # a norm of many float16 squares overflows in float16
    norm: Tensor = torch.linalg.vector_norm(v, dim=tuple(range(1, v.dim())), keepdim=True)
    return v * (magnitude.float() / norm)
