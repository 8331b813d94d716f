"""What would run on this machine, how fast, and what stands in the way: a list of checks, each with its remedy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fishcli.doctor import install, machine, models, storage
from fishcli.doctor.check import Check, State
from fishcli.doctor.force import settings_in_force

__all__ = ["Check", "State", "examine"]


def examine(cwd: Path, environ: Mapping[str, str], verify: bool = False) -> list[Check]:
    """Look at everything that speaking depends on. With `verify`, read every byte of the models and speak a little."""
    settings, sources = settings_in_force(cwd, environ)
    checks = [*install.libraries()]
    has_torch = install.usable("torch")
    if has_torch:
        checks += machine.checks(settings, environ, models.size(settings))
    checks += [*models.checks(settings, verify), *storage.checks(verify), *install.extras(settings), *sources]
    if has_torch and all(check.state != "fail" for check in checks):
        checks.append(models.trial(settings, verify))
    return checks
