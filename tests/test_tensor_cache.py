"""The tensor cache: bounded in memory and on disk, and never a damaged entry."""

import os
import time

import pytest
import torch

from fishcli.checkpoints.tensor_cache import TensorCache


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FISHCLI_CACHE_DIR", str(tmp_path))
    return tmp_path / "entries"


def entry(number: int, size: int = 250) -> dict[str, torch.Tensor]:
    return {"a": torch.full((size,), float(number)), "b": torch.tensor([number])}


def same(found, number: int) -> bool:
    return found is not None and all(torch.equal(found[name], tensor) for name, tensor in entry(number).items())


def test_entries_are_found_in_this_process_and_the_next(folder):
    one = TensorCache("entries", memory=10_000, disk=10_000)
    assert one.find("1") is None
    one.keep("1", entry(1))
    assert same(one.find("1"), 1)
    assert same(TensorCache("entries", memory=10_000, disk=10_000).find("1"), 1)


def test_the_least_recently_used_go_first(folder, monkeypatch):
    cache = TensorCache("entries", memory=2_500, disk=2_900)  # two in memory, with their headers two on disk
    for i in (1, 2):
        cache.keep(str(i), entry(i))
    assert same(cache.find("1"), 1)
    cache.keep("3", entry(3))
    assert len(list(folder.iterdir())) == 2
    monkeypatch.setattr(
        "fishcli.checkpoints.tensor_cache._read", lambda *_: None
    )  # entries found from now on are in memory
    assert [i for i in (1, 2, 3) if cache.find(str(i))] == [1, 3]


def test_an_entry_larger_than_the_memory_is_held_alone(folder):
    cache = TensorCache("entries", memory=10, disk=0)
    cache.keep("1", entry(1))
    assert same(cache.find("1"), 1)
    assert list(folder.iterdir()) == []


def test_no_damaged_or_foreign_file_is_used(folder):
    TensorCache("entries", 10_000, 10_000).keep("1", entry(1))
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for i in range(0, len(whole), 7):
        for damaged in (whole[:i], whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :]):
            path.write_bytes(damaged)
            found = TensorCache("entries", 10_000, 10_000).find("1")
            assert found is None or same(found, 1), i
    path.with_name("2.safetensors").write_bytes(whole)
    assert TensorCache("entries", 10_000, 10_000).find("2") is None


def test_temporary_files_of_killed_writers_go(folder):
    folder.mkdir()
    for name, age in ((".1.safetensors.ab.tmp", 7200), (".2.safetensors.cd.tmp", 60)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (0, time.time() - age))
    TensorCache("entries", memory=10_000, disk=10_000).keep("1", entry(1))
    assert {path.name for path in folder.iterdir()} == {"1.safetensors", ".2.safetensors.cd.tmp"}


def test_a_read_only_disk(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FISHCLI_CACHE_DIR", str(tmp_path / "file"))
    cache = TensorCache("entries", 10_000, 10_000)
    cache.keep("1", entry(1))
    assert same(cache.find("1"), 1)
