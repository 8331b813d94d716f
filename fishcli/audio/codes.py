"""Read and write codes files: the codes of the codec as .npy arrays, as Fish Speech's tools exchange them.

A codes file is untrusted input. Its header is checked before the data is read: no pickles, no more data than the file
has, no code outside the codebook.
Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

Codes mean nothing to another codec, so ours name theirs in a line after the array, which np.load never reads:

    fishcli codec=85b5a1a3f0c2e4d6 of=fish-speech-1.5
"""

import ast
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast

import numpy as np

from fishcli.errors import InputError
from fishcli.files import NextFree, open_regular, report_write_errors, writing

MAX_FRAMES = 2**20  # over 13 hours of speech
_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 4096  # bytes; numpy writes 118 for such an array
_HEADER_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4, (3, 0): 4}  # by format version
_WARNINGS = re.compile(rb"\\|[0-9][A-Za-z_]")  # Python's parser warns about these on stderr
_INTEGERS = re.compile(r"[<>=|]?[iu][1248]")
_MAX_NAME = 80  # characters
_CODEC_LINE = re.compile(rb"\nfishcli codec=([0-9a-f]{16}) of=([ -~]{1,%d})\n" % _MAX_NAME)
_MAX_LINE = 32 + 16 + _MAX_NAME  # bytes


class CodecId(NamedTuple):
    """The identity of a codec: a digest of the weights that give codes their meaning, and a name to show."""

    digest: str  # 16 hexadecimal digits
    name: str


class CodesFile(NamedTuple):
    """Codes (K, T) int16 and the codec that made them, if the file names it."""

    codes: np.ndarray
    codec: CodecId | None


class _Header(NamedTuple):
    dtype: np.dtype[np.integer]
    order: Literal["C", "F"]
    shape: tuple[int, ...]
    end: int  # offset of the data, in bytes


def read(
    path: Path, *, codebooks: int = 8, size: int = 1000, name: str = "", codec: Callable[[], CodecId] | None = None
) -> np.ndarray:
    """Return the codes (codebooks, T) int16 of a file, each in 0..size - 1. Raises InputError.

    `name` stands for the path in messages. `codec` returns the codec that the codes are for; it is called where the
    file names its own, and codes of another codec are an InputError.
    """
    found = read_file(path, codebooks=codebooks, size=size, name=name)
    if codec is not None and found.codec is not None and found.codec.digest != (ours := codec()).digest:
        raise InputError(
            f"{name or path} was made with the codec of {found.codec.name}, and this is {ours.name}: to it, the codes "
            "are noise; encode the recording again with this model, or use the model that made them."
        )
    return found.codes


def read_file(path: Path, *, codebooks: int = 8, size: int = 1000, name: str = "") -> CodesFile:
    """Return the codes of a file and the codec that it names. Raises InputError, as `read` does."""
    name = name or str(path)
    with open_regular(path) as file:
        header = _read_header(file, name)
        _check_shape(header.shape, codebooks, name)
        expected = header.dtype.itemsize * codebooks * header.shape[1]  # bytes
        data = file.read(expected)
        rest = file.read(_MAX_LINE + 1)
    line = _CODEC_LINE.fullmatch(rest)
    if len(data) < expected or (rest and line is None):
        found = os.path.getsize(path) - header.end
        raise InputError(
            f"{name} is truncated or damaged: its header needs {expected} bytes of codes, the file has {found}; "
            "create it again with `fish encode` or `fish generate`."
        )
    codes = np.frombuffer(data, header.dtype).reshape(header.shape, order=header.order)
    _check_range(codes, size, name)
    made_by = CodecId(line[1].decode(), line[2].decode()) if line else None
    return CodesFile(codes.astype(np.int16, order="C"), made_by)


def is_codes_file(path: Path) -> bool:
    """Return whether a file starts as a .npy does. Raises InputError if it cannot be read."""
    with open_regular(path) as file:
        return file.read(len(_MAGIC)) == _MAGIC


