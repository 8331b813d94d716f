"""Reading settings from files and the environment, and merging them.

A setting in a file stands on one line. That keeps line numbers exact although the TOML reader gives none:
each line is read by itself, then the file as a whole for what only several lines together can get wrong.
"""

import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fishcli.config.schema import SETTINGS, TABLES, Setting, Value, checked, from_text, named, nearest, shown
from fishcli.errors import SettingError
from fishcli.files import folder

MAX_BYTES = 65_536  # twenty times the template, which names every setting
MAX_LINE = 4_096  # characters; reading a key of n dotted parts takes n * n steps
DEFAULT = "default"
SPEAKING = frozenset({"generate", "say", "client", "serve", "webui"})  # the commands that read [generate]
# What the package's folders and its tests are told by the environment.
NO_SETTING = re.compile(r"FISHCLI_((CACHE|CONFIG|DATA)_DIR|TEST_.*)", re.DOTALL)
MODEL_NAME = re.compile(r"[^\W.][\w.-]*(/[^\W.][\w.-]*)?")  # `name` or `owner/name`, which a folder may have too


@dataclass(frozen=True)
class Resolved:
    """A setting's value with its source: `default`, `environment FISHCLI_DEVICE` or `PATH:LINE`."""

    setting: Setting
    value: Value | None
    source: str


@dataclass(frozen=True)
class Settings:
    """Every setting by its key, in the order of `SETTINGS`."""

    resolved: Mapping[str, Resolved]

    def find(self, key: str) -> Resolved:
        """The setting of that key. Raises SettingError with the nearest right name."""
        return self.resolved[named(key).key]

    def defaults_for(self, command: str) -> dict[str, Value]:
        """By option name, what files and the environment set for `command`: click's `default_map`."""
        tables = {"", command, "generate" if command in SPEAKING else ""}
        return {
            each.setting.name: each.value
            for each in self.resolved.values()
            if each.setting.table in tables and each.source != DEFAULT and each.value is not None
        }


def load_settings(cwd: Path, environ: Mapping[str, str]) -> Settings:
    """Merge all sources. Raises SettingError at the first thing in any of them that is wrong."""
    resolved = defaults()
    for _, read in sources(cwd, environ):
        resolved |= read()
    return Settings(resolved)


def defaults() -> dict[str, Resolved]:
    """Every setting as it is where nothing sets it."""
    return {key: Resolved(setting, setting.default, DEFAULT) for key, setting in SETTINGS.items()}


def sources(cwd: Path, environ: Mapping[str, str]) -> list[tuple[str, Callable[[], dict[str, Resolved]]]]:
    """What may set something, each winning over those before it: its name, and what reads it or raises SettingError."""
    own, local = user_file(), local_file(cwd)
    return [
        (str(own), partial(read_file, own)),
        (str(local), partial(read_file, local)),
        ("the environment", partial(read_environment, environ)),
    ]


def user_file() -> Path:
    """The user's settings, for every working folder."""
    return folder("config") / "config.toml"


def local_file(cwd: Path) -> Path:
    """The settings of one working folder."""
    return cwd / "fishcli.toml"


def read_environment(environ: Mapping[str, str]) -> dict[str, Resolved]:
    """What `FISHCLI_...` variables set. An empty one sets nothing; one that names no setting is an error."""
    by_variable = {setting.variable: setting for setting in SETTINGS.values()}
    resolved = {}
    for variable, text in environ.items():
        if not variable.startswith("FISHCLI_") or NO_SETTING.fullmatch(variable) or not text:
            continue
        if variable not in by_variable:
            near = nearest(variable.removeprefix("FISHCLI_").lower(), SETTINGS)
            hint = f"did you mean {SETTINGS[near].variable}?" if near else "unset it."
            raise SettingError(f"The environment variable {shown(variable)} names no setting: {hint}")
        setting = by_variable[variable]
        value = checked(setting, from_text(setting, text), f"The environment variable {variable}")
        resolved[setting.key] = Resolved(setting, placed(setting, value, ""), f"environment {variable}")
    return resolved


