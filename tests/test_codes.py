"""Codes files: round trips, and every damaged file is rejected."""

import io
import os
import random
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from fishcli.audio import codes
from fishcli.audio.codes import CodecId
from fishcli.errors import FishError, InputError


def some_codes(frames: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1000, (8, frames)).astype(np.int16)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def with_header(text: str, data: bytes = b"", version: bytes = b"\x01\x00", length: int | None = None) -> bytes:
    header = text.encode("latin1")
    length = len(header) if length is None else length
    size = struct.pack("<H" if version[0] == 1 else "<I", length)
    return b"\x93NUMPY" + version + size + header + data


def test_round_trip(tmp_path):
    path = tmp_path / "codes.npy"
    codes.write(path, some_codes())
    assert np.array_equal(codes.read(path), some_codes())
    assert np.load(path).dtype == np.int16


def test_writing_makes_int16_in_c_order(tmp_path):
    codes.write(tmp_path / "codes.npy", np.asfortranarray(some_codes().astype(np.int64)))
    assert (tmp_path / "codes.npy").read_bytes() == npy(some_codes())


@pytest.mark.parametrize("dtype", ["i2", "<i4", ">i4", ">i2", "<i8", ">u8", "u2", "<u4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_integers_of_any_width_byte_order_and_layout(tmp_path, dtype, order):
    path = tmp_path / "codes.npy"
    np.save(path, some_codes().astype(dtype, order=order))
    result = codes.read(path)
    assert np.array_equal(result, some_codes())
    assert result.dtype == np.int16
    assert result.flags.c_contiguous


@pytest.mark.parametrize("dtype", ["i1", "u1"])
def test_bytes_hold_codes_of_a_small_codec(tmp_path, dtype):
    path = tmp_path / "codes.npy"
    np.save(path, np.arange(12, dtype=dtype).reshape(3, 4))
    assert codes.read(path, codebooks=3, size=12).tolist() == np.arange(12).reshape(3, 4).tolist()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format(tmp_path, version):
    with (tmp_path / "codes.npy").open("wb") as file:
        np.lib.format.write_array(file, some_codes(), version=version)
    assert np.array_equal(codes.read(tmp_path / "codes.npy"), some_codes())


def test_the_result_is_writable(tmp_path):
    codes.write(tmp_path / "codes.npy", some_codes())
    codes.read(tmp_path / "codes.npy")[0, 0] = 1


CODEC = CodecId("0123456789abcdef", "fish-speech-1.5")
LINE = b"\nfishcli codec=0123456789abcdef of=fish-speech-1.5\n"


def test_a_file_names_its_codec_after_the_array(tmp_path):
    path = tmp_path / "codes.npy"
    codes.write(path, some_codes(), CODEC)
    assert path.read_bytes() == npy(some_codes()) + LINE
    assert codes.read_file(path).codec == CODEC
    assert np.array_equal(codes.read_file(path).codes, some_codes())
    stream = io.BytesIO()
    codes.write(stream, some_codes(), CODEC)
    assert stream.getvalue() == path.read_bytes()


def test_numpy_reads_a_file_that_names_its_codec(tmp_path):
    path = tmp_path / "codes.npy"
    codes.write(path, some_codes(), CODEC)
    assert np.array_equal(np.load(path), some_codes())
    assert np.array_equal(np.load(path, mmap_mode="r"), some_codes())
    assert np.array_equal(np.load(io.BytesIO(path.read_bytes()), allow_pickle=False), some_codes())


def test_codes_of_another_codec_are_refused_by_name(tmp_path):
    path = tmp_path / "codes.npy"
    codes.write(path, some_codes(), CODEC)
    assert np.array_equal(codes.read(path, codec=lambda: CODEC._replace(name="a copy")), some_codes())
    other = CodecId("f" * 16, "the built-in voice")
    with pytest.raises(InputError, match=r"paimon was made with the codec of fish-speech-1\.5, .*the built-in voice"):
        codes.read(path, name="paimon", codec=lambda: other)


def test_a_plain_file_is_of_any_codec(tmp_path):
    def unasked() -> CodecId:
        raise NotImplementedError("the codec is loaded for nothing")

    codes.write(tmp_path / "codes.npy", some_codes())
    assert codes.read_file(tmp_path / "codes.npy").codec is None
    assert np.array_equal(codes.read(tmp_path / "codes.npy", codec=unasked), some_codes())


@pytest.mark.parametrize(
    ("name", "kept"),
    [("声", "?"), ("a\nb\x1b", "a?b?"), ("", "?"), ("x" * 500, "x" * 80), ("the built-in voice", "the built-in voice")],
)
def test_any_name_of_a_codec_can_be_written(tmp_path, name, kept):
    codes.write(tmp_path / "codes.npy", some_codes(), CODEC._replace(name=name))
    assert codes.read_file(tmp_path / "codes.npy").codec == CODEC._replace(name=kept)


HUGE = "9" * 1000
WRONG = {
    "of four codebooks": (npy(some_codes()[:4]), r"wrong shape \(4, 40\)"),
    "transposed": (npy(some_codes().T), r"wrong shape \(40, 8\)"),
    "with a batch dimension": (npy(some_codes()[None]), r"wrong shape \(1, 8, 40\)"),
    "one number": (npy(np.int16(3)), r"wrong shape \(\)"),
    "without frames": (npy(some_codes(0)), r"shape \(8, 0\).*1 to 1048576 frames"),
    "of half precision": (npy(some_codes().astype("f2")), "type is '<f2', and codes are integers"),
    "of bools": (npy(some_codes() > 3), r"type is '\|b1'"),
    "of text": (npy(some_codes().astype("U4")), "type is '<U4'"),
    "of records": (npy(np.zeros((8, 2), [("a", "i2")])), r"type is \"\[\('a', '<i2'\)\]\""),
    "pickled": (npy(some_codes().astype(object)), "pickled Python objects, which are never loaded"),
    "cut short": (npy(some_codes())[:-1], "needs 640 bytes of codes, the file has 639"),
    "continued": (npy(some_codes()) + b"\0", "needs 640 bytes of codes, the file has 641"),
    "continued for long": (npy(some_codes()) + bytes(10**6), "needs 640 bytes of codes, the file has 1000640"),
    "with half a codec line": (npy(some_codes()) + LINE[:30], "needs 640 bytes of codes, the file has 670"),
    "with a codec line cut by one": (npy(some_codes()) + LINE[:-1], "is truncated or damaged"),
    "with two codec lines": (npy(some_codes()) + LINE + LINE, "is truncated or damaged"),
    "with a codec line in the middle": (npy(some_codes())[:-80] + LINE + bytes(80 - len(LINE)), "the code "),
    "with a codec of capitals": (npy(some_codes()) + LINE.upper(), "is truncated or damaged"),
    "with a codec of control characters": (npy(some_codes()) + LINE.replace(b"fish-", b"\x1b[2J"), "is truncated"),
    "with a codec without end": (npy(some_codes()) + LINE.replace(b"1.5", b"1" * 10**6), "is truncated or damaged"),
    "with a codec line but no codes": (npy(some_codes())[:-80] + LINE, "is truncated or damaged"),
    "with a code of 1000": (npy(np.where(some_codes() == some_codes()[2, 5], 1000, some_codes())), "the code 1000"),
    "with a negative code": (npy(some_codes() - 2000), "the code -"),
    "with a code that int16 would hide": (npy(some_codes().astype("i4") + 65536), "the code 6[0-9]{4} .*0 to 999"),
    "with a code beyond int64": (npy(some_codes().astype("u8") + 2**63), "the code 9223372036854"),
    "empty": (b"", "not a codes file"),
    "only a magic": (b"\x93NUMPY", "not a codes file"),
    "of a later format": (b"\x93NUMPY\x09\x00" + npy(some_codes())[8:], "not a codes file"),
    "sound": (b"RIFF\0\0\0\0WAVEfmt ", "not a codes file"),
    "an archive": (b"PK\x03\x04" + bytes(100), "not a codes file"),
    "with a header of 4 GB": (with_header("", version=b"\x02\x00", length=2**32 - 1), "damaged .npy header"),
    "ending in its header": (with_header("{'descr'", length=118), "damaged .npy header"),
    "nested deep": (with_header("(" * 4000), "header has the wrong fields"),
    "with many minus signs": (with_header("-" * 4000 + "1"), "header has the wrong fields"),
    "a program": (with_header("__import__('os').abort()"), "header has the wrong fields"),
    "with NUL in its header": (with_header("{'descr': '<i2\0'}"), "header has the wrong fields"),
    "with an odd escape": (with_header(r"{'desc\r': '\d'}"), "header has the wrong fields"),
    "with an odd number": (with_header("[0x1for x in (1, 2)]"), "header has the wrong fields"),
    "with a fourth field": (
        with_header("{'descr': '<i2', 'fortran_order': False, 'shape': (8, 1), 'x': 1}", bytes(16)),
        "header has the wrong fields",
    ),
    "of an unhashable field": (with_header("{[]: 1}"), "header has the wrong fields"),
    "with a false size": (
        with_header("{'descr': '<i2', 'fortran_order': False, 'shape': (1000000000000, 0)}"),
        r"wrong shape \(1000000000000, 0\)",
    ),
    "with too many frames": (
        with_header("{'descr': '<i2', 'fortran_order': False, 'shape': (8, 1000000000000)}"),
        r"shape \(8, 1000000000000\)",
    ),
    "of negative length": (
        with_header("{'descr': '<i2', 'fortran_order': False, 'shape': (8, -1)}", bytes(16)),
        r"shape \(8, -1\)",
    ),
    "of astronomic length": (
        with_header("{'descr': '<i2', 'fortran_order': False, 'shape': (" + HUGE + ", 1, 1, 1, 1, 1)}"),
        r"wrong shape \(\.\.\., 1, 1, 1, 1, \.\.\.\)",
    ),
    "with a bool in its shape": (
        with_header("{'descr': '<i2', 'fortran_order': False, 'shape': (8, True)}", bytes(16)),
        "shape in its header is not a tuple",
    ),
    "with an order that is an int": (
        with_header("{'descr': '<i2', 'fortran_order': 0, 'shape': (8, 1)}", bytes(16)),
        "fortran_order in its header",
    ),
    "of a wide integer": (
        with_header("{'descr': '<i16', 'fortran_order': False, 'shape': (8, 1)}", bytes(128)),
        "type is '<i16'",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_an_invalid_file_has_its_own_sentence(tmp_path, kind):
    data, sentence = WRONG[kind]
    path = tmp_path / "fake.npy"
    path.write_bytes(data)
    with pytest.raises(InputError, match=re.escape(str(path)) + ".*" + sentence) as caught:
        codes.read(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 250


def test_the_first_invalid_code_is_reported(tmp_path):
    wrong = some_codes()
    wrong[3, 17] = wrong[5, 2] = 1023
    np.save(tmp_path / "codes.npy", wrong)
    with pytest.raises(InputError, match=r"the code 1023 \(codebook 3, frame 17\)"):
        codes.read(tmp_path / "codes.npy")


def test_other_than_a_regular_file_is_rejected_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    for name, reason in [
        ("missing.npy", "No such file"),
        ("", "Is a directory"),
        ("pipe.npy", "pipe or a device"),
        ("nul\0.npy", "not a valid file name"),
        ("n" * 300, "name too long"),
    ]:
        with pytest.raises(InputError, match=reason):
            codes.read(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    codes.write(tmp_path / "codes.npy", some_codes())
    (tmp_path / "codes.npy").chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        codes.read(tmp_path / "codes.npy")


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(FishError, match=r"no-such-folder.*cannot be written \(No such file"):
        codes.write(tmp_path / "no-such-folder" / "codes.npy", some_codes())


def test_mutated_files_some(tmp_path):
    mutated_files(500, tmp_path / "codes.npy")


@pytest.mark.slow
def test_mutated_files(tmp_path):
    """Of 10,000 mutated codes files none is wrongly accepted."""
    mutated_files(10_000, tmp_path / "codes.npy")


def mutated_files(count: int, path: Path) -> None:
    accepted = 0
    for seed in range(count):
        data = mutated(random.Random(seed))
        path.write_bytes(data)
        try:
            result = codes.read(path)
        except InputError:
            continue
        accepted += 1
        truth = np.load(io.BytesIO(data), allow_pickle=False)
        assert np.array_equal(truth, result), seed
        rest = data[truth.nbytes + header_length(data) :]
        assert rest == b"" or codes.read_file(path).codec == CodecId(rest[15:31].decode(), rest[35:-1].decode()), seed
        assert (result.shape[0], result.dtype) == (8, np.int16), seed
        assert result.shape[1] >= 1, seed
        assert 0 <= result.min() <= result.max() < 1000, seed
    assert 0 < accepted < count  # a change can leave a good file: a code for another, a space


def header_length(data: bytes) -> int:
    width = 2 if data[6] == 1 else 4
    return 8 + width + int.from_bytes(data[8 : 8 + width], "little")


def mutated(chance: random.Random) -> bytes:
    """Return a valid file of some integer type with one to three of the mutations below."""
    dtype = chance.choice(["<i2", "<i2", "<i4", ">i2", "<i8", "<u2"])
    order = chance.choice("CF")
    frames = some_codes(chance.randint(1, 60), chance.randint(0, 99)).astype(dtype, order=order)
    data = bytearray(npy(frames) + chance.choice([b"", LINE]))
    for _ in range(chance.randint(1, 3)):
        chance.choice([flip_bits, cut, extend, flip_bits_in_header, edit_header, swap_bytes])(data, chance)
    return bytes(data)


def flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def flip_bits_in_header(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 3)):
        data[chance.randrange(min(len(data), 80))] ^= 1 << chance.randrange(8)


def cut(data: bytearray, chance: random.Random) -> None:
    del data[max(1, len(data) - chance.choice([1, 2, 16, chance.randrange(1, len(data) + 1)])) :]


def extend(data: bytearray, chance: random.Random) -> None:
    data += chance.randbytes(chance.choice([1, 2, 16, 1000]))


def swap_bytes(data: bytearray, chance: random.Random) -> None:
    a, b = chance.randrange(len(data)), chance.randrange(len(data))
    data[a], data[b] = data[b], data[a]


EDITS = [
    (rb"'[<>][iu][248]'", [b"'<f4'", b"'>i2'", b"'<i4'", b"'|O'", b"'<u8'", b"'|b1'", b"'|V2'", b"'<i2', 'a': 'b'"]),
    (rb"False|True", [b"True", b"False", b"None", b"0", b"1", b"not 1"]),
    (rb"\(8, ", [b"(4, ", b"(16, ", b"(-8, ", b"(8, 1, ", b"(0x8, ", b"(8., ", b"(True, ", b"[8, "]),
    (rb"8, \d+\)", [b"8, 0)", b"8, -1)", b"8, 1)", b"8, 10)", b"8, 99999999999)", b"8, 1e1)", b"8,)"]),
    (rb"NUMPY.", [b"NUMPY\x00", b"NUMPY\x02", b"NUMPY\x03", b"numpy\x01"]),
    (rb"'shape'", [b"'Shape'", b"b'shape'", b"u'shape'", b"'sha' 'pe'"]),
    (rb" +\n", [b"\n", b"", b" " * 200 + b"\n", b"#\n", b"\t\n"]),
]


def edit_header(data: bytearray, chance: random.Random) -> None:
    """Edit the header; half of the time its length is corrected, so that parsing reaches the edit."""
    pattern, choices = chance.choice(EDITS)
    before = len(data)
    data[:] = re.sub(pattern, lambda _: chance.choice(choices), bytes(data), count=1, flags=re.DOTALL)
    if chance.random() < 0.5 and len(data) > 10:
        length = int.from_bytes(data[8:10], "little") + len(data) - before
        data[8:10] = (length & 0xFFFF).to_bytes(2, "little")
