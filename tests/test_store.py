"""What is kept for the next time: in memory and on disk, bounded, and only used where it is whole."""

import pytest
import torch

from fishcli.checkpoints.tensor_cache import TensorCache


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FISHCLI_CACHE_DIR", str(tmp_path))
    return tmp_path / "things"


def thing(number: int, size: int = 250) -> dict[str, torch.Tensor]:
    return {"a": torch.full((size,), float(number)), "b": torch.tensor([number])}


def same(found, number: int) -> bool:
    return found is not None and all(torch.equal(found[name], tensor) for name, tensor in thing(number).items())


def test_found_again_in_this_process_and_the_next(folder):
    one = TensorCache("things", memory=10_000, disk=10_000)
    assert one.find("1") is None
    one.keep("1", thing(1))
    assert same(one.find("1"), 1)
    assert same(TensorCache("things", memory=10_000, disk=10_000).find("1"), 1)


def test_the_least_recently_used_go_first(folder, monkeypatch):
    store = TensorCache("things", memory=2_500, disk=2_900)  # two in memory, with their headers two on disk
    for i in (1, 2):
        store.keep(str(i), thing(i))
    assert same(store.find("1"), 1)
    store.keep("3", thing(3))
    assert len(list(folder.iterdir())) == 2
    monkeypatch.setattr("fishcli.checkpoints.tensor_cache._read", lambda *_: None)  # what is found now is in memory
    assert [i for i in (1, 2, 3) if store.find(str(i))] == [1, 3]


def test_one_that_is_larger_than_the_memory_is_held_alone(folder):
    store = TensorCache("things", memory=10, disk=0)
    store.keep("1", thing(1))
    assert same(store.find("1"), 1)
    assert list(folder.iterdir()) == []


def test_no_damaged_or_foreign_file_is_used(folder):
    TensorCache("things", 10_000, 10_000).keep("1", thing(1))
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for i in range(0, len(whole), 7):
        for damaged in (whole[:i], whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :]):
            path.write_bytes(damaged)
            found = TensorCache("things", 10_000, 10_000).find("1")
            assert found is None or same(found, 1), i
    path.with_name("2.safetensors").write_bytes(whole)
    assert TensorCache("things", 10_000, 10_000).find("2") is None


def test_a_disk_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FISHCLI_CACHE_DIR", str(tmp_path / "file"))
    store = TensorCache("things", 10_000, 10_000)
    store.keep("1", thing(1))
    assert same(store.find("1"), 1)
