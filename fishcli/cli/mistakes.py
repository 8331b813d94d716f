"""Explain a mistake on the command line, and name what was probably meant."""

from __future__ import annotations

import difflib
import itertools
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fishcli.config import SETTINGS

_BY_NAME = {setting.name: setting for setting in SETTINGS.values()}

# Names of other tools, and words that say the same.
_COMMANDS = {
    "say": "speak tts clone synthesize synthesise synth talk read run speech voice-clone text-to-speech play",
    "batch": "jobs job queue book audiobook corpus many",
    "verify": "validate",
    "generate": "infer inference text2semantic semantic tokens llama gen",
    "encode": "vqgan quantize tokenize extract",
    "decode": "vocode vocoder reconstruct",
    "voices": "voice speakers speaker library",
    "serve": "server api api_server api-server http httpd daemon listen",
    "webui": "web ui gui gradio run_webui run-webui app page browser",
    "client": "api_client api-client request",
    "download": "install pull fetch get models model update",
    "config": "settings setting set configure preferences",
    "doctor": "check info diagnose status env",
    "bench": "benchmark speed profile perf",
    "completion": "completions complete autocomplete",
}
_IN_VOICES = {
    "list": "ls",
    "add": "create new save",
    "show": "info view cat",
    "rm": "remove delete del",
    "rename": "mv move",
    "import": "load restore",
    "export": "backup",
    "audition": "try hear sample generate",
    "freeze": "keep",
}
_SYNONYMS = {"fish": _COMMANDS, "fish voices": _IN_VOICES}
_OPTIONS = {
    "--voice": "--reference-id --voice-id --speaker-id",
    "--text": "--ref-text --reference-text --transcript --lab",
    "--name": "--id --as",
    "--checkpoint-path": "--model --model-path --model-dir --checkpoint --ckpt --ckpt-path --checkpoint-dir -m",
    "--codec-path": "--codec --vocoder --decoder --vqgan --codec-checkpoint",
    "--ref": "--reference --reference-audio --ref-audio --speaker --speaker-wav --prompt-audio --audio -r",
    "--ref-text": "--reference-text --transcript --ref-transcript --prompt",
    "--output": "--out --outfile --output-file --out-file --save --to",
    "--output-dir": "-o --output --out --out-dir --outdir --output-path --output-folder",
    "--temperature": "--temp -t",
    "--top-p": "--nucleus -p",
    "--repetition-penalty": "--penalty --rep-penalty",
    "--num-samples": "--samples --count --num --number --takes --n",
    "--max-new-tokens": "--max-tokens --max-length --max-frames --max-new-frames",
    "--chunk-length": "--chunk --chunk-size --split --max-chunk",
    "--no-iterative-prompt": "--parallel",
    "--file": "--text-file --input-file --input --infile -f",
    "--language": "--lang --locale -l",
    "--threads": "--num-threads --workers --jobs -j",
    "--half": "--fp16 --float16",
    "--dtype bfloat16": "--bf16 --bfloat16",
    "--dtype float32": "--fp32 --float32 --full-precision",
    "--dtype": "--precision --type",
    "--quantize int8": "--int8 --8bit --load-in-8bit",
    "--quantize int4": "--int4 --4bit --load-in-4bit",
    "--device cuda": "--cuda --gpu",
    "--device cpu": "--cpu",
    "--seed": "--random-seed --manual-seed -s",
    "--url": "--server --host --address --endpoint --base-url",
    "--format": "--response-format --audio-format",
    "--play": "--stream --streaming --speak --listen",
    "--quiet": "--silent --no-progress",
    "--verbose": "--log-level --details",
    "--json": "--format-json",
    "--local-dir": "--dir --folder --output-dir --cache-dir --to",
    "--revision": "--branch --tag --commit",
    "--listen": "--host --port --address --bind --server-name --server-port",
    "--api-key-file": "--api-key --key-file --token-file --key --token --password",
    "--allow-host": "--allowed-hosts --hosts --hostname --domain",
    "--cors": "--cors-origin --cors-origins --allow-origin --origin --origins",
    "--max-text-length": "--max-text --text-length --max-input-length",
    "--max-queue": "--queue --queue-size --backlog",
    "--max-batch": "--batch --batch-size --max-batch-size --concurrency",
    "--install": "--setup",
    "--local": "--here --project",
    "--version": "-version --ver",
}
_FILES = {
    "say --file": (".txt", ".md"),
    "decode": (".npy",),
    "encode": (".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".aiff"),
}
_LONG = 60  # characters of a text that is quoted whole


def unknown_command(group: Any, path: str, words: Sequence[str]) -> str:
    """Return the message for a command that does not exist."""
    name, *rest = words
    for command, names in _SYNONYMS.get(path, {}).items():
        if name.lower() in names.split():
            return f"There is no command {name}. Did you mean `{path} {command}`?"
    if path == "fish":
        if name == "help":
            return f"Did you mean `{' '.join(['fish', *rest[:1], '-h'])}`?"
        if command := next((command for command, ends in _FILES.items() if name.lower().endswith(ends)), ""):
            return f"{name} is not a command. Did you mean `fish {command} {shlex.quote(name)}`?"
    if near := difflib.get_close_matches(name.lower(), group.commands, 1):
        return f"There is no command {name}. Did you mean `{path} {near[0]}`?"
    if path == "fish" and re.search(r"\w", name):
        text = " ".join([name, *itertools.takewhile(lambda word: not word.startswith("-"), rest)])
        return f"There is no command {_short(name)}. Did you mean `fish say {quoted(text)}`?"
    return f"There is no command {_short(name)} in `{path}`; it has {', '.join(group.commands)}."


def unknown_option(ctx: Any, word: str) -> str:
    """Return the message for an option that the command does not have."""
    name = word.partition("=")[0]
    message = f"There is no option {name}"
    if meant := _meant(name, _names(ctx.command.get_params(ctx))):
        return f"{message}; did you mean {meant}?"
    if takes_text(ctx.command) and not word.startswith("--"):
        return f"{message}; to speak it, type `{ctx.command_path} -- {quoted(word)}`."
    if home := _home(ctx.command, name):
        return f"{message} before the command; type it behind: `{ctx.command_path} {home} {name}`."
    return f"{message}."


def check_count(ctx: Any, given: Sequence[str]) -> None:
    """Raise a usage error if there are too few or too many positional arguments."""
    slots = [each for each in ctx.command.params if each.param_type_name == "argument"]
    needed = [each for each in slots if each.required]
    if len(given) < len(needed):
        missing = needed[len(given)]
        ctx.fail(f"Missing argument {missing.metavar.rstrip('.')}: {expected(missing)}.")
    if len(given) <= len(slots) or any(each.nargs == -1 for each in slots):
        return
    if takes_text(ctx.command):
        ctx.fail(f"There is more than one text; put it in quotes: `{ctx.command_path} {quoted(' '.join(given))}`.")
    ctx.fail(f"There is an argument too many: {_short(given[len(slots)])}.")


def wrong_value(error: Any) -> str | None:
    """Return the message for a value that the parser cannot convert; None for another error."""
    reasons = getattr(error.__cause__, "errors", None)
    if reasons is None or getattr(error, "param", None) is None:
        return None
    name = next((each for each in error.param.opts if each.startswith("--")), error.param.metavar or error.param.name)
    return f"{name} must be {expected(error.param)}, not {_short(str(reasons()[0]['input']))}."


def expected(parameter: Any) -> str:
    """Return the valid values of an option or argument in words."""
    setting = _BY_NAME.get(parameter.name)
    kind = parameter.type_descriptor
    if setting is not None and parameter.param_type_name == "option":
        return setting.expected
    if kind.choices:
        return f"one of {', '.join(str(getattr(each, 'value', each)) for each in kind.choices)}"
    noun = {int: "a whole number", float: "a number"}.get(kind.annotation)
    if noun and parameter.max is not None:
        return f"{noun} from {parameter.min:g} to {parameter.max:g}"
    if noun:
        return f"{noun} from {parameter.min:g} up" if parameter.min is not None else noun
    if kind.annotation in (Path, Path | None, list[Path], list[Path] | None):
        return "a folder" if parameter.metavar == "DIR" else "a file"
    help = (parameter.help or parameter.metavar or "text").rstrip(".")
    return f"{help[0].lower()}{help[1:]}"


def takes_text(command: Any) -> bool:
    """Return whether the first argument of a command is a text to speak."""
    return any(each.metavar == "TEXT" for each in command.params if each.param_type_name == "argument")


def quoted(text: str) -> str:
    """Quote a text for a shell, in double quotes where they are enough; a long one is shortened."""
    text = text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."
    return shlex.quote(text) if re.search(r'["$`\\!]', text) or not text.isprintable() else f'"{text}"'


def _meant(name: str, names: set[str]) -> str | None:
    """Return the option that was meant: a synonym, another spelling, or a similar name."""
    for option, others in _OPTIONS.items():
        if name.lower().replace("_", "-") in others.split() and option.split()[0] in names:
            return option
    if (long := f"--{name.lstrip('-').lower().replace('_', '-')}") in names:
        return long
    cutoff = 0.7 if name.startswith("--") else 0.8  # else it may be a text
    near = difflib.get_close_matches(long, names, 1, cutoff) if len(name) > 2 else []
    return near[0] if near else None


def _names(parameters: Iterable[Any]) -> set[str]:
    options = [each for each in parameters if each.param_type_name == "option" and not each.hidden]
    return {name for each in options for name in (*each.opts, *each.secondary_opts) if name.startswith("--")}


def _home(group: Any, name: str) -> str | None:
    """Return the first command of a group that has an option."""
    commands = getattr(group, "commands", {})
    return next((each for each, command in commands.items() if name in _names(command.params)), None)


def _short(text: str) -> str:
    """Quote a word of the command line for a message, unless it is a plain one."""
    return text if re.fullmatch(r"[\w./:,=+-]{1,40}", text) else quoted(text)