def write(target: Path | NextFree | BinaryIO, codes: np.ndarray, codec: CodecId | None = None) -> None:
    """Write codes (K, T) as a .npy of int16 to a stream, or to a file: it appears complete, or not at all."""
    encoded = io.BytesIO()
    np.save(encoded, np.ascontiguousarray(codes, dtype=np.int16), allow_pickle=False)
    if codec is not None:
        encoded.write(_codec_line(codec))
    if not isinstance(target, Path | NextFree):
        target.write(encoded.getbuffer())
        return
    with report_write_errors(str(target)), writing(target) as file:
        file.write(encoded.getbuffer())


def _codec_line(codec: CodecId) -> bytes:
    """Return the line after the array. The name is cut to what the line can hold: it only serves messages."""
    name = re.sub(r"[^ -~]", "?", codec.name)[:_MAX_NAME]
    return f"\nfishcli codec={codec.digest} of={name or '?'}\n".encode("ascii")


def _read_header(file: BinaryIO, name: str) -> _Header:
    """Read the .npy header; `file` is then at the first code."""
    start = file.read(8)
    length_bytes = _HEADER_LENGTH_BYTES.get((start[6], start[7])) if len(start) == 8 else None
    if not start.startswith(_MAGIC) or length_bytes is None:
        raise InputError(f"{name} is not a codes file (.npy); create one with `fish encode` or `fish generate`.")
    length = int.from_bytes(file.read(length_bytes), "little")
    text = file.read(min(length, _MAX_HEADER + 1))
    if length > _MAX_HEADER or len(text) < length:
        raise InputError(f"{name} has a damaged .npy header; create it again with `fish encode` or `fish generate`.")
    try:
        return _parse_header(text, 8 + length_bytes + length)
    except ValueError as error:
        raise InputError(
            f"{name} is not a codes file: {error}; create one with `fish encode` or `fish generate`."
        ) from error


def _parse_header(text: bytes, end: int) -> _Header:
    """Parse the header. Raises ValueError with the reason."""
    fields = _literal(text)
    if not isinstance(fields, dict) or fields.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("its .npy header has the wrong fields")
    descr, fortran_order, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    if isinstance(descr, str) and "O" in descr:
        raise ValueError("it contains pickled Python objects, which are never loaded")
    if not isinstance(descr, str) or not _INTEGERS.fullmatch(descr):
        raise ValueError(f"its type is {str(descr)[:40]!r}, and codes are integers")
    if type(fortran_order) is not bool:
        raise ValueError("fortran_order in its header is not a bool")
    if not isinstance(shape, tuple) or not all(type(length) is int for length in shape):
        raise ValueError("shape in its header is not a tuple of integers")
    return _Header(np.dtype(descr), "F" if fortran_order else "C", shape, end)


def _literal(text: bytes) -> object:
    """Return the Python literal in `text`, or None. Nothing is evaluated."""
    if _WARNINGS.search(text):
        return None
    try:
        return cast(object, ast.literal_eval(text.decode("ascii")))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last two: nested too deep
        return None


def _check_shape(shape: tuple[int, ...], codebooks: int, name: str) -> None:
    expected = f"this codec needs ({codebooks}, frames)"
    if len(shape) != 2 or shape[0] != codebooks:
        raise InputError(f"{name} has the wrong shape {_format_shape(shape)}: {expected}.")
    if not 1 <= shape[1] <= MAX_FRAMES:
        raise InputError(f"{name} has the shape {_format_shape(shape)}: {expected}, with 1 to {MAX_FRAMES} frames.")


def _format_shape(shape: tuple[int, ...]) -> str:
    """Format a shape, shortened: a hostile one may have a thousand numbers of a thousand digits."""
    lengths = [str(length) if abs(length) < 10**15 else "..." for length in shape[:5]]
    return f"({', '.join(lengths + ['...'] * (len(shape) > 5))})"


def _check_range(codes: np.ndarray, size: int, name: str) -> None:
    """Raise InputError for a code outside the codebook. Call it before the cast to int16, which makes 65,537 a 1."""
    outside = (codes < 0) | (codes >= size)
    if outside.any():
        codebook, frame = np.argwhere(outside)[0]
        raise InputError(
            f"{name} has the code {codes[codebook, frame]} (codebook {codebook}, frame {frame}), and this codec has "
            f"0 to {size - 1}; create it again with `fish encode` or `fish generate`."
        )
