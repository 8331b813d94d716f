"""The Tab key in real shells on a terminal, wherever `fish` may lead."""

import os
import select
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shells import find_shell, make_programs, path

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="needs a terminal of POSIX")]

SCRIPTS = Path(__file__).parent.parent / "completions"
PATIENCE = 30  # s, for a slow machine
START = {
    "bash": (["--norc", "--noprofile", "-i"], f"source {SCRIPTS / 'fish.bash'}"),
    "zsh": (["-f", "-i"], f"fpath=({SCRIPTS} $fpath); autoload -Uz compinit; compinit -u -D"),
    "fish": (["--no-config", "-i"], "set -p fish_complete_path ~/completions"),
}


class Terminal:
    """A shell on a terminal of its own."""

    def __init__(self, shell: str, folder: Path, path: str) -> None:
        import pty

        arguments, setup = START[shell]
        program = find_shell(shell)
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            os.chdir(folder)
            home = {"HOME": str(folder), "PATH": path, "TERM": "xterm", "PYTHONPATH": str(SCRIPTS.parent)}
            os.execve(program, [shell, *arguments], {**os.environ, **home})
        self.shown = b""
        self.type(f"{setup}\n")
        self.ready()

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def wait_for(self, text: str) -> None:
        """Read until the terminal shows a text; fail where it takes too long."""
        deadline = time.monotonic() + PATIENCE
        while text.encode() not in self.shown:
            if select.select([self._terminal], [], [], max(0, deadline - time.monotonic()))[0]:
                self.shown += os.read(self._terminal, 4096)
            else:
                pytest.fail(f"it hangs; no {text!r} in {self.shown.decode(errors='replace')}")

    def ready(self) -> None:
        """Fail unless the shell runs a command."""
        self.type("\x15echo al''ive\n")
        self.wait_for("alive")
        self.shown = b""

    def close(self) -> None:
        os.close(self._terminal)
        os.waitpid(self._process, 0)


@pytest.fixture(params=START)
def open_shell(request, tmp_path) -> Iterator:
    """open_shell(programs): a shell with folders of the programs first in its PATH."""
    shell = request.param
    if not find_shell(shell):
        pytest.skip(f"there is no {shell}")
    make_programs(tmp_path)
    (tmp_path / "completions").mkdir()
    for name in ("fish.fish", "fishcli.fish"):  # as `fish completion fish --install` writes them
        shutil.copy(SCRIPTS / "fish.fish", tmp_path / "completions" / name)
    opened: list[Terminal] = []

    def open_with(programs: list[str]) -> Terminal:
        opened.append(Terminal(shell, tmp_path, path(tmp_path, *programs)))
        return opened[-1]

    yield open_with
    for terminal in opened:
        terminal.close()


@pytest.mark.parametrize("programs", [[], ["other"], ["other", "ours"], ["shell"]], ids="+".join)
@pytest.mark.parametrize("line", ["fish ", "fish s", "fish -", "fish say --re"])
def test_tab_leaves_another_program_alone(open_shell, tmp_path, programs, line):
    if programs == ["shell"] and not find_shell("fish"):
        pytest.skip("there is no fish shell")
    terminal = open_shell(programs)
    terminal.type(f"{line}\t\t")
    terminal.ready()
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("command", ["fish", "fishcli", "ours/fish"])
@pytest.mark.parametrize("programs", [["ours"], ["ours", "other"]], ids="+".join)
def test_tab_completes_our_program(open_shell, tmp_path, programs, command):
    terminal = open_shell(programs)
    terminal.type(f"{command} enc\t")
    terminal.wait_for("encode")
    terminal.type(f"\x15{command} say --checkpoint-path bui\t")
    terminal.wait_for("built-in")
    terminal.ready()


def test_tab_completes_files(open_shell, tmp_path):
    (tmp_path / "paimon voice.wav").touch()
    terminal = open_shell(["ours"])
    terminal.type("fish encode pai\t")
    terminal.wait_for("voice.wav")
    terminal.ready()
