"""The prefix cache: keys and values of what all prompts in a voice begin with, computed by the first of them."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor

from torch import Tensor

from fishcli.checkpoints.tensor_cache import TensorCache
from fishcli.lm.prompt import Columns

log = logging.getLogger(__name__)

_LEAST = 32  # columns, below which computing them again is as fast

# 10 seconds of the full-size model take 6 MB.
_STORE = TensorCache("voices", memory=256_000_000, disk=1_000_000_000)
_writer = ThreadPoolExecutor(1, "fishcli-prefix-cache")  # the model thread waits for no disk


def _renew_writer() -> None:
    """A forked process has no thread that writes."""
    global _writer
    _writer = ThreadPoolExecutor(1, "fishcli-prefix-cache")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_writer)


def flush() -> None:
    """Wait until what was cached is on disk."""
    _writer.submit(lambda: None).result()


class PrefixCache:
    """The prefixes of one model. `identity`: all that keys and values depend on besides the columns."""

    def __init__(self, identity: str) -> None:
        self._identity = identity

    def find(self, columns: Columns, in_memory: bool = False) -> tuple[Tensor, Tensor] | None:
        """Return the keys and values of columns (K + 1, T), each (layers, kv_heads, T, head_dim), if they are cached.

        `in_memory` does not look on disk.
        """
        if columns.shape[1] < _LEAST:
            return None
        found = (_STORE.find_in_memory if in_memory else _STORE.find)(self._key(columns))
        return (found["keys"], found["values"]) if found else None

    def keep(self, columns: Columns, keys: Tensor, values: Tensor) -> None:
        """Cache keys and values, unless they are few or not finite; the disk is written in the background."""
        if columns.shape[1] < _LEAST or not (keys.isfinite().all() and values.isfinite().all()):
            return
        key, tensors = self._key(columns), {"keys": keys, "values": values}
        _STORE.hold(key, tensors)
        with contextlib.suppress(RuntimeError):  # Python is ending and takes no more work
            _writer.submit(_STORE.write, _STORE.path(key), key, tensors)

    def _key(self, columns: Columns) -> str:
        return hashlib.sha256(self._identity.encode() + b"\n" + columns.astype("<i8").tobytes()).hexdigest()
