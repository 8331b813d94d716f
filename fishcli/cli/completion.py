"""`fish completion`: shell completion for bash, zsh and fish."""

from __future__ import annotations

import enum
import os
import shutil
from pathlib import Path
from typing import Annotated

import typer
from typer.completion import completion_init, get_completion_script  # type: ignore[attr-defined]

from fishcli.cli import console
from fishcli.cli.app import DebugOption, app, command
from fishcli.files import replacing, report_write_errors

_VARIABLE = "_FISH_COMPLETE"  # in which the scripts call this program
# On the first Tab, zsh runs an autoloaded file as the completion function; typer's script only registers one.
_FIRST_TAB = '[[ $zsh_eval_context[-1] == loadautofunc ]] && _fish_completion "$@"\n'

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
    if not install:
        console.listing(script(shell.value))
        return
    target, next_step = _place(shell)
    _write(target, script(shell.value))
    console.note(f"Written to {target}. {next_step}")
    if not _is_ours(shutil.which("fish")):
        console.warn("`fish` is another program in this PATH; completion works only for this one.")
    console.result({"shell": shell.value, "path": str(target), "next": next_step})


def script(shell: str) -> str:
    """Return the completion script of a shell."""
    made = get_completion_script(prog_name="fish", complete_var=_VARIABLE, shell=shell)
    return f"{made}\n{_FIRST_TAB if shell == 'zsh' else ''}"


def _place(shell: Shell) -> tuple[Path, str]:
    """Return the file that a shell reads, and the next step for the user."""
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
        return found is not None and b"fishcli" in Path(found).read_bytes()
    except OSError:
        return False
