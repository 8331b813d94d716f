"""Shells for the tests of completion: where they are, and folders of programs called `fish`, ours and others."""

import os
import shutil
import sys
from pathlib import Path

# A program with our command's name that is not ours waits for the terminal, as a shell does. It says that it started.
_OTHER = "#!/bin/sh\n: > {folder}/started\nexec cat /dev/tty\n"
_OURS = f"#!{sys.executable}\nfrom fishcli.__main__ import main\nmain()\n"
_TOOLS = ("env", "head", "grep", "sed", "cat", "uname", "tput", "mkdir", "sh", "bash")


def find_shell(name: str) -> str | None:
    """Return the path of a shell. A `fish` that is our command is none."""
    for folder in [*os.environ["PATH"].split(os.pathsep), *os.defpath.split(os.pathsep)]:
        found = shutil.which(name, path=folder)
        if found and b"fishcli" not in Path(found).read_bytes()[:4096]:
            return found
    return None


def make_programs(folder: Path) -> None:
    """Make folders of programs: `ours`, `other`, whose `fish` is another program, `shell`, and `tools`."""
    for name, text in (("ours", _OURS), ("other", _OTHER.format(folder=folder))):
        (folder / name).mkdir()
        (folder / name / "fish").write_text(text)
        (folder / name / "fish").chmod(0o755)
    (folder / "ours" / "fishcli").symlink_to("fish")
    (folder / "tools").mkdir()
    for tool in _TOOLS:
        if found := shutil.which(tool, path=os.defpath):
            (folder / "tools" / tool).symlink_to(found)
    if shell := find_shell("fish"):
        (folder / "shell").mkdir()
        (folder / "shell" / "fish").symlink_to(shell)


def path(folder: Path, *programs: str) -> str:
    """Return a PATH of some of these folders and the tools."""
    return os.pathsep.join(str(folder / name) for name in (*programs, "tools"))
