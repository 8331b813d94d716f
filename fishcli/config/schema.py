"""The table of all settings, and what makes a name or a value right."""

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
NO_PATH = re.compile("[\0\ud800-\udfff]")  # no file system has the first, no settings file the others
WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True)
class Setting:
    """One setting. `name` is its long option with `_`; the default None means "not set".

    A `model` is a folder or a model's name. Numbers have both bounds; `min_open` excludes the lower one.
    `example` stands in the template where there is no default.
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
        """`generate.top_p`; without a dot for what stands at the top of the file."""
        return f"{self.table}.{self.name}" if self.table else self.name

    @property
    def variable(self) -> str:
        """The environment variable that sets it: `FISHCLI_GENERATE_TOP_P`."""
        return f"FISHCLI_{self.key.replace('.', '_').upper()}"

    @property
    def expected(self) -> str:
        """What a value has to be, in words: "a number above 0 and at most 1"."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.kind in ("int", "float"):
            noun = "a whole number" if self.kind == "int" else "a number"
            least = f"above {self.minimum} and at most" if self.min_open else f"from {self.minimum} to"
            return f"{noun} {least} {self.maximum}"
        words = {"bool": "true or false", "text": "text", "path": "a path", "model": "a folder or a model's name"}
        return words[self.kind]

    def accepts(self, value: object) -> bool:
        """Whether a value, as TOML gives it, is of the kind and in the range. No NaN is in any range."""
        if type(value) not in TYPES[self.kind]:  # a bool is an int to isinstance
            return False
        if isinstance(value, str):
            clean = value.isprintable() if self.kind == "text" else not NO_PATH.search(value)
            return bool(value) and clean and value in (self.choices or (value,))
        if isinstance(value, int | float) and self.kind != "bool":
            return self.minimum <= value <= self.maximum and not (self.min_open and value == self.minimum)
        return True


_DTYPES = ("auto", "float32", "bfloat16", "float16")
_TABLE = (
    Setting("", "checkpoint_path", "model", None, "The model: its folder or name.", example="fish-speech-1.5"),
    Setting("", "codec_path", "path", None, "The codec's file, if it lies elsewhere.", example="~/codec.pth"),
    Setting("", "device", "text", "auto", "Where the model runs.", ("auto", "cpu", "cuda", "mps")),
    Setting("", "dtype", "text", "auto", "What the model computes in; auto follows the device.", _DTYPES),
    Setting("", "quantize", "text", "auto", "TensorCache weights in 8 or 4 bits; auto: 8 where that is faster.",
            ("auto", "none", "int8", "int4")),
    Setting("", "compile", "bool", False, "Compile the model for this machine: slow once, then faster."),
    Setting("", "threads", "int", None, "Processor threads.", minimum=1, maximum=1024, example=8),
    Setting("", "language", "text", None, "The text's language, if it should not be guessed.", example="en"),
    Setting("", "normalize", "bool", True, "Read numbers, dates and units aloud as words."),
    Setting("generate", "temperature", "float", 0.7, "How freely to choose; 0 takes the likeliest.", maximum=2),
    Setting("generate", "top_p", "float", 0.7, "Choose among the likeliest that make up this share.",
            maximum=1, min_open=True),
    Setting("generate", "repetition_penalty", "float", 1.2, "How much to avoid recent sounds; 1 is not at all.",
            maximum=2, min_open=True),
    Setting("generate", "seed", "int", None, "Repeats a result; without it one is drawn and shown.",
            maximum=2**63 - 1, example=42),
    Setting("generate", "max_new_tokens", "int", 1024, "The most frames of one chunk; 0 is no limit.",
            maximum=2**31),
    Setting("generate", "chunk_length", "int", 200, "Where long text is cut, in bytes.", minimum=20, maximum=2000),
    Setting("generate", "iterative_prompt", "bool", True, "Give each chunk the ones before it as context."),
    Setting("generate", "num_samples", "int", 1, "How many versions to make.", minimum=1, maximum=64),
    Setting("generate", "output_dir", "path", None, "Where generate puts its codes.", example="codes"),
    Setting("say", "play", "bool", False, "Play the speech aloud."),
    Setting("download", "local_dir", "path", None, "Where the model is put.", example="checkpoints/fish-speech-1.5"),
    Setting("download", "revision", "text", None, "The branch, tag or commit to fetch.", example="main"),
)  # fmt: skip
SETTINGS = {setting.key: setting for setting in _TABLE}
TABLES = tuple(dict.fromkeys(setting.table for setting in _TABLE if setting.table))


def named(key: str, where: str = "") -> Setting:
    """The setting of that key. Raises SettingError, opening with `where`, with the nearest right name."""
    if key in SETTINGS:
        return SETTINGS[key]
    if key in TABLES:
        one = next(each for each in SETTINGS if each.startswith(f"{key}."))
        raise SettingError(f"{where}{key} is a table: name a setting in it, such as {one}.")
    near = nearest(key, SETTINGS)
    hint = f"did you mean {near}?" if near else "`fish config show` lists them."
    raise SettingError(f"{where}{shown(key)} is no setting: {hint}")


def checked(setting: Setting, value: Any, subject: str) -> Value:
    """The value as the setting wants it. Raises SettingError, with `subject` as what must be otherwise."""
    if not setting.accepts(value):
        raise SettingError(f"{subject} must be {setting.expected}, not {_described(value)}.")
    return float(value) if setting.kind == "float" else value


def from_text(setting: Setting, text: str) -> Value:
    """The value that a word of the environment or the command line spells, else the word, to be refused."""
    try:
        if setting.kind == "bool":
            return WORDS.get(text.strip().lower(), text)
        if setting.kind in ("int", "float"):
            return int(text) if setting.kind == "int" else float(text)
    except ValueError:
        return text
    return text


def spelled(value: Value | None) -> str:
    """A value as a settings file spells it; nothing for one that is not set."""
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant: the same word in another table, or one spelled alike."""
    import difflib

    names = list(names)
    by_word = {each.rpartition(".")[2]: each for each in names}
    word = name.rpartition(".")[2].replace("-", "_").lower()
    if word in by_word:
        return by_word[word]
    alike = difflib.get_close_matches(name, names, 1)
    return alike[0] if alike else by_word.get("".join(difflib.get_close_matches(word, by_word, 1)))


def shown(text: str) -> str:
    """At most 60 characters of a stranger's text, quoted, with what a terminal would act on made harmless."""
    harmless = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[:60])
    return f'"{harmless}{"..." if len(text) > 60 else ""}"'


def _described(value: object) -> str:
    """A wrong value, short enough for an error's one line."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return spelled(value)
    if isinstance(value, int) and value.bit_length() > 64:  # Python refuses to print thousands of digits
        return "a number that long"
    return str(value)
