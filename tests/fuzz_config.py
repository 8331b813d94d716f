"""Fuzz the settings: a file or an environment gives settings or one SettingError, and edits lose nothing.

Needs `pip install atheris` and Python 3.11. Run it on demand: `python tests/fuzz_config.py -runs=1000000`, with
any option of libFuzzer. Each change of a file waits for the disk; with TMPDIR in memory that takes 9 minutes.
"""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports():
    import tomlkit  # noqa: F401  (instrumented here, used by set_value)
    import tomllib

    from fishcli.config import SETTINGS, load_settings, set_value, template, unset
    from fishcli.config.read import read_file
    from fishcli.errors import SettingError

FOLDER = Path(tempfile.mkdtemp())
FILE = FOLDER / "fishcli.toml"
KEYS = sorted(SETTINGS)


def one_input(data: bytes) -> None:
    """Take the first byte as the kind of the rest: a file to read, a file to edit, or an environment."""
    source = atheris.FuzzedDataProvider(data)
    choice = source.ConsumeIntInRange(0, 3)
    with contextlib.suppress(SettingError):
        if choice == 0:
            load_settings(FOLDER / "nowhere", _environment(source))
        elif choice == 1:
            _edit(KEYS[source.ConsumeIntInRange(0, len(KEYS) - 1)], source.ConsumeUnicode(12), source)
        else:
            FILE.write_bytes(source.ConsumeBytes(source.remaining_bytes()))
            _values(FILE)


def _environment(source: atheris.FuzzedDataProvider) -> dict[str, str]:
    names = [SETTINGS[key].variable for key in KEYS]
    known = {names[source.ConsumeIntInRange(0, len(names) - 1)]: source.ConsumeUnicode(20) for _ in range(3)}
    return known if source.ConsumeBool() else known | {"FISHCLI_" + source.ConsumeUnicode(20): "1"}


def _edit(key: str, text: str, source: atheris.FuzzedDataProvider) -> None:
    content = source.ConsumeBytes(source.remaining_bytes())
    FILE.write_bytes(content)
    try:
        before = _values(FILE)
        set_value(FILE, key, text)
    except SettingError:
        if FILE.read_bytes() != content:
            raise RuntimeError("a refused change changed the file") from None
        raise
    after = _values(FILE)
    if key not in after or any(after[each] != before[each] for each in before if each != key):
        raise RuntimeError("a change changed more or less than it should")
    unset(FILE, key)
    if _values(FILE) != {each: value for each, value in before.items() if each != key}:
        raise RuntimeError("removing a setting changed more or less than it should")


def _values(file: Path) -> dict[str, object]:
    resolved = read_file(file)
    if not all(each.setting.accepts(each.value) for each in resolved.values()):
        raise RuntimeError("a value got through that its setting does not accept")
    return {key: each.value for key, each in resolved.items()}


def main() -> None:
    os.chdir(FOLDER)  # where libFuzzer leaves an input that fails
    os.environ["FISHCLI_CONFIG_DIR"] = str(FOLDER)
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    live = template(personal=False).replace("\n# ", "\n")
    settings = "\n".join(line for line in live.splitlines() if " = " in line or line.startswith("["))
    tomllib.loads(settings)
    (corpus / "all").write_bytes(settings.encode() + b"\3")
    for number, line in enumerate(settings.splitlines()):
        (corpus / str(number)).write_bytes(line.encode() + b"\3")
    print(f"inputs that fail are kept in {FOLDER}")
    atheris.Setup([*sys.argv, str(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
