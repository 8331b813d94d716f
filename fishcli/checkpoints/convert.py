"""Load a checkpoint from a converted copy in the cache, which is written once per source and recipe.

A `.pth` file is read with `weights_only=True`, verified key by key, reduced to the weights that inference needs, and
written to the cache folder as safetensors (https://github.com/huggingface/safetensors). Later starts map that copy
into memory, until the source changes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import filelock
import safetensors
import torch
from torch import Tensor

from fishcli import files
from fishcli.checkpoints import pth
from fishcli.errors import InputError

log = logging.getLogger(__name__)

Tensors = dict[str, Tensor]
Progress = Callable[[str, int, int], None]  # takes the name of a file, and the bytes converted and in all

FORMAT = "2"  # increment it when a conversion changes; older copies are then converted again
_LARGE = 100_000_000  # bytes; the conversion of a larger file is logged, because it takes seconds
_LOCK_TIMEOUT = 600  # seconds; a conversion takes less than one minute

_MAX_JSON = 1 << 20  # bytes; the real files have at most 31,000
_FLOATS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_DTYPES = {**_FLOATS, torch.int8: "I8", torch.uint8: "U8"}  # quantized weights are stored as integers
_SCALES = ".scales"  # the suffix of the scales of quantized weights, which keep their type


def read_settings(path: Path) -> dict[str, Any]:
    """Read a JSON object such as `config.json`. Raises InputError."""
    try:
        if path.stat().st_size > _MAX_JSON:
            raise InputError(f"{path} is too large for a JSON settings file; download the checkpoint again.")
        settings = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"Cannot read {path} ({error}); download the checkpoint again.") from error
    if not isinstance(settings, dict):
        raise InputError(f"{path} does not hold a JSON object; download the checkpoint again.")
    return settings


def load(
    path: Path,
    dtype: torch.dtype,
    convert: Callable[[Tensors], Tensors],
    recipe: Mapping[str, Any],
    variant: str = "",
    progress: Progress | None = None,
) -> Tensors:
    """Return the tensors that `convert` makes of a `.pth` file, from the cache if it has them.

    Floating-point tensors are cast to `dtype`, except the scales of quantized weights. `recipe` (JSON) is everything
    else that the result depends on; conversions of different `variant` are cached side by side. If the cache cannot be
    written, a warning is logged and the source is converted in memory. `progress` is called while a large file is
    converted. Raises InputError for an unusable file.
    """
    identity = _identity(path, dtype, recipe)
    target = converted_file(path, dtype, variant)
    if (tensors := _mapped(target, identity)) is not None:
        return tensors
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A second process waits for the lock and finds the copy. The system releases the lock of a killed process.
        with filelock.FileLock(target.with_suffix(".lock"), timeout=_LOCK_TIMEOUT):
            if (tensors := _mapped(target, identity)) is None:
                shown = progress if path.stat().st_size > _LARGE else None
                if shown is not None:
                    shown(path.name, 0, path.stat().st_size)
                elif path.stat().st_size > _LARGE:
                    log.info("Converting %s for this machine, once.", path.name)
                log.debug("converting %s into %s", path, target)
                files.discard_leftovers(target)
                _write(target, convert(_read(path)), dtype, identity, shown and partial(shown, path.name))
                tensors = _mapped(target, identity)
    except OSError as error:
        _warn_of_no_cache(target.parent, error)
    return dict(_cast(convert(_read(path)), dtype)) if tensors is None else tensors


_not_cached: set[Path] = set()  # folders that a warning has named


def _warn_of_no_cache(folder: Path, error: OSError) -> None:
    """Warn once, not for each part of a model."""
    if folder not in _not_cached:
        _not_cached.add(folder)
        reason = error.strerror or error
        log.warning(
            "Converted checkpoints cannot be cached in %s (%s); each start converts them again.", folder, reason
        )


def converted_file(path: Path, dtype: torch.dtype, variant: str = "") -> Path:
    """Return the path of the converted copy of `path`."""
    source = path.resolve()
    key = hashlib.sha256(os.fsencode(source)).hexdigest()[:16]
    kind = "-".join(filter(None, (str(dtype).removeprefix("torch."), variant)))
    name = f"{source.stem[:40]}-{key}-{kind}.safetensors"
    return files.folder("cache") / "converted" / name


def verify(path: Path) -> bool:
    """Return whether the checksum of a converted file is right. Reads the whole file."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
            digest = hashlib.sha256(_layout(tensors))
            for tensor in tensors.values():
                digest.update(_bytes(tensor))
            return digest.hexdigest() == (file.metadata() or {}).get("checksum")
    except (OSError, safetensors.SafetensorError):
        return False


