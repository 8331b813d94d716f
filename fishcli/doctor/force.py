"""The settings that would hold here, as far as they can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from fishcli.config import SETTINGS, Resolved, Settings, local_file, user_file
from fishcli.config.read import DEFAULT, read_environment, read_file
from fishcli.doctor.check import Check
from fishcli.errors import SettingError

Source = tuple[str, Callable[[], dict[str, Resolved]]]


def settings_in_force(cwd: Path, environ: Mapping[str, str]) -> tuple[Settings, list[Check]]:
    """What every source that is sound sets, and a check for each source that is there.

    Unlike `load_settings` it does not stop at the first fault, so that all of them are seen.
    """
    resolved = {key: Resolved(setting, setting.default, DEFAULT) for key, setting in SETTINGS.items()}
    checks = []
    files = [path for path in (user_file(), local_file(cwd)) if path.exists()]
    sources: list[Source] = [(str(path), lambda path=path: read_file(path)) for path in files]  # type: ignore[misc]
    for name, read in [*sources, ("the environment", lambda: read_environment(environ))]:
        try:
            found = read()
        except SettingError as error:
            checks.append(Check("settings", name, "fail", str(error)))
            continue
        resolved |= found
        if found:
            checks.append(Check("settings", f"{name} sets {', '.join(found)}"))
    return Settings(resolved), checks or [Check("settings", "the defaults")]


def unset(each: Resolved) -> str:
    """What takes a setting back to its default, wherever it was made."""
    if each.source.startswith("environment "):
        return f"unset {each.source.removeprefix('environment ')}"
    local = " --local" if each.source.startswith(f"{local_file(Path.cwd())}:") else ""
    return f"run `fish config unset {each.setting.key}{local}`"
