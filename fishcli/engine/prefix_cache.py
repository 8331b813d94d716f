"""The keys and values of what all prompts in a voice begin with, so that only the first of them pays for it."""

from __future__ import annotations

import hashlib

from torch import Tensor

from fishcli.checkpoints.tensor_cache import TensorCache
from fishcli.lm.prompt import Columns

_LEAST = 32  # columns, below which computing them again is as fast

# 10 seconds of the full-size model take 6 MB.
_STORE = TensorCache("voices", memory=256_000_000, disk=1_000_000_000)


class PrefixCache:
    """Those of one model. `identity` is all that they depend on besides the columns: weights, number format, runner."""

    def __init__(self, identity: str) -> None:
        self._identity = identity

    def find(self, columns: Columns) -> tuple[Tensor, Tensor] | None:
        """The keys and values of columns (K + 1, T), each (layers, kv_heads, T, head_dim), if they are kept."""
        found = _STORE.find(self._key(columns)) if columns.shape[1] >= _LEAST else None
        return (found["keys"], found["values"]) if found else None

    def keep(self, columns: Columns, keys: Tensor, values: Tensor) -> None:
        """Keep them for whoever asks next."""
        if columns.shape[1] >= _LEAST:
            _STORE.keep(self._key(columns), {"keys": keys, "values": values})

    def _key(self, columns: Columns) -> str:
        return hashlib.sha256(self._identity.encode() + b"\n" + columns.astype("<i8").tobytes()).hexdigest()
