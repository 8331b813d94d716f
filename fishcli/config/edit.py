"""Edit a settings file, keeping its comments and order."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fishcli.config.read import check_place, parse_toml, read_text, resolve_path, user_file
from fishcli.config.schema import SETTINGS, Value, find_setting, format_value, from_text, quote, validate
from fishcli.errors import SettingError
from fishcli.files import replacing, report_write_errors

if TYPE_CHECKING:
    from tomlkit import TOMLDocument


def set_value(path: Path, key: str, text: str) -> Value:
    """Set `key` in the file to the value of `text`, and return it. Creates the file and its folder.

    The rest of the file is not validated, so that a mistake in it can be fixed. Raises SettingError, or FishError if
    the file cannot be written.
    """
    import tomlkit

    setting = find_setting(key)
    check_place(setting, path)
    value = validate(setting, from_text(setting, text), key)
    if path.parent.resolve() != Path.cwd():
        value = resolve_path(setting, value, str(Path.cwd()))  # else it would be relative to the folder of the file
    document = _document(path)
    table: Any = document.setdefault(setting.table, tomlkit.table()) if setting.table else document
    if not isinstance(table, dict):
        raise SettingError(f"{path}: {setting.table} must be a table: remove it and write [{setting.table}].")
    table[setting.name] = value
    _write(path, _text(document, path))
    return value


def unset(path: Path, key: str) -> None:
    """Remove `key` from the file; it may be unknown, so that a mistake can be fixed. Raises as `set_value` does."""
    document = _document(path)
    first, _, name = key.rpartition(".")
    table: Any = document.get(first) if first else document
    if not isinstance(table, dict) or name not in table:
        raise SettingError(f"{quote(key)} is not set in {path}.")
    del table[name]
    empty: Any = table  # typed as a dict
    if first and not empty.as_string().strip():  # a comment in it stays
        del document[first]
    _write(path, _text(document, path))


def init(path: Path) -> str:
    """Write a file with every setting as a comment, and return its text. Raises SettingError if the file exists."""
    if path.exists():
        raise SettingError(f"{path} exists already.")
    text = template(personal=path == user_file())
    _write(path, text)
    return text


def template(personal: bool = True) -> str:
    """Return a settings file in which every setting is a comment, with its help and default.

    That of a working folder has no `personal` ones.
    """
    lines = ["# Settings of fish. Remove the # before a name to change its value.", ""]
    table = ""
    for setting in SETTINGS.values():
        if setting.personal and not personal:
            continue
        if setting.table != table:
            table = setting.table
            lines += [f"[{table}]", ""]
        value = setting.example if setting.default is None else setting.default
        unset = f"default: {setting.unset}; an example:" if setting.unset else "not set; an example:"
        note = unset if setting.default is None else f"{setting.expected}."
        lines += [f"# {setting.help} {note[0].upper()}{note[1:]}", f"# {setting.name} = {format_value(value)}", ""]
    return "\n".join(lines)


def _document(path: Path) -> "TOMLDocument":
    """Parse the file with its comments."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    text = read_text(path)
    parse_toml(text, str(path))
    try:
        return tomlkit.parse(text)
    except (TOMLKitError, RecursionError) as error:
        raise SettingError(f"{path} cannot be edited safely: change it by hand.") from error


def _text(document: "TOMLDocument", path: Path) -> str:
    """Return the text of the document. Raises SettingError if it does not parse to the same values."""
    text = document.as_string()
    if parse_toml(text, str(path)) != document.unwrap():
        raise SettingError(f"{path} cannot be edited safely: change it by hand.")
    return text


def _write(path: Path, text: str) -> None:
    with report_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(text.encode())
