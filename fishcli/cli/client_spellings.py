"""The options of the documentation's client, which people paste: `--reference_audio A --streaming True`."""

from __future__ import annotations

from collections.abc import Sequence

from fishcli.errors import SettingError

_OURS = {"--reference-id": "--voice", "--reference-audio": "--ref", "--reference-text": "--ref-text"}
_SEVERAL = ("--ref", "--ref-text")  # one option may have several values there
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def modern(args: Sequence[str]) -> list[str]:
    """Return the arguments with each option of the documentation replaced by ours, up to `--`."""
    end = args.index("--") if "--" in args else len(args)
    words, result = list(args[:end]), []
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if not name.startswith("--") or ("_" not in name and name != "--streaming"):
            result.append(word)
            continue
        dashed = name.replace("_", "-")
        name = _OURS.get(dashed, dashed)
        values = [value] if equals else _values(words, several=name in _SEVERAL)
        if name == "--streaming":
            result.append("--stream" if _is_true(values) else "--no-stream")
        else:
            result += [part for each in values for part in (name, each)] or [name]
    return [*result, *args[end:]]


def _values(words: list[str], several: bool) -> list[str]:
    """Take the values of an option from the words behind it: one, or all up to the next option."""
    values: list[str] = []
    while words and (not values or several) and not (values and words[0].startswith("-")):
        values.append(words.pop(0))
    return values


def _is_true(values: Sequence[str]) -> bool:
    word = values[0] if values else ""
    if word.lower() not in _WORDS:
        raise SettingError(f"--streaming must be True or False, not {word!r:.40}.")
    return _WORDS[word.lower()]
