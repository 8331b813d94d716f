"""Fuzz codes files: an InputError, or the same codes as numpy reads; never another error.

    pip install atheris && python tests/fuzz_codes.py -runs=1000000

Further arguments are libFuzzer's: a folder to keep the corpus in, `-max_total_time=300`, ...
"""

import io
import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["fishcli"]):
    from fishcli.audio import codes
    from fishcli.errors import InputError

FOLDER = Path(tempfile.mkdtemp())


def check(data: bytes) -> None:
    path = FOLDER / "fuzzed.npy"
    path.write_bytes(data)
    try:
        result = codes.read(path)
    except InputError:
        return
    truth = np.load(io.BytesIO(data), allow_pickle=False)
    if not np.array_equal(truth, result) or result.dtype != np.int16 or result.shape[0] != 8 or not result.size:
        raise RuntimeError("wrongly accepted")
    if result.min() < 0 or result.max() > 999:
        raise RuntimeError("a code out of range was accepted")


def seeds(folder: Path) -> Path:
    """Return valid files of several integer types, layouts and format versions."""
    folder.mkdir()
    for number, dtype in enumerate(["<i2", ">i2", "<i4", ">i8", "<u2"]):
        for order in ("C", "F"):
            values = (np.arange(24).reshape(8, 3) * 41).astype(dtype, order=order)
            for version in ((1, 0), (2, 0), (3, 0)):
                for line in (b"", b"\nfishcli codec=0123456789abcdef of=fish-speech-1.5\n"):
                    with (folder / f"{number}-{order}-{version[0]}-{len(line)}").open("wb") as file:
                        np.lib.format.write_array(file, values, version=version)
                        file.write(line)
    return folder


if __name__ == "__main__":
    atheris.Setup([*sys.argv, str(seeds(FOLDER / "seeds"))], check)
    atheris.Fuzz()
