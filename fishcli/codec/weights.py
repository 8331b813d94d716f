"""A codec's checkpoint in any of the forms it is found in, brought to one."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fishcli.errors import InputError

_PREFIX = "generator."
# How PyTorch has stored weight norm: (magnitude, direction), each with the key it belongs to cut off.
_NORMS = (
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
    (".weight_g", ".weight_v"),
)


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The plain weights of the generator: no prefix, weight norm folded.

    Where any key contains `generator.`, the others belong to training (discriminators) and are left out.
    Raises InputError.
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


def fold(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weight norm folded into plain float32 weights; everything else as it came, in the same order.

    A half of a pair that stands alone stays, for the check of the keys to name. Raises InputError.
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
    """(folded key, its magnitude's key, its direction's key) where `key` is one of the last two."""
    for magnitude, direction in _NORMS:
        for suffix in (magnitude, direction):
            if key.endswith(suffix):
                base = key.removesuffix(suffix)
                return f"{base}.weight", base + magnitude, base + direction
    return None


def _fold(magnitude: Tensor, direction: Tensor, key: str) -> Tensor:
    """w = g * v / ||v||, the norm over all dimensions but the first (Salimans and Kingma, 2016)."""
    if direction.dim() < 2 or magnitude.shape != (len(direction), *[1] * (direction.dim() - 1)):
        raise InputError(f"The codec's checkpoint cannot be used: the weight norm of {key} has a wrong shape.")
    v = direction.float()  # a norm of many float16 squares overflows in float16
    norm: Tensor = torch.linalg.vector_norm(v, dim=tuple(range(1, v.dim())), keepdim=True)
    return v * (magnitude.float() / norm)
