"""From a checkpoint folder to tensors: strict reading, and the copy on disk that is converted once.

A `.pth` file is read with `weights_only=True`, checked key by key, cut to what inference needs and kept as
safetensors (https://github.com/huggingface/safetensors) in the cache folder. From then on it is mapped into
memory from there, until its source changes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
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

FORMAT = "2"  # raise it when a conversion changes: what was converted before is then converted anew
_LARGE = 100_000_000  # bytes, from which a conversion takes long enough to be told
_LOCK_TIMEOUT = 600  # seconds; a conversion takes less than one minute

_MAX_JSON = 1 << 20  # bytes; the real files have at most 31,000
_FLOATS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_DTYPES = {**_FLOATS, torch.int8: "I8", torch.uint8: "U8"}  # what quantized weights are kept in
_AS_MADE = ".scales"  # of quantized weights: they stay in the type that they were computed in


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


def load(
    path: Path,
    dtype: torch.dtype,
    convert: Callable[[Tensors], Tensors],
    recipe: Mapping[str, Any],
    variant: str = "",
) -> Tensors:
    """The tensors of a `.pth` file as `convert` makes them, from the cache where it has them.

    Floats are brought to `dtype`, but for the scales of quantized weights. `recipe` is everything besides the file
    that the result depends on (JSON); conversions of different `variant` are kept side by side. Where the cache
    cannot be written, the source serves and a warning says so. Raises InputError for an unusable file.
    """
    identity = _identity(path, dtype, recipe)
    target = converted_file(path, dtype, variant)
    if (tensors := _mapped(target, identity)) is not None:
        return tensors
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Whoever comes second waits and finds the work done; a lock is freed when its holder is killed.
        with filelock.FileLock(target.with_suffix(".lock"), timeout=_LOCK_TIMEOUT):
            if (tensors := _mapped(target, identity)) is None:
                if path.stat().st_size > _LARGE:
                    log.info("Converting %s for this machine, once.", path.name)
                log.debug("converting %s into %s", path, target)
                files.discard_leftovers(target)
                _write(target, convert(_read(path)), dtype, identity)
                tensors = _mapped(target, identity)
    except OSError as error:
        log.warning("The converted checkpoint cannot be kept (%s); each start will convert it again.", error)
    return dict(_cast(convert(_read(path)), dtype)) if tensors is None else tensors


def converted_file(path: Path, dtype: torch.dtype, variant: str = "") -> Path:
    """Where the converted copy of `path` is kept."""
    source = path.resolve()
    key = hashlib.sha256(os.fsencode(source)).hexdigest()[:16]
    kind = "-".join(filter(None, (str(dtype).removeprefix("torch."), variant)))
    name = f"{source.stem[:40]}-{key}-{kind}.safetensors"
    return files.folder("cache") / "converted" / name


def verify(path: Path) -> bool:
    """Whether a converted file still holds the bytes that were written to it. Reads all of it."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
            digest = hashlib.sha256(_layout(tensors))
            for tensor in tensors.values():
                digest.update(_bytes(tensor))
            return digest.hexdigest() == (file.metadata() or {}).get("digest")
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
    return ", ".join(map(_shown, keys[:3])) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _shown(key: object) -> str:
    """What a file calls a tensor, which may be anything, as part of a sentence."""
    text = str(key)[:80]
    return text if text.isprintable() else ascii(text)


# The converted file. Its header has a seal, on what it was made from and on the names, types and shapes in it,
# that is compared at every load, and a digest of all bytes that is compared when somebody asks.


def identity(path: Path) -> str:
    """What changes when a file does: its place, size and time. Raises InputError."""
    status = _status(path)
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def _identity(path: Path, dtype: torch.dtype, recipe: Mapping[str, Any]) -> str:
    """What a converted file must have been made from to be used."""
    status = _status(path)
    return json.dumps([FORMAT, status.st_size, status.st_mtime_ns, str(dtype), recipe], sort_keys=True)


def _status(path: Path) -> os.stat_result:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"Cannot read {path} ({error.strerror}).") from error
    if not path.is_file():  # a named pipe would keep the reader waiting for ever
        raise InputError(f"{path} is not a file.")
    return status


