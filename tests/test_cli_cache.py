"""`fish cache`: what lies in the cache folder, and clearing it beside other processes."""

import json
import os
import time

import filelock
import pytest

from fishcli.checkpoints import local
from fishcli.doctor import cache

FILES = {
    "converted/model-1-float32.safetensors": 3_000_000,
    "converted/model-1-float32.lock": 0,
    "native/fish-1.so": 350_000,
    "native/fish-1.sum": 64,
    "native/fish-1.lock": 0,
    "compiled/fxgraph/ab/cd/graph": 1000,
    "voices/1.safetensors": 2000,
    "recordings/1.safetensors": 500,
    "recordings/2.safetensors": 500,
    "other/of-the-user": 7,
}


@pytest.fixture
def filled(tmp_path, monkeypatch):
    """A cache folder with files of every kind, and a downloaded model in the data folder."""
    for kind in ("CACHE", "DATA"):
        monkeypatch.setenv(f"FISHCLI_{kind}_DIR", str(tmp_path / kind.lower()))
    for name, size in FILES.items():
        path = tmp_path / "cache" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    local.home(local.REPO).mkdir(parents=True)
    (local.home(local.REPO) / "model.pth").write_bytes(b"model")
    return tmp_path / "cache"


def names(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


LEFT = {"other/of-the-user", "converted/model-1-float32.lock", "native/fish-1.lock"}


def test_show(fish, filled):
    ran = fish("cache", "show")
    assert ran.code == 0
    lines = [line.split(maxsplit=3) for line in ran.out.splitlines()]
    assert [(size, unit, name) for size, unit, name, _ in lines[:-1]] == [
        ("3.0", "MB", "converted"),
        ("0.4", "MB", "native"),
        ("0.0", "MB", "compiled"),
        ("0.0", "MB", "voices"),
        ("0.0", "MB", "recordings"),
    ]
    assert ran.out.splitlines()[-1].strip() == f"3.4 MB  in {filled}"
    assert str(filled.parent / "data") in ran.err


def test_show_as_json(fish, filled):
    found = json.loads(fish("cache", "show", "--json").out)
    assert found["path"] == str(filled)
    assert found["bytes"] == sum(FILES.values()) - 7
    assert [each["name"] for each in found["kinds"]] == list(cache.KINDS)
    kind = next(each for each in found["kinds"] if each["name"] == "recordings")
    assert kind == {
        "name": "recordings",
        "content": "codes of recordings",
        "path": str(filled / "recordings"),
        "files": 2,
        "bytes": 1000,
    }


def test_clear(fish, filled):
    ran = fish("cache", "clear")
    assert (ran.code, ran.out) == (0, "")
    assert "Freed 3.4 MB" in ran.err
    assert names(filled) == LEFT
    assert (local.home(local.REPO) / "model.pth").exists()
    assert "Freed 0.0 MB" in fish("cache", "clear").err


def test_clear_some(fish, filled):
    cleared = json.loads(fish("cache", "clear", "voices", "recordings", "--json").out)
    assert (cleared["bytes"], cleared["in_use"]) == (3000, 0)
    assert names(filled) == FILES.keys() - {name for name in FILES if name.startswith(("voices", "recordings"))}


def test_an_unknown_kind(fish, filled):
    ran = fish("cache", "clear", "models")
    assert ran.code == 2
    assert "'models' is not a kind of cached files: converted, native, " in ran.err
    assert names(filled) == FILES.keys()


def test_what_another_process_writes_stays(fish, filled):
    (filled / "native" / "fish-1.build" / "zig").mkdir(parents=True)
    writing = {"native/fish-1.build/zig/step.o", "voices/.2.safetensors.ab.tmp"}
    old = filled / "voices" / ".3.safetensors.ab.tmp"
    for path in [*(filled / name for name in writing), old]:
        path.write_bytes(b"half")
    os.utime(old, (0, time.time() - 7200))
    with filelock.FileLock(filled / "native" / "fish-1.lock"):
        ran = fish("cache", "clear")
    assert "4 files stay, because another process is writing them." in ran.err
    assert names(filled) == LEFT | writing | {"native/fish-1.so", "native/fish-1.sum"}


def test_no_cache_at_all(fish, monkeypatch, tmp_path):
    monkeypatch.setenv("FISHCLI_CACHE_DIR", str(tmp_path / "none"))
    assert fish("cache", "show").out.split() == ["0.0", "MB", "in", str(tmp_path / "none")]
    assert "Freed 0.0 MB" in fish("cache", "clear").err
    assert not (tmp_path / "none").exists()


def test_speaking_goes_on_without_the_cache(fish, micro, filled):
    """The mapped weights stay usable, and the next run makes all anew."""
    options = ("--checkpoint-path", micro, "--seed", 1, "--max-new-tokens", 5, "--json")
    first = json.loads(fish("say", "Hello.", "-o", "a.wav", *options).out)
    fish("cache", "clear")
    assert json.loads(fish("say", "Hello.", "-o", "b.wav", *options).out).keys() == first.keys()
