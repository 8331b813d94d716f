"""Check the installation, the machine, the settings and the models; each problem comes with a remedy."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from fishcli.config import Settings
from fishcli.config.read import defaults, sources
from fishcli.doctor import install, machine, models, storage
from fishcli.doctor.check import Check, State
from fishcli.errors import SettingError

__all__ = ["Check", "State", "examine"]


def examine(cwd: Path, environ: Mapping[str, str], verify: bool = False) -> list[Check]:
    """Run all checks, each with a name of its own.

    With `verify`, also verify the checksums of the models and measure the speed.
    """
    return _with_unique_names(_all(cwd, environ, verify))


def _all(cwd: Path, environ: Mapping[str, str], verify: bool) -> list[Check]:
    settings, found = _settings(cwd, environ)
    checks = [*install.libraries()]
    has_torch = install.usable("torch")
    if has_torch:
        checks += machine.checks(settings, environ, models.size(settings))
    checks += [*models.checks(settings, verify), *storage.checks(verify), *install.extras(settings), *found]
    if has_torch and all(check.state != "fail" for check in checks):
        checks += models.trial(settings, verify)
    return [*checks, storage.cached()]


def _with_unique_names(checks: Sequence[Check]) -> list[Check]:
    """Number the checks that have one name, such as that of each model: `on disk`, `on disk 2`."""
    seen: Counter[str] = Counter()
    unique = []
    for check in checks:
        seen[check.name] += 1
        number = seen[check.name]
        unique.append(check if number == 1 else dataclasses.replace(check, name=f"{check.name} {number}"))
    return unique


def _settings(cwd: Path, environ: Mapping[str, str]) -> tuple[Settings, list[Check]]:
    """Return the settings of all valid sources, and a check for each source that sets something.

    Unlike `load_settings`, it does not stop at the first error.
    """
    resolved, checks = defaults(), []
    for name, read in sources(cwd, environ):
        try:
            found = read()
        except SettingError as error:
            checks.append(Check("settings", name, "fail", str(error)))
            continue
        resolved |= found
        if found:
            checks.append(Check("settings", f"{name} sets {', '.join(found)}"))
    return Settings(resolved), checks or [Check("settings", "the defaults")]