def read_file(path: Path) -> dict[str, Resolved]:
    """What a settings file sets, by key; nothing if it is not there. Raises SettingError."""
    return parse(decoded(path), path)


def parse(text: str, path: Path) -> dict[str, Resolved]:
    """What `text`, the content of `path`, sets. Raises SettingError with the line of what is wrong."""
    resolved: dict[str, Resolved] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        where = f"{path}, line {number}"
        if len(line) > MAX_LINE:
            raise SettingError(f"{where} is longer than {MAX_LINE} characters: shorten it.")
        content = toml(line, where)
        if line.lstrip(" \t").startswith("["):
            table = _header(content, where)
            continue
        for parts, value in _leaves(content, table):
            setting = named(_dotted(parts), f"{where}: ")
            value = placed(setting, checked(setting, value, f"{where}: {setting.key}"), str(path.parent))
            resolved[setting.key] = Resolved(setting, value, f"{path}:{number}")
    toml(text, str(path))  # the same key or table twice
    return resolved


def decoded(path: Path) -> str:
    """The file's text; nothing if it is not there. Raises SettingError if it is no readable, small, UTF-8 file."""
    data = _bytes(path)
    if len(data) > MAX_BYTES:
        raise SettingError(f"{path} is larger than {MAX_BYTES} bytes, so it holds no settings: move it away.")
    try:
        return data.decode("utf-8-sig")  # some editors of Windows write the mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingError(f"{path}, line {line} is not UTF-8: save the file as UTF-8.") from error


def toml(text: str, where: str) -> dict[str, Any]:
    """Read TOML. Raises SettingError with the reader's reason, and its line where `text` has several."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise SettingError(f"{where} is nested too deep: a setting is one plain value.") from error
    except ValueError as error:  # TOMLDecodeError is one; int() raises another for thousands of digits
        reason, _, position = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", position)
        where = f"{where}, line {line[1]}" if line and "\n" in text else where
        raise SettingError(f"{where} is not TOML with one setting to a line: {shown(reason)}.") from error


def placed(setting: Setting, value: Value, start: str) -> Value:
    """A path with `~` written out and, if it is relative, from the folder `start`; anything else as it is."""
    if setting.kind not in ("path", "model"):
        return value
    path = os.path.join(start, os.path.expanduser(str(value)))
    is_name = setting.kind == "model" and MODEL_NAME.fullmatch(str(value)) and not os.path.isdir(path)
    return value if is_name else path


def _bytes(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a named pipe would never end
            raise SettingError(f"{path} is not a file: move it away.")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise SettingError(f"{path} cannot be read ({error.strerror}): check who may read it.") from error


def _header(content: Any, where: str) -> tuple[str, ...]:
    """The name of the table that a line `[name]` opens, from what the line alone reads as."""
    parts = []
    while isinstance(content, dict) and content:
        part, content = next(iter(content.items()))
        parts.append(part)
    name = _dotted(parts)
    if name not in TABLES:
        near = nearest(name, TABLES)
        hint = f"did you mean [{near}]?" if near else "`fish config show` lists all settings."
        raise SettingError(f"{where}: there is no table {shown(name)}: {hint}")
    if isinstance(content, list):
        raise SettingError(f"{where}: [[{name}]] must be [{name}].")
    return tuple(parts)


def _leaves(content: dict[str, Any], table: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each name in a line with its value. Names have two parts at most, so deeper ones are not sought."""
    for part, value in content.items():
        if not table and isinstance(value, dict) and value:
            yield from (((part, inner), leaf) for inner, leaf in value.items())
        else:
            yield (*table, part), value


def _dotted(parts: tuple[str, ...] | list[str]) -> str:
    return ".".join(f'"{part}"' if "." in part else part for part in parts)