def check(state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Raise InputError unless `state` has exactly these keys and shapes, and finite values."""
    if missing := sorted(shapes.keys() - state.keys()):
        raise InputError(f"{name} lacks {_some(missing)}; download it again.")
    if unknown := sorted(state.keys() - shapes.keys()):
        raise InputError(f"{name} holds {_some(unknown)}, which this model does not have. Is it the right file?")
    for key, shape in shapes.items():
        if state[key].shape != shape:
            raise InputError(f"{name}: {key} has the shape {tuple(state[key].shape)} instead of {shape}.")
    for key, tensor in state.items():
        if not tensor.isfinite().all():
            raise InputError(f"{name}: {key} contains NaN or infinite values; download it again.")


def _some(keys: list[str]) -> str:
    return ", ".join(map(_shown, keys[:3])) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _shown(key: object) -> str:
    """Format the name of a tensor, which is untrusted, for a message."""
    text = str(key)[:80]
    return text if text.isprintable() else ascii(text)


# The converted file. Its header has a fingerprint, of the source and of the names, types and shapes of the tensors,
# which every load compares, and a checksum of all bytes, which `verify` compares.


def identity(path: Path) -> str:
    """Return a string that changes with the path, size or time of a file. Raises InputError."""
    status = _status(path)
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def _identity(path: Path, dtype: torch.dtype, recipe: Mapping[str, Any]) -> str:
    """Return the identity of the source and recipe of a converted file."""
    status = _status(path)
    return json.dumps([FORMAT, status.st_size, status.st_mtime_ns, str(dtype), recipe], sort_keys=True)


def _status(path: Path) -> os.stat_result:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"Cannot read {path} ({error.strerror}).") from error
    if not path.is_file():  # reading a named pipe would block
        raise InputError(f"{path} is not a file.")
    return status


def _mapped(path: Path, identity: str) -> Tensors | None:
    """Map the tensors of a converted file into memory; None if it is missing, outdated or damaged."""
    try:
        with safetensors.safe_open(path, "pt") as file:  # raises if the size differs from the header
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
            return tensors if (file.metadata() or {}).get("fingerprint") == _fingerprint(identity, tensors) else None
    except FileNotFoundError:
        return None
    except (OSError, safetensors.SafetensorError) as error:
        log.warning("The converted checkpoint %s is damaged (%s); converting it again.", path.name, error)
        return None


def _write(
    path: Path,
    tensors: Tensors,
    dtype: torch.dtype,
    identity: str,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a converted file. Casts and writes one tensor at a time, and removes each from the dict.

    `safetensors.torch.save_file` needs all of them at once, and leaves its temporary file when it is killed.
    """
    layout = {
        key: torch.empty_like(tensors[key], dtype=_stored_type(key, tensors[key], dtype), device="meta")
        for key in sorted(tensors)
    }
    metadata = {"fingerprint": _fingerprint(identity, layout), "checksum": "0" * 64}  # replaced at the end
    digest = hashlib.sha256(_layout(layout))
    done, size = 0, sum(tensor.nbytes for tensor in layout.values())
    with files.replacing(path) as temporary:
        with temporary.open("wb") as file:
            file.write(_header(layout, metadata))
            for _, tensor in _cast(tensors, dtype):
                digest.update(_bytes(tensor))
                file.write(_bytes(tensor))
                done += tensor.nbytes
                if progress is not None:
                    progress(done, size)
            file.seek(0)
            file.write(_header(layout, metadata | {"checksum": digest.hexdigest()}))
        if not verify(temporary):
            raise OSError(f"{path.parent} returns other data than was written to it")


def _header(layout: Tensors, metadata: Mapping[str, str]) -> bytes:
    """Return the start of a safetensors file: the length of a JSON object in 8 bytes, then the object."""
    header: dict[str, object] = {"__metadata__": metadata}
    end = 0
    for key, tensor in layout.items():
        start, end = end, end + tensor.nbytes
        header[key] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)  # aligns the tensors as torch does
    return len(text).to_bytes(8, "little") + text


def _fingerprint(identity: str, tensors: Tensors) -> str:
    return hashlib.sha256(identity.encode() + _layout(tensors)).hexdigest()


def _layout(tensors: Tensors) -> bytes:
    return "".join(f"\n{key} {tensor.dtype} {tuple(tensor.shape)}" for key, tensor in tensors.items()).encode()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.flatten().view(torch.uint8).numpy().data


def _cast(tensors: Tensors, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor in its final type, and remove it from the dict, which bounds the memory."""
    for key in sorted(tensors):
        tensor = tensors.pop(key)
        tensor = tensor.to(_stored_type(key, tensor, dtype)).contiguous()
        if not tensor.isfinite().all():
            name = str(dtype).removeprefix("torch.")
            raise InputError(f"{key} has values too large for {name}; float32 can hold them.", field="dtype")
        yield key, tensor


def _stored_type(key: str, tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    """Return the type in which a tensor is stored."""
    return dtype if tensor.is_floating_point() and not key.endswith(_SCALES) else tensor.dtype


# The source.


def _read(path: Path) -> Tensors:
    """Read the state dict of a `.pth` file as plain floating-point tensors."""
    try:
        mapped = pth.inspect(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a hostile file can raise any error of zipfile and torch
        reason = str(error).split("\n", 1)[0][:200]
        raise InputError(f"{path} is not a checkpoint that can be read safely ({_shown(reason)}).") from error
    # dict.get and dict.items: a pickle can hide the methods of an OrderedDict behind attributes.
    if isinstance(state, dict):
        state = dict.get(state, "state_dict", state)
    if not isinstance(state, dict) or not state:
        raise InputError(f"{path} does not hold a dict of weights.")
    for key, value in dict.items(state):
        if not isinstance(key, str) or not _plain(value):
            raise InputError(f"{path}: {_shown(key)} is not a plain tensor of floating-point numbers.")
    # Tied weights are stored once and named twice. More aliases would only fill the memory.
    if sum(value.nbytes for value in dict.values(state)) > 2 * path.stat().st_size:
        raise InputError(f"{path} claims to hold more data than its size; download it again.")
    return {key: value.detach() for key, value in dict.items(state)}


def _plain(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.dtype in _FLOATS
        and not value.is_neg()
    )
