"""Inspect an untrusted `.pth` file before torch reads it.

`weights_only` prevents code from running. It does not prevent a file from filling the memory, a compressed record from
being mapped as raw data, or a damaged file from being used: torch does not verify the checksums.
"""

import io
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

_MAX_PICKLE = 1 << 20  # bytes; real ones, with the names and shapes of tensors, have at most 100,000
_MAX_TUPLE = 1000  # items, nested ones included; real ones have at most 20

# The globals in the pickle of a state dict, besides the storages of module torch.
_EXPECTED = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"}


def inspect(path: Path) -> bool:
    """Return whether the file is a zip archive, the format since torch 1.6, and not the older one.

    Raises ValueError, or any error of `zipfile` and `pickletools`, if torch must not read the file.
    """
    with path.open("rb") as file:
        start = file.read(_MAX_PICKLE)
    if start.startswith(b"PK\3\4"):
        with zipfile.ZipFile(path) as archive:
            _inspect_archive(archive, path.stat().st_size)
            _inspect_what_torch_reads(path, archive)
        return True
    pickles = io.BytesIO(start)
    for _ in range(5):  # magic number, version, system, state dict, names of the storages; then the data
        _inspect_pickle(pickles)
    return False


def _inspect_archive(archive: zipfile.ZipFile, size: int) -> None:
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is compressed")
    if len({member.filename.lower() for member in members}) < len(members):
        raise ValueError("two of its records have the same name")
    if sum(member.file_size for member in members) > size:
        raise ValueError("its records are larger than the file")
    if damaged := archive.testzip():
        raise ValueError(f"{damaged} is damaged")
    for member in members:
        if member.filename.lower().endswith(".pkl"):
            if member.file_size > _MAX_PICKLE:
                raise ValueError(f"{member.filename} is too large")
            _inspect_pickle(io.BytesIO(archive.read(member)))


def _inspect_what_torch_reads(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise ValueError where torch finds other records in the file than `zipfile` does, which were inspected.

    The two differ about bytes before an archive, so a file can hold one for each.
    """
    reader: Any = torch._C.PyTorchFileReader(str(path))
    _inspect_pickle(io.BytesIO(reader.get_record("data.pkl")))
    folder = archive.namelist()[0].partition("/")[0]
    places = {member.filename: member.header_offset for member in archive.infolist()}
    with path.open("rb") as file:
        for name in reader.get_all_records():
            start = places.get(f"{folder}/{name}")
            if start is None or reader.get_record_offset(name) != start + _header_size(file, start):
                raise ValueError("it holds two archives")


def _header_size(file: IO[bytes], start: int) -> int:
    """Return the size of the local header of a record: 30 bytes, its name and its extra field."""
    file.seek(start + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    return 30 + name + extra


def _inspect_pickle(file: IO[bytes]) -> None:
    """Raise ValueError for a pickle with other globals than a state dict, or with deeply nested tuples.

    Such a tuple takes very long to hash, or overflows the C stack. This simulates the stack of the pickle machine (see
    `pickletools`), with the size of each tuple in place of its value.
    """
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[Any, int] = {}
    for code, argument, _ in pickletools.genops(file):
        if code.name == "GLOBAL" and not _expected(str(argument)):
            raise ValueError(f"it refers to {str(argument).replace(' ', '.')}")
        if code.name == "MARK":
            marks.append(len(stack))
        elif code.name.endswith("PUT"):
            memo[argument] = stack[-1]
        elif code.name.endswith("GET"):
            stack.append(memo[argument])
        else:
            sliced = pickletools.stackslice in code.stack_before
            start = marks.pop() if sliced else len(stack)
            start -= len(code.stack_before) - 2 * sliced  # a slice counts as two, its mark and itself
            size = 1 + sum(stack[start:]) if code.name.startswith("TUPLE") else 1
            if start < 0 or size > _MAX_TUPLE:
                raise ValueError("it is not the pickle of a state dict")
            stack[start:] = [size] * len(code.stack_after)


def _expected(name: str) -> bool:
    """Return whether a state dict may refer to `name`: the module, a space, the attribute."""
    return name in _EXPECTED or (name.startswith("torch ") and name.endswith("Storage"))
