"""`fish completion`: shell completion for bash, zsh and fish."""

from __future__ import annotations

import enum
import os
import shutil
from pathlib import Path
from typing import Annotated

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]

from fishcli.cli import console
from fishcli.cli.app import DebugOption, app, command
from fishcli.cli.completion_scripts import LOOKED_AT, SCRIPTS
from fishcli.files import replacing, report_write_errors

completion_init()  # registers the shells; typer itself does so only for --install-completion


class Shell(str, enum.Enum):
    """The supported shells."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


@command(app, common=DebugOption)
def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
    install: Annotated[bool, typer.Option("--install", help="Install it, rather than print it.")] = False,
) -> None:
    """Set up shell completion.

    Examples:
      fish completion bash --install
      fish completion zsh > _fish
    """
    script = SCRIPTS[shell.value]
    if not install:
        if console.flags.json:
            console.result({"shell": shell.value, "script": script})
        else:
            console.listing(script)
        return
    target, next_step = _place(shell)
    for path in (
        [target] if shell is Shell.zsh else [target, target.with_name(target.name.replace("fish", "fishcli", 1))]
    ):
        _write(path, script)
    console.note(f"Written to {target}. {next_step}")
    if not _is_ours(shutil.which("fish")):
        console.warn("`fish` is another program in this PATH; complete `fishcli`, which is always this one.")
    console.result({"shell": shell.value, "path": str(target), "next": next_step})


def _place(shell: Shell) -> tuple[Path, str]:
    """Return the file that a shell reads for `fish`, and the next step. bash and fish read another for `fishcli`."""
    if shell is Shell.bash:
        data = _folder("XDG_DATA_HOME", ".local/share") / "bash-completion"
        target = _folder("BASH_COMPLETION_USER_DIR", str(data)) / "completions" / "fish"
        return target, f"Open a new shell; without the package bash-completion, add `source {target}` to ~/.bashrc."
    if shell is Shell.zsh:
        home = _folder("ZDOTDIR", "")
        line = f"fpath=({home}/.zfunc $fpath); autoload -Uz compinit; compinit"
        return home / ".zfunc" / "_fish", f"Add `{line}` to {home}/.zshrc unless it is there, and open a new shell."
    folder = _folder("XDG_CONFIG_HOME", ".config") / "fish" / "completions"
    return folder / "fish.fish", "Open a new shell."


def _folder(variable: str, default: str) -> Path:
    """Return the folder in a variable, else the default folder in the home folder."""
    return Path(os.environ.get(variable) or Path.home() / default)


def _write(target: Path, text: str) -> None:
    with report_write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _is_ours(found: str | None) -> bool:
    """Return whether a program named `fish` is this one, and not the shell."""
    try:
        if found is None:
            return False
        with open(found, "rb") as program:
            return b"fishcli" in program.read(LOOKED_AT)
    except OSError:
        return False
