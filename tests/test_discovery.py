"""The file by which a user's programs find the user's server: only a live process of that user counts."""

import dataclasses
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fishcli.client import discovery
from fishcli.client.discovery import announced, find, identity, new_key, running

pytestmark = pytest.mark.skipif(os.name == "nt", reason="users and modes of files")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The runtime folder of this test alone; it is made by the first who announces itself."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "fishcli"


@pytest.fixture
def model():
    return identity("built-in")


def test_a_server_is_found_while_it_runs(folder, model):
    key = new_key()
    assert running() == []
    with announced(8080, key, model):
        path = folder / f"{os.getpid()}.json"
        assert [stat.S_IMODE(each.stat().st_mode) for each in (folder, path)] == [0o700, 0o600]
        found = find(model)
        assert (found.pid, found.port, found.key, found.url) == (os.getpid(), 8080, key, "http://127.0.0.1:8080")
        assert key not in repr(found)
    assert find(model) is None
    assert list(folder.iterdir()) == []


def test_without_a_runtime_folder_it_lies_in_the_cache(tmp_path, monkeypatch, model):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("FISHCLI_CACHE_DIR", str(tmp_path / "cache"))
    with announced(8080, "key", model):
        assert (tmp_path / "cache" / "run" / f"{os.getpid()}.json").is_file()
        assert find(model)


OTHERS = {
    "program": "9.9.9",
    "files": (),
    "device": "cuda",
    "dtype": "bfloat16",
    "quantize": "int8",
    "threads": 3,
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_model_is_not_served(folder, model, name):
    with announced(8080, "key", dataclasses.replace(model, **{name: OTHERS[name]})):
        assert len(running()) == 1
        assert find(model) is None


# compile and kernels of the server; compile of the command, and whether the kernels are there: the same speech?
KERNELS = [
    ((None, True), (None, True), True),
    ((True, True), (None, True), True),
    ((None, True), (None, False), False),
    ((None, True), (False, True), False),
    ((None, False), (None, False), True),
    ((None, False), (None, True), False),
    ((None, False), (True, False), False),
    ((False, False), (False, True), True),
    ((True, None), (None, True), False),
    ((None, None), (None, True), True),
]


@pytest.mark.parametrize(("server", "command", "same"), KERNELS)
def test_a_server_must_run_the_kernels_that_the_command_would(model, server, command, same):
    serves, wanted = (dataclasses.replace(model, compile=each[0], native=each[1]) for each in (server, command))
    assert serves.serves(wanted) is same


def test_a_changed_file_is_another_model(tmp_path, micro):
    before = identity(micro)
    path = micro / "config.json"
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert not before.serves(identity(micro))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert before.serves(identity(micro))
    codec = micro / "firefly-gan-vq-fsq-8x1024-21hz-generator.pth"
    assert before.serves(identity(micro, codec))
    assert before.serves(identity(codec))


def record(folder: Path, **changes: object) -> Path:
    """Write the record of this process with some changes."""
    with announced(8080, "key", identity("built-in")):
        fields = json.loads((folder / f"{os.getpid()}.json").read_text())
    fields |= changes
    path = folder / f"{fields['pid']}.json"
    path.write_text(json.dumps(fields))
    path.chmod(0o600)
    return path


def test_the_record_of_a_process_that_has_ended_is_removed(folder):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    path = record(folder, pid=ended.pid)
    assert running() == []
    assert not path.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell when a process started")
def test_a_process_that_got_the_number_of_another_one(folder):
    path = record(folder, started="1")
    assert running() == []
    assert not path.exists()


def test_a_process_of_another_user(folder):
    if os.geteuid() == 0:
        pytest.skip("root may signal every process")
    assert record(folder, pid=1).exists()
    assert running() == []


@pytest.mark.parametrize(
    "changes",
    [{"format": 2}, {"port": 0}, {"port": 70_000}, {"key": ""}, {"port": "x"}, {"identity": None}, {"pid": "x"}],
)
def test_a_record_of_another_kind(folder, changes):
    pid = changes.pop("pid", None)
    path = record(folder, **changes)
    if pid:
        path.write_text(path.read_text().replace(str(os.getpid()), '"x"'))
    assert running() == []


def test_a_record_that_is_none(folder):
    path = record(folder)
    for text in ("", "{", "[]", "[" * 50_000, "x" * 100_000, '{"pid": 1e999}'):
        path.write_text(text)
        assert running() == []
    path.unlink()
    os.mkfifo(path)
    assert running() == []
    path.unlink()
    other = folder.parent / "elsewhere.json"
    record(folder).rename(other)
    path.symlink_to(other)
    assert running() == []


def test_a_record_that_others_can_read(folder):
    path = record(folder)
    assert len(running()) == 1
    path.chmod(0o644)
    assert running() == []


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_that_is_open_to_others(folder, model, mode):
    path = record(folder)
    folder.chmod(mode)
    assert running() == []
    path.unlink()
    with announced(8080, "key", model):
        assert list(folder.iterdir()) == []


def test_a_folder_that_is_a_link(folder, model, tmp_path):
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    folder.symlink_to(target)
    with announced(8080, "key", model):
        assert list(target.iterdir()) == []
        assert running() == []


def test_a_folder_that_others_could_replace(folder, model):
    with announced(8080, "key", model):
        folder.parent.chmod(0o777)
        assert running() == []
        folder.parent.chmod(0o700)
        assert len(running()) == 1


def test_a_folder_of_another_user(folder, model, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    folder.mkdir(mode=0o700)
    os.chown(folder, 12_345, 12_345)
    with announced(8080, "key", model):
        assert list(folder.iterdir()) == []
        assert running() == []


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch, model):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "file"))
    with announced(8080, "key", model):
        assert running() == []


def test_several_servers(folder, model):
    """Each process has a file of its own."""
    other = dataclasses.replace(model, quantize="int8")
    program = (
        "import dataclasses, sys; from fishcli.client.discovery import *;"
        "model = dataclasses.replace(identity('built-in'), quantize='int8')\n"
        "with announced(8081, 'key', model): print(); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(discovery.__file__).parents[2])}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        process.stdout.readline()
        with announced(8080, "key", model):
            assert (find(model).port, find(other).port) == (8080, 8081)
        process.stdin.close()
    assert running() == []
