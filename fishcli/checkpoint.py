"""From a checkpoint folder to tensors: strict reading, and the copy on disk that is converted once.

A `.pth` file is read with `weights_only=True`, checked key by key, cut to what inference needs and kept as
safetensors (https://github.com/huggingface/safetensors) in the cache folder. From then on it is mapped into
memory from there, until its source changes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import filelock
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fishcli import files
from fishcli.errors import InputError

log = logging.getLogger(__name__)

Tensors = dict[str, Tensor]

_FORMAT = "1"  # raise it when a conversion changes: what was converted before is then converted anew
_MAX_JSON = 1 << 20  # bytes; the real files have a few hundred


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON object such as `config.json`. Raises InputError."""
    try:
        if path.stat().st_size > _MAX_JSON:
            raise InputError(f"{path} is too large for a settings file; download the checkpoint again.")
        settings = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"Cannot read {path} ({error}); download the checkpoint again.") from error
    if not isinstance(settings, dict):
        raise InputError(f"{path} does not hold a JSON object; download the checkpoint again.")
    return settings


def load(path: Path, dtype: torch.dtype, convert: Callable[[Tensors], Tensors], recipe: Mapping[str, Any]) -> Tensors:
    """The tensors of a `.pth` file as `convert` makes them, in `dtype`, from the cache where it has them.

    `recipe` is everything besides the file that the result depends on (JSON). Where the cache cannot be
    written, the source serves and a warning says so. Raises InputError for an unusable file.
    """
    identity = _identity(path, dtype, recipe)
    target = converted_file(path, dtype)
    if (tensors := _mapped(target, identity)) is not None:
        return tensors
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Whoever comes second waits and finds the work done; a lock is freed when its holder is killed.
        with filelock.FileLock(target.with_suffix(".lock")):
            if (tensors := _mapped(target, identity)) is not None:
                return tensors
            files.discard_leftovers(target)
            _write(target, _converted(path, dtype, convert), identity)
            tensors = _mapped(target, identity)
    except OSError as error:
        log.warning("The converted checkpoint cannot be kept (%s); each start will convert it again.", error)
    return _converted(path, dtype, convert) if tensors is None else tensors


def converted_file(path: Path, dtype: torch.dtype) -> Path:
    """Where the converted copy of `path` is kept."""
    key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    name = f"{path.stem}-{key}-{str(dtype).removeprefix('torch.')}.safetensors"
    return files.folder("cache") / "converted" / name


def verify(path: Path) -> bool:
    """Whether a converted file still holds the bytes that were written to it. Reads all of it."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            written = (file.metadata() or {}).get("digest")
            return written == _digest({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    except (OSError, safetensors.SafetensorError):
        return False


def check(state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Raise InputError unless `state` has just these keys and shapes, and finite numbers."""
    if missing := sorted(shapes.keys() - state.keys()):
        raise InputError(f"{name} lacks {_some(missing)}; download it again.")
    if unknown := sorted(state.keys() - shapes.keys()):
        raise InputError(f"{name} holds {_some(unknown)}, which this model does not have; is it the right file?")
    for key, shape in shapes.items():
        if state[key].shape != shape:
            raise InputError(f"{name}: {key} has the shape {tuple(state[key].shape)} instead of {shape}.")
    for key, tensor in state.items():
        if not tensor.isfinite().all():
            raise InputError(f"{name}: {key} holds numbers that are not finite; download it again.")


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _identity(path: Path, dtype: torch.dtype, recipe: Mapping[str, Any]) -> str:
    """What a converted file must have been made from to be used."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"Cannot read {path} ({error.strerror}).") from error
    parts = [_FORMAT, status.st_size, status.st_mtime_ns, str(dtype), recipe]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _mapped(path: Path, identity: str) -> Tensors | None:
    """The tensors of a converted file, mapped into memory; None where it is absent, outdated or damaged."""
    try:
        with safetensors.safe_open(path, "pt") as file:  # refuses a size that its header does not give
            if (file.metadata() or {}).get("identity") != identity:
                return None
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        return None
    except (OSError, safetensors.SafetensorError) as error:
        log.warning("The converted checkpoint %s is damaged (%s); it is made anew.", path.name, error)
        return None


def _converted(path: Path, dtype: torch.dtype, convert: Callable[[Tensors], Tensors]) -> Tensors:
    return {key: tensor.to(dtype).contiguous() for key, tensor in convert(_read(path)).items()}


def _write(path: Path, tensors: Tensors, identity: str) -> None:
    digest = _digest(tensors)
    with files.replacing(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={"identity": identity, "digest": digest})
        if not verify(temporary):
            raise OSError(f"{path.parent} does not give back what was written to it")


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key]
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(path: Path) -> Tensors:
    """The state dict of a `.pth` file, as plain floating-point tensors."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        pickle.UnpicklingError,
        KeyError,
        TypeError,
    ) as error:
        reason = str(error).split("\n", 1)[0][:200]
        raise InputError(f"{path} is not a checkpoint that can be read safely ({reason}).") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not state:
        raise InputError(f"{path} does not hold a dict of weights.")
    for key, value in state.items():
        if not isinstance(key, str) or not _plain(value):
            raise InputError(f"{path}: {str(key)[:80]!r} is not a plain tensor of floating-point numbers.")
    return state


def _plain(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.is_floating_point()
    )