def _mapped(path: Path, identity: str) -> Tensors | None:
    """The tensors of a converted file, mapped into memory; None where it is absent, outdated or damaged."""
    try:
        with safetensors.safe_open(path, "pt") as file:  # refuses a size that its header does not give
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
            return tensors if (file.metadata() or {}).get("seal") == _seal(identity, tensors) else None
    except FileNotFoundError:
        return None
    except (OSError, safetensors.SafetensorError) as error:
        log.warning("The converted checkpoint %s is damaged (%s); it is made anew.", path.name, error)
        return None


def _write(path: Path, tensors: Tensors, dtype: torch.dtype, identity: str) -> None:
    """Write a converted file, holding one tensor at a time as it is kept; takes the tensors out of the dict.

    The library would need all of them at once, and a kill would leave a temporary file that nobody removes.
    """
    layout = {
        key: torch.empty_like(tensors[key], dtype=_final(key, tensors[key], dtype), device="meta")
        for key in sorted(tensors)
    }
    metadata = {"seal": _seal(identity, layout), "digest": "0" * 64}  # the digest is known at the end
    digest = hashlib.sha256(_layout(layout))
    with files.replacing(path) as temporary:
        with temporary.open("wb") as file:
            file.write(_header(layout, metadata))
            for _, tensor in _cast(tensors, dtype):
                digest.update(_bytes(tensor))
                file.write(_bytes(tensor))
            file.seek(0)
            file.write(_header(layout, metadata | {"digest": digest.hexdigest()}))
        if not verify(temporary):
            raise OSError(f"{path.parent} does not give back what was written to it")


def _header(layout: Tensors, metadata: Mapping[str, str]) -> bytes:
    """The start of a safetensors file: the length of a JSON object in 8 bytes, then that object."""
    header: dict[str, object] = {"__metadata__": metadata}
    end = 0
    for key, tensor in layout.items():
        start, end = end, end + tensor.nbytes
        header[key] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)  # the tensors then start where torch would place them
    return len(text).to_bytes(8, "little") + text


def _seal(identity: str, tensors: Tensors) -> str:
    return hashlib.sha256(identity.encode() + _layout(tensors)).hexdigest()


def _layout(tensors: Tensors) -> bytes:
    return "".join(f"\n{key} {tensor.dtype} {tuple(tensor.shape)}" for key, tensor in tensors.items()).encode()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.flatten().view(torch.uint8).numpy().data


def _cast(tensors: Tensors, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Each tensor as it is kept, taken out of the dict, so that the memory of the two is not needed at once."""
    for key in sorted(tensors):
        tensor = tensors.pop(key)
        tensor = tensor.to(_final(key, tensor, dtype)).contiguous()
        if not tensor.isfinite().all():
            raise InputError(f"{key} holds numbers too large for {dtype}; choose --dtype float32.")
        yield key, tensor


def _final(key: str, tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    """What a tensor is kept in."""
    return dtype if tensor.is_floating_point() and not key.endswith(_AS_MADE) else tensor.dtype


# The source.


def _read(path: Path) -> Tensors:
    """The state dict of a `.pth` file, as plain floating-point tensors."""
    try:
        mapped = pth.inspect(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # no list is complete: a hostile file reaches every corner of zipfile and torch
        reason = str(error).split("\n", 1)[0][:200]
        raise InputError(f"{path} is not a checkpoint that can be read safely ({_shown(reason)}).") from error
    # The methods of the class: a pickle can hide those of an OrderedDict behind attributes.
    if isinstance(state, dict):
        state = dict.get(state, "state_dict", state)
    if not isinstance(state, dict) or not state:
        raise InputError(f"{path} does not hold a dict of weights.")
    for key, value in dict.items(state):
        if not isinstance(key, str) or not _plain(value):
            raise InputError(f"{path}: {_shown(key)} is not a plain tensor of floating-point numbers.")
    # Tied weights are stored once and named twice. More than that only fills the memory.
    if sum(value.nbytes for value in dict.values(state)) > 2 * path.stat().st_size:
        raise InputError(f"{path} claims to hold more numbers than there is room for in it; download it again.")
    return {key: value.detach() for key, value in dict.items(state)}


def _plain(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.dtype in _FLOATS
        and not value.is_neg()
    )
