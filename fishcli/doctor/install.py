"""Checks of Python, the required libraries and the extras."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
from collections.abc import Iterator

import fishcli
from fishcli.config import Settings
from fishcli.doctor.check import Check
from fishcli.errors import SettingError

# Libraries with compiled code, which can be installed and still fail to import.
_LIBRARIES = ("numpy", "soundfile", "soxr", "safetensors", "tiktoken", "regex")
_OLDEST_TORCH = (2, 10)  # the first one that reads untrusted weights safely


def libraries() -> Iterator[Check]:
    """Check the package, Python and the required libraries."""
    yield Check("fishcli", f"{fishcli.__version__} in {fishcli.__path__[0]}")
    yield Check("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    broken = [name for name in _LIBRARIES if not usable(name)]
    if broken:
        remedy = f"run `pip install --force-reinstall {' '.join(broken)}`"
        yield Check("libraries", f"{', '.join(broken)} cannot be imported", "fail", remedy)
    else:
        yield Check("libraries", "complete")
    yield _torch()


def usable(name: str) -> bool:
    """Return whether a module can be imported. An installed one may lack a system library."""
    try:
        importlib.import_module(name)
    except (ImportError, OSError):
        return False
    return True


def extras(settings: Settings) -> Iterator[Check]:
    """Check the optional parts: text normalization and audio output."""
    if _version("wetext"):
        yield Check("normalize", f"wetext {_version('wetext')}, for Chinese and Japanese")
    else:
        wanted = bool(settings.find("normalize").value)
        remedy = "run `pip install 'fishcli[normalize]'`"
        yield Check(
            "normalize",
            "not installed: Chinese and Japanese numbers stay digits",
            "warn" if wanted else "ok",
            remedy,
        )
    yield _audio_output(required=settings.find("say.play").value is True)


def _torch() -> Check:
    version = _version("torch")
    if not usable("torch"):
        problem = f"{version} cannot be imported" if version else "not installed"
        return Check("torch", problem, "fail", "run `pip install --force-reinstall torch`")
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_TORCH:
        return Check("torch", f"{version} is too old", "fail", "run `pip install --upgrade torch`")
    return Check("torch", version)


def _audio_output(required: bool) -> Check:
    if not (usable("numpy") and usable("soundfile")):
        return Check("audio output", "not checked without the libraries", "warn", "repair them first")
    from fishcli.audio.playback import require_player

    try:
        return Check("audio output", require_player())
    except SettingError as error:
        problem, _, remedy = str(error).rstrip(".").partition("; ")
        return Check("audio output", problem, "fail" if required else "warn", remedy or "use -o FILE")


def _version(package: str) -> str:
    """Return the installed version; empty if there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
