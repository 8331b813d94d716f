"""What a `.pth` file is made of, looked at before torch reads it.

`weights_only` keeps code from running. It does not keep a file from filling the memory, a compressed part from
being mapped as it stands, or a damaged one from being used: torch does not look at the checksums.
"""

import io
import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any

_MAX_PICKLE = 1 << 20  # bytes; the real ones, which only name and shape the tensors, have at most 100,000
_MAX_TUPLE = 1000  # items, those of its items included; the real ones have at most 20

# All that the pickle of a state dict refers to, but for the storages of module torch.
_EXPECTED = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"}


def inspect(path: Path) -> bool:
    """Whether the file is a zip archive, as torch writes them since 1.6, and not in the format before that.

    Raises ValueError, or any error of `zipfile` and `pickletools`, for a file that torch should not be given.
    """
    with path.open("rb") as file:
        start = file.read(_MAX_PICKLE)
    if start.startswith(b"PK\3\4"):
        with zipfile.ZipFile(path) as archive:
            _inspect_archive(archive, path.stat().st_size)
        return True
    pickles = io.BytesIO(start)
    for _ in range(5):  # magic number, version, system, state dict, names of the storages; the numbers follow
        _inspect_pickle(pickles)
    return False


def _inspect_archive(archive: zipfile.ZipFile, size: int) -> None:
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is compressed")
    if len({member.filename.lower() for member in members}) < len(members):
        raise ValueError("two of its parts have the same name")
    if sum(member.file_size for member in members) > size:
        raise ValueError("its parts are larger than the whole")
    if damaged := archive.testzip():
        raise ValueError(f"{damaged} is damaged")
    for member in members:
        if member.filename.lower().endswith(".pkl"):
            if member.file_size > _MAX_PICKLE:
                raise ValueError(f"{member.filename} is too large")
            _inspect_pickle(io.BytesIO(archive.read(member)))


def _inspect_pickle(file: IO[bytes]) -> None:
    """Raise ValueError for a pickle that refers to more than a state dict does, or nests tuples without end.

    As a key, such a tuple takes for ever to hash or overflows the C stack. So this follows the stack of the
    pickle machine (see `pickletools`), with the size of each tuple in place of its value.
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
            start -= len(code.stack_before) - 2 * sliced  # a slice stands there as two, its mark and itself
            size = 1 + sum(stack[start:]) if code.name.startswith("TUPLE") else 1
            if start < 0 or size > _MAX_TUPLE:
                raise ValueError("it is not the pickle of a state dict")
            stack[start:] = [size] * len(code.stack_after)


def _expected(name: str) -> bool:
    """name: the module, a space, the attribute."""
    return name in _EXPECTED or (name.startswith("torch ") and name.endswith("Storage"))
