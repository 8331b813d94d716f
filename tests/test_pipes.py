"""Inputs that are no regular files: `<(command)`, /dev/stdin, named pipes, devices."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY

from fishcli.cli import pipes
from fishcli.errors import InputError

RECORDING = (TINY / "reference.wav").read_bytes()

pytestmark = pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no /dev/fd")


@contextlib.contextmanager
def process_substitution(data: bytes):
    """Yield the path that a shell passes for `<(command)`, where the command writes `data`."""
    reading, writing = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), open(writing, "wb") as pipe:
            pipe.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    yield Path(f"/dev/fd/{reading}")
    os.close(reading)
    writer.join()


def content(path: Path, limit: int = 2**28) -> bytes:
    with pipes.readable(path, limit) as source:
        assert source.path.is_file()
        assert source.name == str(path)
        return source.path.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_process_substitution(size):
    data = os.urandom(size)
    with process_substitution(data) as path:
        assert content(path) == data


def test_a_named_pipe_whose_writer_takes_its_time(tmp_path, monkeypatch):
    """A writer that has opened the pipe is waited for, also longer than for one to come."""
    monkeypatch.setattr(pipes, "_PATIENCE", 0.5)
    os.mkfifo(tmp_path / "pipe")

    def write() -> None:
        with (tmp_path / "pipe").open("wb", buffering=0) as pipe:
            time.sleep(1)
            pipe.write(b"first ")
            time.sleep(0.3)
            pipe.write(b"second")

    writer = threading.Thread(target=write)
    writer.start()
    assert content(tmp_path / "pipe") == b"first second"
    writer.join()


def test_a_named_pipe_that_nobody_writes_to(tmp_path, monkeypatch):
    monkeypatch.setattr(pipes, "_PATIENCE", 0.2)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"Nobody writes to the pipe .*pipe; start the program"):
        content(tmp_path / "pipe")


def test_a_named_pipe_whose_writer_writes_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").open("wb").close())
    writer.start()
    assert content(tmp_path / "pipe") == b""
    writer.join()


def test_an_endless_device_is_read_to_the_limit():
    assert content(Path("/dev/zero"), 1000) == bytes(1001)
    assert content(Path("/dev/null"), 1000) == b""


def test_a_regular_file_is_not_copied(tmp_path):
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "link").symlink_to("file")
    for path in (tmp_path / "file", tmp_path / "link", tmp_path / "missing", tmp_path, Path("nul\0")):
        with pipes.readable(path, 1) as source:
            assert source.path == path


def test_the_commands_read_pipes(fish, tmp_path):
    with process_substitution(b"hello there") as path:
        assert "hello there." in fish("say", "--file", path, "-n").out
    with process_substitution(RECORDING) as path:
        ran = fish("encode", path)
        assert (ran.code, "Saved stdin.npy (6.3 s)" in ran.err) == (0, True), ran.err
    codes = (tmp_path / "stdin.npy").read_bytes()
    with process_substitution(codes) as path:
        assert fish("decode", path).code == 0
    for given in (RECORDING, codes):  # of a reference too, the content decides
        with process_substitution(given) as path:
            ran = fish("generate", "Hi.", "--ref", path, "--ref-text", "So it is.", "--max-new-tokens", 2, "--seed", 1)
            assert ran.code == 0, ran.err
            (tmp_path / "codes_0.npy").rename(tmp_path / f"{len(given)}.npy")
    made = [np.load(tmp_path / f"{len(given)}.npy") for given in (RECORDING, codes)]
    np.testing.assert_array_equal(*made)


def test_dev_stdin(tmp_path):
    command = [sys.executable, "-m", "fishcli", "encode", "/dev/stdin"]
    subprocess.run(command, input=RECORDING, cwd=tmp_path, check=True)
    assert np.load(tmp_path / "stdin.npy").shape == (8, 136)


def test_a_pipe_that_is_no_recording_is_named(fish):
    with process_substitution(b"Hello, world!") as path:
        ran = fish("encode", path)
    assert (ran.code, f"error: {path} is not WAV" in ran.err) == (1, True), ran.err
    ran = fish("encode", "-", stdin=b"")
    assert (ran.code, "error: stdin is empty" in ran.err) == (1, True), ran.err
