"""Codes files: what the codec makes of speech, as the .npy arrays that Fish Speech's tools exchange.

A codes file may come from anywhere, so its header is checked here before anything that it promises is
believed: no pickle, no size that the file does not have, no code that the codec does not know.
Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import ast
import io
import os
import re
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast

import numpy as np

from fishcli.errors import InputError
from fishcli.files import naming_failures, open_regular, replacing

MAX_FRAMES = 2**20  # over 13 hours of speech
_MAX_HEADER = 4096  # bytes; numpy writes 118 for such an array
_HEADER_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4, (3, 0): 4}  # by the format's version
_WARNED_OF = re.compile(rb"\\|[0-9][A-Za-z_]")  # what Python's parser takes with a warning on stderr
_INTEGERS = re.compile(r"[<>=|]?[iu][1248]")


class _Header(NamedTuple):
    dtype: np.dtype[np.integer]
    order: Literal["C", "F"]
    shape: tuple[int, ...]
    end: int  # where the numbers start, in bytes


def read(path: Path, *, codebooks: int = 8, size: int = 1000) -> np.ndarray:
    """A codes file -> codes (codebooks, T) int16, each in 0..size - 1. Raises InputError for any other file."""
    with open_regular(path) as file:
        header = _read_header(file, path)
        _check_shape(header.shape, codebooks, path)
        promised = header.dtype.itemsize * codebooks * header.shape[1]  # bytes
        found = os.fstat(file.fileno()).st_size - header.end
        if found != promised:
            raise InputError(
                f"{path} was cut short or changed: its header promises {promised} bytes of codes and "
                f"{found} are there; make it again with `fish encode` or `fish generate`."
            )
        data = file.read(promised)
    try:
        codes = np.frombuffer(data, header.dtype).reshape(header.shape, order=header.order)
    except ValueError as error:  # fewer bytes than a moment ago
        raise InputError(f"{path} changed while it was read; try again.") from error
    _check_range(codes, size, path)
    return codes.astype(np.int16, order="C")


def write(target: Path | BinaryIO, codes: np.ndarray) -> None:
    """Codes (K, T) of any integer type -> a .npy of int16: a file, whole or not there, or a stream."""
    encoded = io.BytesIO()
    np.save(encoded, np.ascontiguousarray(codes, dtype=np.int16), allow_pickle=False)
    if not isinstance(target, Path):
        target.write(encoded.getbuffer())
        return
    with naming_failures(target), replacing(target) as temporary:
        temporary.write_bytes(encoded.getbuffer())


def _read_header(file: BinaryIO, path: Path) -> _Header:
    """The .npy header; `file` is left at the first number."""
    start = file.read(8)
    length_bytes = _HEADER_LENGTH_BYTES.get((start[6], start[7])) if len(start) == 8 else None
    if not start.startswith(b"\x93NUMPY") or length_bytes is None:
        raise InputError(
            f"{path} is not a codes file (.npy); `fish encode` makes one from audio, `fish generate` from text."
        )
    length = int.from_bytes(file.read(length_bytes), "little")
    text = file.read(min(length, _MAX_HEADER + 1))
    if length > _MAX_HEADER or len(text) < length:
        raise InputError(f"{path} has a damaged .npy header; make it again with `fish encode` or `fish generate`.")
    try:
        return _parse_header(text, 8 + length_bytes + length)
    except ValueError as error:
        raise InputError(
            f"{path} is not a codes file: {error}; `fish encode` makes one from audio, `fish generate` from text."
        ) from error


def _parse_header(text: bytes, end: int) -> _Header:
    """Raises ValueError that says what is wrong with it."""
    fields = _literal(text)
    if not isinstance(fields, dict) or fields.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header is not that of a .npy file")
    descr, fortran_order, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    if isinstance(descr, str) and "O" in descr:
        raise ValueError("it holds pickled Python objects, which are never loaded")
    if not isinstance(descr, str) or not _INTEGERS.fullmatch(descr):
        raise ValueError(f"its numbers are of the type {str(descr)[:40]!r} and codes are integers")
    if type(fortran_order) is not bool:
        raise ValueError("its header gives no order of the numbers")
    if not isinstance(shape, tuple) or not all(type(length) is int for length in shape):
        raise ValueError("its header gives no shape")
    return _Header(np.dtype(descr), "F" if fortran_order else "C", shape, end)


def _literal(text: bytes) -> object:
    """The Python literal in `text`, or None. Never more than a literal: nothing is evaluated."""
    if _WARNED_OF.search(text):
        return None
    try:
        return cast(object, ast.literal_eval(text.decode("ascii")))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last two: nested too deep
        return None


def _check_shape(shape: tuple[int, ...], codebooks: int, path: Path) -> None:
    expected = f"codes for this codec have the shape ({codebooks}, frames)"
    if len(shape) != 2 or shape[0] != codebooks:
        raise InputError(f"{path} has the wrong shape {_shown(shape)}: {expected}.")
    if not 1 <= shape[1] <= MAX_FRAMES:
        raise InputError(f"{path} has the shape {_shown(shape)}: {expected}, with 1 to {MAX_FRAMES} frames.")


def _shown(shape: tuple[int, ...]) -> str:
    """Short even for a shape of a thousand numbers of a thousand digits."""
    lengths = [str(length) if abs(length) < 10**15 else "..." for length in shape[:5]]
    return f"({', '.join(lengths + ['...'] * (len(shape) > 5))})"


def _check_range(codes: np.ndarray, size: int, path: Path) -> None:
    """Before narrowing to int16, which would make 65,537 a 1."""
    outside = (codes < 0) | (codes >= size)
    if outside.any():
        codebook, frame = np.argwhere(outside)[0]
        raise InputError(
            f"{path} holds the code {codes[codebook, frame]} (codebook {codebook}, frame {frame}), and this "
            f"codec knows 0 to {size - 1}; make it again with `fish encode` or `fish generate`."
        )
