"""The result of one check, and the commands that fix what a check finds."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fishcli.checkpoints import local
from fishcli.config import Resolved, local_file

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """A finding and, unless its state is `ok`, the remedy.

    `warn`: it works, but slower or with less than possible. `fail`: something does not work with these settings.
    """

    name: str
    value: str
    state: State = "ok"
    remedy: str = ""


def unset(each: Resolved) -> str:
    """Return how to reset a setting to its default, wherever it is set."""
    if each.source.startswith("environment "):
        return f"unset {each.source.removeprefix('environment ')}"
    where = " --local" if each.source.startswith(f"{local_file(Path.cwd())}:") else ""
    return f"run `fish config unset {each.setting.key}{where}`"


def repair_command(found: local.Found) -> str:
    """Return the command that downloads the missing and damaged files of a model."""
    if found.built_in:
        return "pip install --force-reinstall --no-deps fishcli"
    repo = local.repository(found.path)
    command = "fish download" if repo == local.REPO else f"fish download {repo}"
    if found.path == local.home(repo):
        return command
    return f"{command} --local-dir {shlex.quote(str(found.path))}"
