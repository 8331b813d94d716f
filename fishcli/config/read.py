"""Read settings from files and the environment, and merge them.

Each setting of a file is on one line. The TOML parser gives no line numbers for values, so each line is parsed by
itself, and then the whole file for errors that involve several lines.
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

from fishcli.config.schema import (
    SETTINGS,
    TABLES,
    Setting,
    Value,
    find_setting,
    from_text,
    most_similar,
    quote,
    validate,
)
from fishcli.errors import SettingError
from fishcli.files import folder

MAX_BYTES = 65_536  # twenty times the template, which has every setting
MAX_LINE = 4_096  # characters; parsing a key of n dotted parts takes O(n^2) steps
DEFAULT = "default"
SPEAKING = frozenset(
    {"generate", "say", "batch", "audition", "client", "serve", "webui"}
)  # the commands that read [generate]
# Variables for the folders of the package and for its tests, and a secret, which no settings file should hold.
NO_SETTING = re.compile(r"FISHCLI_((CACHE|CONFIG|DATA)_DIR|API_KEY|TEST_.*)", re.DOTALL)
MODEL_NAME = re.compile(r"[^\W.][\w.-]*(/[^\W.][\w.-]*)?")  # `name` or `owner/name`; a folder may have such a name too


@dataclass(frozen=True)
class Resolved:
    """A setting's value with its source: `default`, `environment FISHCLI_DEVICE` or `PATH:LINE`."""

    setting: Setting
    value: Value | None
    source: str

    @property
    def words(self) -> list[str]:
        """The values of a setting that may have several."""
        return [word.strip() for word in str(self.value or "").split(",") if word.strip()]


@dataclass(frozen=True)
class Settings:
    """All settings by key, in the order of `SETTINGS`."""

    resolved: Mapping[str, Resolved]

    def find(self, key: str) -> Resolved:
        """Return the setting of a key, or raise SettingError with the most similar key."""
        return self.resolved[find_setting(key).key]

    def defaults_for(self, command: str) -> dict[str, Value | list[str]]:
        """Return the values that files and the environment set for `command`, by option name: click's `default_map`."""
        tables = {"", command, "generate" if command in SPEAKING else ""}
        return {
            each.setting.name: each.words if each.setting.several else each.value
            for each in self.resolved.values()
            if each.setting.table in tables and each.source != DEFAULT and each.value is not None
        }


def load_settings(cwd: Path, environ: Mapping[str, str]) -> Settings:
    """Merge all sources. Raises SettingError at the first error in any of them."""
    resolved = defaults()
    for _, read in sources(cwd, environ):
        resolved |= read()
    return Settings(resolved)


def defaults() -> dict[str, Resolved]:
    """Return the default of every setting."""
    return {key: Resolved(setting, setting.default, DEFAULT) for key, setting in SETTINGS.items()}


def sources(cwd: Path, environ: Mapping[str, str]) -> list[tuple[str, Callable[[], dict[str, Resolved]]]]:
    """Return the name and the reader of each source, in rising priority. A reader raises SettingError."""
    own, local = user_file(), local_file(cwd)
    return [
        (str(own), partial(read_file, own)),
        (str(local), partial(read_file, local)),
        ("the environment", partial(read_environment, environ)),
    ]


def user_file() -> Path:
    """Return the path of the user's settings, for every working folder."""
    return folder("config") / "config.toml"


def local_file(cwd: Path) -> Path:
    """Return the path of the settings of one working folder."""
    return cwd / "fishcli.toml"


def read_environment(environ: Mapping[str, str]) -> dict[str, Resolved]:
    """Return the settings of `FISHCLI_...` variables. Raises SettingError for an unknown one."""
    by_variable = {setting.variable: setting for setting in SETTINGS.values()}
    resolved = {}
    for variable, text in environ.items():
        if not variable.startswith("FISHCLI_") or NO_SETTING.fullmatch(variable) or not text:
            continue
        if variable not in by_variable:
            near = most_similar(variable.removeprefix("FISHCLI_").lower(), SETTINGS)
            hint = f"did you mean {SETTINGS[near].variable}?" if near else "unset it."
            raise SettingError(f"The environment variable {quote(variable)} is not a setting: {hint}")
        setting = by_variable[variable]
        value = validate(setting, from_text(setting, text), f"The environment variable {variable}")
        resolved[setting.key] = Resolved(setting, resolve_path(setting, value, ""), f"environment {variable}")
    return resolved


