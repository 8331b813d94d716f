"""No codes of a caller or of a file reach the C++ unchecked: an InputError each, through every public function."""

import random

import numpy as np
import pytest
import torch

from fishcli import Reference, Request, load
from fishcli.audio import codes
from fishcli.errors import InputError
from fishcli.native import build

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason="there is no C++ compiler")

GOOD = np.arange(24).reshape(8, 3) * 41
CYCLE: list = []
CYCLE.append(CYCLE)


def with_code(value: object, dtype: str = "i8") -> np.ndarray:
    array = GOOD.astype(dtype)
    array[5, 2] = value
    return array


HOSTILE = {
    **{
        f"a code of {value}": with_code(value)
        for value in (-1, 1000, 1023, 1024, 32767, -32768, 65536, 2**40, -(2**63))
    },
    "a code of 2**64 - 1": with_code(2**64 - 1, "u8"),
    "a negative code of a byte": with_code(-1, "i1"),
    "a big-endian code": with_code(1000, ">i4"),
    "a code in another layout": np.asfortranarray(with_code(1000)),
    "a code behind a stride": np.full((8, 6), 1000)[:, ::2],
    "floats": GOOD.astype(np.float32),
    "NaN": with_code(np.nan, "f8"),
    "infinity": with_code(np.inf, "f4"),
    "bools": GOOD > 3,
    "complex numbers": GOOD.astype(complex),
    "objects": GOOD.astype(object),
    "text": GOOD.astype(str),
    "bytes": GOOD.astype("S4"),
    "dates": GOOD.astype("M8[s]"),
    "records": np.zeros((8, 3), [("a", "i2")]),
    "no frames": GOOD[:, :0],
    "no codebooks": GOOD[:0],
    "nothing": np.zeros(0, int),
    "one number": np.array(3),
    "one row": GOOD[0],
    "seven rows": GOOD[:7],
    "nine rows": np.zeros((9, 3), int),
    "transposed": GOOD.T,
    "a batch": GOOD[None],
    "a ragged list": [[1, 2], [3]] * 4,
    "a list of a code too large": with_code(10**6).tolist(),
    "a list of an astronomic code": [[10**400] * 3] * 8,
    "a list in itself": CYCLE,
    "a tensor of floats": torch.rand(8, 3),
    "a tensor of a code too large": torch.full((8, 3), 5000),
    "None": None,
    "a str": "codes.npy",
    "bytes of a file": b"\x93NUMPY",
    "a dict": {},
    "a set": {1, 2},
    "a generator": (row for row in GOOD),
    "a class": int,
}


@pytest.fixture(scope="module")
def engine(micro):
    return load(micro, compile=True, device="cpu", dtype="float32", threads=2)


def refused(engine, hostile: object) -> None:
    """Pass codes to every public function that takes some."""
    with pytest.raises(InputError, match="Codes must"):
        engine.decode(hostile)
    for start in (engine.speak, engine.generate):
        with pytest.raises(InputError, match="Codes must"):
            start(Request("Hi.", [Reference(GOOD, "ok"), Reference(hostile, "not")]))


@pytest.mark.parametrize("kind", HOSTILE)
def test_codes_that_no_codec_made(engine, kind):
    refused(engine, HOSTILE[kind])


def random_codes(seed: int) -> np.ndarray:
    """Return random bytes as an array of random integers or floats, one of them at least no code."""
    chance = np.random.default_rng(seed)
    dtype = chance.choice(["i2", "i4", "i8", "u2", "u4", "u8", "f4", ">i2"])
    rows = int(chance.choice([8, 8, 8, 8, 4, 9]))
    array = np.frombuffer(chance.bytes(rows * int(chance.integers(1, 40)) * np.dtype(dtype).itemsize), dtype)
    array = array.reshape(rows, -1).copy()
    array[chance.integers(rows), chance.integers(array.shape[1])] = chance.choice([1000, 32767])
    return array


def test_a_thousand_random_arrays(engine):
    for seed in range(1000):
        refused(engine, random_codes(seed))


def test_a_thousand_random_files(tmp_path):
    """Of random bytes, as a whole file or behind a true header, none is read as codes."""
    path = tmp_path / "codes.npy"
    np.save(path, GOOD.astype(np.int16))
    header = path.read_bytes()[: -GOOD.size * 2]
    for seed in range(1000):
        chance = random.Random(seed)
        start = header if seed % 2 else b""
        path.write_bytes(start + chance.randbytes(GOOD.size * 2 + chance.choice([0, 0, 0, -2, 2])))
        with pytest.raises(InputError, match=r"codes\.npy"):
            codes.read(path)


def test_codes_that_change_after_the_check_are_not_read(engine):
    mine = GOOD.copy()
    reference = Reference(mine, "ok")
    stream = engine.generate(Request("Hi.", [reference]))
    mine[:] = 2**40
    next(iter(stream))
    stream.close()
    with pytest.raises(InputError, match="Codes must be from 0 to 999"):
        engine.generate(Request("Hi.", [reference]))


SAMPLES = {
    "none": np.zeros(0, np.float32),
    "NaN": np.array([0, np.nan]),
    "infinity": np.array([0, np.inf]),
    "more than float32 holds": np.array([0, 1e300]),
    "stereo": np.zeros((100, 2)),
    "one number": 0.5,
    "text": "me.wav",
    "None": None,
    "objects": np.zeros(3, object),
    "complex numbers": np.zeros(3, complex),
    "bools": np.zeros(3, bool),
    "ragged": [[1.0], [1.0, 2.0]],
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_samples_that_are_no_recording(engine, kind):
    with pytest.raises(InputError, match="Samples must be"):
        engine.encode(SAMPLES[kind])


@pytest.mark.parametrize("samples", [[0.0, 0.1] * 3000, np.zeros(1, np.int16), torch.rand(6000), np.ones(6000, ">f8")])
def test_samples_of_any_number_type(engine, samples):
    assert engine.encode(samples).shape[0] == 8


def test_codes_of_any_integer_type(engine):
    expected = np.concatenate(list(engine.decode(GOOD)))
    for same in (GOOD.tolist(), GOOD.astype(">u4"), np.asfortranarray(GOOD), torch.from_numpy(GOOD)):
        np.testing.assert_array_equal(np.concatenate(list(engine.decode(same))), expected)
