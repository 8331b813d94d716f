"""Inspecting `.pth` files: what is inspected is what torch reads."""

import io
import pickle
import zipfile

import pytest
import torch
from hostile_checkpoints import joined, zipped

from fishcli.checkpoints import convert, pth
from fishcli.errors import InputError

STATE = {"x": torch.arange(3.0)}
DEEP = b"\x80\2}" + b")" + b"\x85" * 300_000 + b"K\1s."  # overflows the stack of who hashes or frees it


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.pth"


def honest_pickle(path) -> bytes:
    torch.save(STATE, path)
    with zipfile.ZipFile(path) as archive:
        return archive.read(f"{path.stem}/data.pkl")


def test_an_archive_behind_another_one_is_refused(path):
    """One of the two is harmless, and was the one inspected."""
    good = zipped(path, STATE, pkl=honest_pickle(path).ljust(len(DEEP), b"\0"))
    bad = zipped(path, STATE, pkl=DEEP)
    for data in (joined(bad, good), joined(good, bad)):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"not the pickle of a state dict|two archives"):
            pth.inspect(path)
        with pytest.raises(InputError, match="not a checkpoint that can be read safely"):
            convert.load(path, torch.float32, dict, {})


def test_other_tensors_behind_an_archive_are_refused(path):
    first, second = zipped(path, STATE), zipped(path, {"x": torch.arange(3.0) + 1})
    path.write_bytes(joined(first, second))
    with zipfile.ZipFile(path) as archive:
        assert archive.read(f"{path.stem}/data/0") == (torch.arange(3.0) + 1).numpy().tobytes()
    assert torch.equal(torch.load(path)["x"], STATE["x"])  # torch does read the other one
    with pytest.raises(ValueError, match="two archives"):
        pth.inspect(path)


@pytest.mark.parametrize("prefix", [b"PK\3\4", b"\0" * 64, zipfile.ZipFile.__doc__.encode()])
def test_bytes_before_an_archive_are_refused(path, prefix):
    torch.save(STATE, path)
    path.write_bytes(prefix + path.read_bytes())
    with pytest.raises(InputError, match="not a checkpoint that can be read safely"):
        convert.load(path, torch.float32, dict, {})


def test_honest_files_are_read(path, tmp_path):
    torch.save(STATE, path)
    assert pth.inspect(path)
    path.write_bytes(zipped(path, STATE))
    assert pth.inspect(path)
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    assert not pth.inspect(path)
    stream = io.BytesIO()  # saved without a file's name
    torch.save({"state_dict": STATE}, stream, pickle_protocol=pickle.DEFAULT_PROTOCOL)
    (tmp_path / "y.pth").write_bytes(stream.getvalue())
    assert pth.inspect(tmp_path / "y.pth")
