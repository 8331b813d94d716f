"""What one look at the machine found, and what undoes a setting that does not fit it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fishcli.config import Resolved, local_file

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """What was looked at and found; what to do about it, unless all is well.

    `warn`: slower or less than could be. `fail`: something that the settings ask for would not work.
    """

    name: str
    value: str
    state: State = "ok"
    remedy: str = ""


def unset(each: Resolved) -> str:
    """What takes a setting back to its default, wherever it was made."""
    if each.source.startswith("environment "):
        return f"unset {each.source.removeprefix('environment ')}"
    local = " --local" if each.source.startswith(f"{local_file(Path.cwd())}:") else ""
    return f"run `fish config unset {each.setting.key}{local}`"
