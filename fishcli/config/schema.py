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
    Without a default, `unset` says what happens, and the template shows `example`. `off` is the help of the negated
    option of a setting that is on by default. A `several` has its values in one text, with commas between them. A
    `personal` one is not read from the settings of a working folder, which may be somebody else's.
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
    unset: str = ""
    off: str = ""
    several: bool = False
    personal: bool = False

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
_OF_MODEL = "that of the model"
_TABLE = (
    Setting("", "checkpoint_path", "model", None, "Model: a folder, a name, or built-in.",
            example="fish-speech-1.5", unset="downloaded, else built-in"),
    Setting("", "codec_path", "path", None, "Codec, if not in the folder of the model.", example="~/codec.pth"),
    Setting("", "device", "text", "auto", "Device.", ("auto", "cpu", "cuda", "mps")),
    Setting("", "dtype", "text", "auto", "Data type.", _DTYPES),
    Setting("", "quantize", "text", "auto", "Quantization.", ("auto", "none", "int8", "int4")),
    Setting("", "compile", "bool", None, "Compile for this machine: slow once, then faster.",
            example=True, unset="automatic"),
    Setting("", "threads", "int", None, "CPU threads.", minimum=1, maximum=1024, example=8, unset="automatic"),
    Setting("", "kv_memory", "int", None, "Memory of the KV cache, in MB.",
            minimum=1, maximum=1_000_000, example=1000, unset="automatic"),
    Setting("", "language", "text", None, "Language, such as en or zh.", example="en", unset="detected"),
    Setting("", "normalize", "bool", True, "Speak numbers as words, and no markup.",
            off="Speak numbers and markup as they stand."),
    Setting("generate", "temperature", "float", None, "Randomness, 0 to 2; 0 is greedy.",
            maximum=2, example=0.7, unset=_OF_MODEL),
    Setting("generate", "top_p", "float", None, "Probability mass to sample from.",
            maximum=1, min_open=True, example=0.7, unset=_OF_MODEL),
    Setting("generate", "repetition_penalty", "float", None, "Penalty on repeats; 1 is off.",
            maximum=2, min_open=True, example=1.2, unset=_OF_MODEL),
    Setting("generate", "seed", "int", None, "Repeat a result.", maximum=2**63 - 1, example=42, unset="random, shown"),
    Setting("generate", "max_new_tokens", "int", 1024, "Most frames per chunk; 0: no limit.", maximum=2**31),
    Setting("generate", "chunk_length", "int", 200, "Longest chunk of text, in bytes.", minimum=20, maximum=2000),
    Setting("generate", "iterative_prompt", "bool", True, "Use the chunks before as context of each chunk.",
            off="Speak each chunk without the ones before."),
    Setting("generate", "num_samples", "int", 1, "Samples, each with its own seed.", minimum=1, maximum=64),
    Setting("generate", "check", "text", "length", "Repeat bad chunks", ("length", "listen", "off")),
    Setting("generate", "voice", "text", None, "Voice of the library.", example="anna", unset="chosen by the model"),
    Setting("generate", "output_dir", "path", None, "Folder for the codes.", example="codes",
            unset="the working folder"),
    Setting("say", "play", "bool", False, "Play the speech while it is made."),
    Setting("serve", "listen", "text", "127.0.0.1:8080", "Address to listen on: HOST:PORT, or PORT alone.",
            personal=True),
    Setting("serve", "api_key_file", "path", None, "File with the key that clients must send.",
            example="~/fishcli.key", unset="no key", personal=True),
    Setting("serve", "allow_host", "text", None, "Name by which clients may reach it; repeatable.",
            example="speech.example.org", unset="IP addresses, localhost", several=True, personal=True),
    Setting("serve", "cors", "text", None, "Web page, as https://HOST, that may send requests; repeatable.",
            example="https://example.org", unset="none", several=True, personal=True),
    Setting("serve", "max_text_length", "int", 20_000, "Longest text of a request, in characters; 0: no limit.",
            maximum=1_000_000),
    Setting("serve", "max_queue", "int", 64, "Requests that may wait; further ones are refused.",
            maximum=100_000),
    Setting("serve", "max_batch", "int", 8, "Sequences that are generated at once.", minimum=1, maximum=256),
    Setting("serve", "webui", "bool", False, "Show the web page, too, at /webui."),
    Setting("webui", "listen", "text", None, "Address to listen on: HOST:PORT, or PORT alone.",
            example="127.0.0.1:7860", unset="GRADIO_SERVER_NAME and _PORT, else 127.0.0.1:7860", personal=True),
    Setting("webui", "share", "bool", None, "Open a public link through the servers of Gradio.",
            example=True, unset="GRADIO_SHARE, else no", personal=True),
    Setting("webui", "api_key_file", "path", None, "File with the key that visitors must give.",
            example="~/fishcli.key", unset="no key", personal=True),
    Setting("webui", "max_text_length", "int", 20_000, "Longest text of a request, in characters; 0: no limit.",
            maximum=1_000_000),
    Setting("webui", "max_queue", "int", 64, "Requests that may wait; further ones are refused.",
            maximum=100_000),
    Setting("webui", "max_batch", "int", 8, "Sequences that are generated at once.", minimum=1, maximum=256),
    Setting("client", "url", "text", "http://127.0.0.1:8080", "Address of the server.", personal=True),
    Setting("download", "local_dir", "path", None, "Folder to download to.", example="checkpoints/fish-speech-1.5",
            unset="the data folder"),
    Setting("download", "revision", "text", None, "Branch, tag or commit.", example="main", unset="the newest"),
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
