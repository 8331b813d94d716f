"""A cache of tensors that are expensive to compute, in memory and on disk."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
import weakref
from collections import OrderedDict
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fishcli import files

log = logging.getLogger(__name__)

Tensors = dict[str, Tensor]

_HOUR = 3600  # seconds; nobody writes an entry for that long


_caches: weakref.WeakSet[TensorCache] = weakref.WeakSet()


class TensorCache:
    """An LRU cache of at most `memory` bytes in memory and `disk` bytes in the folder `name` of the cache folder.

    Entries that are missing, damaged or cannot be written are computed again by the caller. Thread-safe.
    """

    def __init__(self, name: str, memory: int, disk: int) -> None:
        self._name, self._memory, self._disk = name, memory, disk
        self._held: OrderedDict[str, Tensors] = OrderedDict()
        self._lock = threading.Lock()
        _caches.add(self)

    def find_in_memory(self, key: str) -> Tensors | None:
        """Return what `find` returns, without looking on disk."""
        with self._lock:
            return self._held.get(key)

    def find(self, key: str) -> Tensors | None:
        """Return the CPU tensors of a key, or None. They must not be modified."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        tensors = _read(self.path(key), key)
        if tensors is not None:
            self.hold(key, tensors)
        return tensors

    def keep(self, key: str, tensors: Tensors) -> None:
        """Store CPU tensors under a key. They must not be modified afterwards."""
        self.hold(key, tensors)
        self.write(self.path(key), key, tensors)

    def write(self, path: Path, key: str, tensors: Tensors) -> None:
        """Store CPU tensors in a file, as `keep` does, without keeping them in memory."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            data = safetensors.torch.save(tensors, metadata={"checksum": _checksum(key, tensors)})
            with files.replacing(path, durable=False) as temporary:
                temporary.write_bytes(data)
            self._trim(path.parent)
        except OSError as error:
            log.debug("%s cannot be written to the cache (%s)", path, error)

    def hold(self, key: str, tensors: Tensors) -> None:
        """Keep CPU tensors in memory alone."""
        with self._lock:
            self._held[key] = tensors
            while len(self._held) > 1 and sum(map(_size, self._held.values())) > self._memory:
                self._held.popitem(last=False)

    def path(self, key: str) -> Path:
        """Return the file of a key in the cache folder of this moment."""
        return files.folder("cache") / self._name / f"{key}.safetensors"

    def _trim(self, folder: Path) -> None:
        for path in folder.glob(".*.tmp"):  # of a process that was killed
            if time.time() - path.stat().st_mtime > _HOUR:
                path.unlink(missing_ok=True)
        kept = sorted(((path.stat(), path) for path in folder.glob("*.safetensors")), key=lambda each: each[0].st_mtime)
        excess = sum(status.st_size for status, _ in kept) - self._disk
        for status, path in kept:
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= status.st_size


def _read(path: Path, key: str) -> Tensors | None:
    """Return the tensors in a file, and mark it as used; None if it is missing, damaged or of another key."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
            if (file.metadata() or {}).get("checksum") != _checksum(key, tensors):
                return None
        os.utime(path)
    except (OSError, safetensors.SafetensorError):
        return None
    return tensors


def _size(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _checksum(key: str, tensors: Tensors) -> str:
    digest = hashlib.sha256(key.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _renew_locks() -> None:
    """A lock that another thread held at a fork stays locked in the new process."""
    for cache in _caches:
        cache._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
