"""Ctrl-C from the first import to the last file, kills, and what they leave."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FISH = [sys.executable, "-m", "fishcli"]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

# Send Ctrl-C to this process when it begins to import a module.
AT_IMPORT = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[0]:
            os.kill(os.getpid(), signal.SIGINT)
sys.argv[:] = sys.argv[1:]
sys.meta_path.insert(0, Interrupt())
from fishcli.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["typer", "rich.console", "fishcli.cli.app", "fishcli.cli.say", "numpy", "torch"])
def test_ctrl_c_during_any_import(tmp_path, module):
    command = [sys.executable, "-c", AT_IMPORT, module, "say", "Hi."]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "Interrupted; nothing was saved.\n")
    assert not list(tmp_path.iterdir())


def test_the_entry_point_imports_nothing_heavy_before_it_handles_ctrl_c():
    program = "import sys; before = set(sys.modules); import fishcli.__main__; print(*set(sys.modules) - before)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"typing", "typer", "rich", "inspect", "numpy", "torch"} & set(ran.stdout.split())


def on_a_terminal(command: list[str], folder: Path, wait_for: bytes) -> tuple[int, bytes]:
    """Run a command on a terminal, press Ctrl-C when it shows `wait_for`; return its exit code and all it showed."""
    import pty

    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.execve(command[0], command, {**os.environ, "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parent.parent)})
    shown = b""
    try:
        while wait_for not in shown:
            shown += os.read(terminal, 1024)
        os.write(terminal, b"\x03")
        while piece := os.read(terminal, 1024):
            shown += piece
    except OSError:  # the end, on Linux
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), shown


def test_ctrl_c_clears_the_spinner(tmp_path):
    code, shown = on_a_terminal([*FISH, "say", "Hi."], tmp_path, wait_for="⠋".encode())
    assert code == 130
    assert shown.endswith(b"\r\x1b[2K\x1b[?25hInterrupted; nothing was saved.\r\n")
    assert not list(tmp_path.iterdir())


WHEN_A_FILE_EXISTS = """
import glob, os, signal, sys, threading, time
def watch(pattern):
    while not glob.glob(pattern):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=watch, args=[sys.argv.pop(1)], daemon=True).start()
from fishcli.__main__ import main
main()
"""


def test_ctrl_c_after_the_first_of_several_results_does_not_say_that_nothing_was_saved(tmp_path):
    np.save(tmp_path / "few.npy", np.zeros((8, 3), np.int16))
    np.save(tmp_path / "many.npy", np.zeros((8, 100_000), np.int16))
    command = [sys.executable, "-c", WHEN_A_FILE_EXISTS, ".out-1.wav.*.tmp", "decode", "few.npy", "many.npy"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 130, ran.stderr
    assert ran.stderr.endswith("Saved out.wav (0.1 s)\nInterrupted.\n")
    assert {path.name for path in tmp_path.iterdir()} == {"few.npy", "many.npy", "out.wav"}


@pytest.mark.slow
def test_a_killed_run_is_cleaned_up_by_the_next(tmp_path):
    command = [*FISH, "say", "One sentence after another. " * 40, "-o", "long.wav"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        while not list(tmp_path.glob(".long.wav.*.tmp")):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert len(list(tmp_path.iterdir())) == 1
    subprocess.run([*FISH, "say", "-q", "Hi."], cwd=tmp_path, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]