def read_file(path: Path) -> dict[str, Resolved]:
    """Return the settings of a file by key; none if it does not exist. Raises SettingError."""
    return parse(read_text(path), path)


def parse(text: str, path: Path) -> dict[str, Resolved]:
    """Return the settings in `text`, the content of `path`. Raises SettingError with the line of the error."""
    resolved: dict[str, Resolved] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        where = f"{path}, line {number}"
        if len(line) > MAX_LINE:
            raise SettingError(f"{where} is longer than {MAX_LINE} characters: shorten it.")
        content = parse_toml(line, where)
        if line.lstrip(" \t").startswith("["):
            table = _header(content, where)
            continue
        for parts, value in _leaves(content, table):
            setting = find_setting(_dotted(parts), f"{where}: ")
            check_place(setting, path, f"{where}: ")
            value = resolve_path(setting, validate(setting, value, f"{where}: {setting.key}"), str(path.parent))
            resolved[setting.key] = Resolved(setting, value, f"{path}:{number}")
    parse_toml(text, str(path))  # the same key or table twice
    return resolved


def check_place(setting: Setting, path: Path, where: str = "") -> None:
    """Raise SettingError if a file other than the user's own sets who may reach this machine; `where` starts it."""
    if setting.personal and path != user_file():
        reason = "cannot be set for a folder, which may be somebody else's"
        raise SettingError(f"{where}{setting.key} {reason}: set it in {user_file()}.")


def read_text(path: Path) -> str:
    """Return the text of a file; empty if it does not exist. Raises SettingError unless it is a small UTF-8 file."""
    data = _bytes(path)
    if len(data) > MAX_BYTES:
        raise SettingError(f"{path} is larger than {MAX_BYTES} bytes, too large for a settings file: move it away.")
    try:
        return data.decode("utf-8-sig")  # some Windows editors write a BOM
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingError(f"{path}, line {line} is not UTF-8: save the file as UTF-8.") from error


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Parse TOML. Raises SettingError with the parser's reason, and the line if `text` has several."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise SettingError(f"{where} is nested too deeply: a setting is one plain value.") from error
    except ValueError as error:  # TOMLDecodeError is one; int() raises another for thousands of digits
        reason, _, position = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", position)
        where = f"{where}, line {line[1]}" if line and "\n" in text else where
        raise SettingError(f"{where} is not TOML with one setting per line: {quote(reason)}.") from error


def resolve_path(setting: Setting, value: Value, start: str) -> Value:
    """Return a path with `~` expanded and, if relative, joined to the folder `start`; other values unchanged."""
    if setting.kind not in ("path", "model"):
        return value
    path = os.path.join(start, os.path.expanduser(str(value)))
    is_name = setting.kind == "model" and MODEL_NAME.fullmatch(str(value)) and not os.path.isdir(path)
    return value if is_name else path


def _bytes(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a named pipe would block
            raise SettingError(f"{path} is not a file: move it away.")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise SettingError(f"{path} cannot be read ({error.strerror}): check its permissions.") from error


def _header(content: Any, where: str) -> tuple[str, ...]:
    """Return the parts of the table name in a line `[name]`, given as parsed by itself."""
    parts = []
    while isinstance(content, dict) and content:
        part, content = next(iter(content.items()))
        parts.append(part)
    name = _dotted(parts)
    if name not in TABLES:
        near = most_similar(name, TABLES)
        hint = f"did you mean [{near}]?" if near else "`fish config show` lists all settings."
        raise SettingError(f"{where}: {quote(name)} is not a table: {hint}")
    if isinstance(content, list):
        raise SettingError(f"{where}: [[{name}]] must be [{name}].")
    return tuple(parts)


def _leaves(content: dict[str, Any], table: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each name in a line with its value. Names have at most two parts."""
    for part, value in content.items():
        if not table and isinstance(value, dict) and value:
            yield from (((part, inner), leaf) for inner, leaf in value.items())
        else:
            yield (*table, part), value


def _dotted(parts: tuple[str, ...] | list[str]) -> str:
    return ".".join(f'"{part}"' if "." in part else part for part in parts)
