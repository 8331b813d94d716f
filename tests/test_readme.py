"""Every command of the README, run as it stands in a shell."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from conftest import TINY
from hub_server import Hub

from fishcli.hub import REPO

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
ELSEWHERE = {"pip": "the test command and the first one: CI runs them", "pytest": "these tests"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line]
    # The installation in front of the first command is CI's; what follows it is run here.
    lines = [line.removeprefix("pip install . && ") for line in lines]
    return [line for line in lines if line.split()[0] not in ELSEWHERE]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what the README takes for granted: a recording and a text."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copy(TINY / "reference.wav", folder / "paimon.wav")
    (folder / "chapter.txt").write_text("The train arrives at seven. It leaves at nine.\n")
    return folder


@pytest.fixture(scope="module")
def environment():
    bin_folder = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "FISHCLI_GENERATE_MAX_NEW_TOKENS": "60",
    }


@pytest.fixture(scope="module")
def hub(micro):
    """A hub that has Fish Speech 1.5, though a small one."""
    with Hub() as hub:
        hub.add(REPO, {path.name: path.read_bytes() for path in micro.iterdir()})
        yield hub


def is_slow(command: str) -> bool:
    return "-m full" in command or "atheris" in command or "kill_" in command or "-runs=" in command


@pytest.mark.skipif(os.name == "nt", reason="the README's shell is a POSIX one")
@pytest.mark.parametrize("command", [pytest.param(c, marks=pytest.mark.slow if is_slow(c) else ()) for c in commands()])
def test_command(command, folder, environment, hub, tmp_path):
    if command.startswith("fish download"):
        environment = {**environment, "HF_ENDPOINT": hub.url, "FISHCLI_DATA_DIR": str(tmp_path)}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=folder, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    for output in re.findall(r"(?:-o|>) (\S+\.(?:wav|flac))", command):
        made = list(folder.glob(f"{Path(output).stem}*"))  # several samples are numbered
        assert made
        assert all(soundfile.info(path).duration > 0.3 for path in made)


@pytest.mark.parametrize("program", blocks("python"))
def test_program(program, folder, environment):
    subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, check=True)
    assert soundfile.info(folder / "hello.wav").duration > 0.3
