"""Python, the libraries that everything needs, and the extras."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import sys
from collections.abc import Iterator

import fishcli
from fishcli.config import Settings
from fishcli.doctor.check import Check

# Those that carry compiled code, and so can be there and yet not work.
_LIBRARIES = ("numpy", "soundfile", "soxr", "safetensors", "tiktoken", "regex")
_OLDEST_TORCH = (2, 10)  # reading a stranger's weights was not safe before


def libraries() -> Iterator[Check]:
    """Whether the program's own parts are whole."""
    yield Check("fishcli", f"{fishcli.__version__} in {fishcli.__path__[0]}")
    yield Check("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    broken = [name for name in _LIBRARIES if not usable(name)]
    if broken:
        remedy = f"run `pip install --force-reinstall {' '.join(broken)}`"
        yield Check("libraries", f"{', '.join(broken)} cannot be imported", "fail", remedy)
    else:
        yield Check("libraries", "all there")
    yield _torch()


def usable(name: str) -> bool:
    """Whether a module can be imported; one that is there may still lack a library of the system's."""
    try:
        importlib.import_module(name)
    except (ImportError, OSError):
        return False
    return True


def extras(settings: Settings) -> Iterator[Check]:
    """What is not needed by everybody: numbers read as words, and sound output."""
    if _version("wetext"):
        yield Check("normalize", f"wetext {_version('wetext')} reads Chinese and Japanese numbers as words")
    else:
        wanted = bool(settings.find("normalize").value)
        remedy = "run `pip install 'fishcli[normalize]'`"
        yield Check(
            "normalize", "not installed: Chinese and Japanese numbers stay digits", "warn" if wanted else "ok", remedy
        )
    yield _sound_output(asked=settings.find("say.play").value is True)


def _torch() -> Check:
    version = _version("torch")
    if not usable("torch"):
        said = f"{version} cannot be imported" if version else "not installed"
        return Check("torch", said, "fail", "run `pip install --force-reinstall torch`")
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_TORCH:
        return Check("torch", f"{version} is too old", "fail", "run `pip install --upgrade torch`")
    return Check("torch", version)


def _sound_output(asked: bool) -> Check:
    if not (usable("numpy") and usable("soundfile")):
        return Check("sound output", "not looked at without the libraries", "warn", "mend them first")
    from fishcli.audio.playback import find_player

    player = find_player()
    if player is not None:
        return Check("sound output", player)
    absent = "nothing here can play" if _version("sounddevice") else "no player, and the extra `play` is not installed"
    tools = {"darwin": "brew install ffmpeg", "win32": "winget install ffmpeg"}.get(sys.platform, "apt install ffmpeg")
    remedy = f"run `pip install 'fishcli[play]'` or `{tools}`; -o FILE works without"
    return Check("sound output", absent, "fail" if asked else "warn", remedy)


def _version(package: str) -> str:
    """The installed version; nothing if there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
