"""The table of all settings, and the validation of their names and values."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from fishcli.errors import SettingError

Value = bool | int | float | str
Kind = Literal["bool", "int", "float", "text", "path", "model"]

TYPES: dict[Kind, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "text": (str,),
    "path": (str,),
    "model": (str,),
}
NO_PATH = re.compile("[\0\ud800-\udfff]")  # a NUL is in no file name, a lone surrogate in no settings file
WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True)
class Setting:
    """One setting. `name` is its long option with `_`; the default None means "not set".

    A `model` is a folder or the name of a model. Numbers have both bounds; `min_open` excludes the lower one.
    The template shows `example` if there is no default.
    """

    table: str
    name: str
    kind: Kind
    default: Value | None
    help: str
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 0
    min_open: bool = False
    example: Value | None = None

    @property
    def key(self) -> str:
        """The key, such as `generate.top_p`; without a dot for a setting at the top of the file."""
        return f"{self.table}.{self.name}" if self.table else self.name

    @property
    def variable(self) -> str:
        """The environment variable that sets it, such as `FISHCLI_GENERATE_TOP_P`."""
        return f"FISHCLI_{self.key.replace('.', '_').upper()}"

    @property
    def expected(self) -> str:
        """The valid values in words, such as "a number above 0 and at most 1"."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.kind in ("int", "float"):
            noun = "a whole number" if self.kind == "int" else "a number"
            least = f"above {self.minimum} and at most" if self.min_open else f"from {self.minimum} to"
            return f"{noun} {least} {self.maximum}"
        words = {"bool": "true or false", "text": "text", "path": "a path", "model": "a folder or the name of a model"}
        return words[self.kind]

    def accepts(self, value: object) -> bool:
        """Return whether a TOML value has the right kind and range. NaN is in no range."""
        if type(value) not in TYPES[self.kind]:  # not isinstance: a bool is an int
            return False
        if isinstance(value, str):
            clean = value.isprintable() if self.kind == "text" else not NO_PATH.search(value)
            return bool(value) and clean and value in (self.choices or (value,))
        if isinstance(value, int | float) and self.kind != "bool":
            return self.minimum <= value <= self.maximum and not (self.min_open and value == self.minimum)
        return True


_DTYPES = ("auto", "float32", "bfloat16", "float16")
_TABLE = (
    Setting("", "checkpoint_path", "model", None, "The model: a folder or a name.", example="fish-speech-1.5"),
    Setting("", "codec_path", "path", None, "The codec, if it is not in the model's folder.", example="~/codec.pth"),
    Setting("", "device", "text", "auto", "The device that runs the model.", ("auto", "cpu", "cuda", "mps")),
    Setting("", "dtype", "text", "auto", "The data type of the model; auto follows the device.", _DTYPES),
    Setting("", "quantize", "text", "auto", "Quantize the weights; auto: int8 where that is faster.",
            ("auto", "none", "int8", "int4")),
    Setting("", "compile", "bool", None, "Compile the model for this machine, once; automatic by default.",
            example=True),
    Setting("", "threads", "int", None, "CPU threads; automatic by default.", minimum=1, maximum=1024, example=8),
    Setting("", "kv_memory", "int", None, "Memory for the KV cache, in MB; automatic by default.",
            minimum=1, maximum=1_000_000, example=1000),
    Setting("", "language", "text", None, "The language of the text; detected by default.", example="en"),
    Setting("", "normalize", "bool", True, "Read numbers, dates and units as words."),
    Setting("generate", "temperature", "float", 0.7, "Sampling temperature; 0 is greedy.", maximum=2),
    Setting("generate", "top_p", "float", 0.7, "Nucleus sampling: the probability mass to sample from.",
            maximum=1, min_open=True),
    Setting("generate", "repetition_penalty", "float", 1.2, "Penalty of recently sampled codes; 1 is none.",
            maximum=2, min_open=True),
    Setting("generate", "seed", "int", None, "Random seed; drawn and shown by default.",
            maximum=2**63 - 1, example=42),
    Setting("generate", "max_new_tokens", "int", 1024, "Maximum frames per chunk; 0 is up to the context.",
            maximum=2**31),
    Setting("generate", "chunk_length", "int", 200, "Maximum length of a chunk of text, in bytes.",
            minimum=20, maximum=2000),
    Setting("generate", "iterative_prompt", "bool", True, "Use the chunks before as the context of each chunk."),
    Setting("generate", "num_samples", "int", 1, "Number of samples to generate.", minimum=1, maximum=64),
    Setting("generate", "output_dir", "path", None, "The folder for the codes of generate.", example="codes"),
    Setting("say", "play", "bool", False, "Play the speech."),
    Setting("download", "local_dir", "path", None, "The folder to download to.", example="checkpoints/fish-speech-1.5"),
    Setting("download", "revision", "text", None, "The branch, tag or commit to download.", example="main"),
)  # fmt: skip
SETTINGS = {setting.key: setting for setting in _TABLE}
TABLES = tuple(dict.fromkeys(setting.table for setting in _TABLE if setting.table))


def find_setting(key: str, where: str = "") -> Setting:
    """Return the setting of a key, or raise SettingError with the most similar key; `where` starts the message."""
    if key in SETTINGS:
        return SETTINGS[key]
    if key in TABLES:
        one = next(each for each in SETTINGS if each.startswith(f"{key}."))
        raise SettingError(f"{where}{key} is a table: use a setting in it, such as {one}.")
    near = most_similar(key, SETTINGS)
    hint = f"did you mean {near}?" if near else "`fish config show` lists them."
    raise SettingError(f"{where}{quote(key)} is not a setting: {hint}")


def validate(setting: Setting, value: Any, subject: str) -> Value:
    """Return the validated value. Raises SettingError, whose message starts with `subject`."""
    if not setting.accepts(value):
        raise SettingError(f"{subject} must be {setting.expected}, not {_described(value)}.")
    return float(value) if setting.kind == "float" else value


def from_text(setting: Setting, text: str) -> Value:
    """Parse a word of the environment or the command line; an invalid one is returned unchanged, to be rejected."""
    try:
        if setting.kind == "bool":
            return WORDS.get(text.strip().lower(), text)
        if setting.kind in ("int", "float"):
            return int(text) if setting.kind == "int" else float(text)
    except ValueError:
        return text
    return text


def format_value(value: Value | None) -> str:
    """Format a value as in a settings file; an empty string if it is not set."""
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def most_similar(name: str, names: Iterable[str]) -> str | None:
    """Return the most similar name: the same word in another table, or a similar spelling; None if there is none."""
    import difflib

    names = list(names)
    by_word = {each.rpartition(".")[2]: each for each in names}
    word = name.rpartition(".")[2].replace("-", "_").lower()
    if word in by_word:
        return by_word[word]
    alike = difflib.get_close_matches(name, names, 1)
    return alike[0] if alike else by_word.get("".join(difflib.get_close_matches(word, by_word, 1)))


def quote(text: str) -> str:
    """Quote untrusted text for a message: at most 60 characters, control characters escaped."""
    printable = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[:60])
    return f'"{printable}{"..." if len(text) > 60 else ""}"'


def _described(value: object) -> str:
    """Format an invalid value, short enough for a message."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return format_value(value)
    if isinstance(value, int) and value.bit_length() > 64:  # Python does not format thousands of digits
        return "a number that long"
    return str(value)
