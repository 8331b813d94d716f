"""Complete an error for the prompt: library messages name fields, and only the command line knows its options."""

from __future__ import annotations

import shlex

from fishcli.errors import FishError

# What to do about an error in a field of a request, or in a setting.
OPTIONS = {
    "force": "replace it with --force",
    "format": "choose another with --format",
    "retries": "set them with --retries N",
    "checkpoint_path": "choose another model with --checkpoint-path",
    "codec_path": "pass --codec-path FILE",
    "device": "choose another with --device",
    "dtype": "choose another with --dtype",
    "quantize": "choose another with --quantize",
    "compile": "use --compile, --no-compile or neither",
    "threads": "set them with --threads N",
    "kv_memory": "set it with --kv-memory MB",
    "max_batch": "set it with --max-batch N",
    "allow_host": "pass --allow-host HOST",
    "cors": "pass --cors https://HOST",
    "workers": "set them with --workers N",
    "address": "choose another with --address HOST:PORT",
    "listen": "choose another address with --listen HOST:PORT",
    "references": "pass another recording with --ref AUDIO",
    "voice": "choose another with --voice NAME",
    "language": "choose another with --language CODE",
    "chunk_length": "set it with --chunk-length BYTES",
    "max_new_tokens": "set it with --max-new-tokens N",
    "num_samples": "set it with --num-samples N",
    "check": "choose another with --check",
    "seed": "choose another with --seed N",
    "temperature": "set it with --temperature",
    "top_p": "set it with --top-p",
    "repetition_penalty": "set it with --repetition-penalty",
    "url": "choose another with --url",
    "api_key": "pass a file with the key as --api-key-file",
    "play": "write to a file with -o",
    "subtype": "choose another with --subtype",
    "local_dir": "choose another folder with --local-dir DIR",
    "revision": "choose another with --revision",
}


def message(error: FishError) -> str:
    """Return the message of an error with a hint: after a semicolon, or as a sentence where there is one already."""
    said = str(error)
    hint = OPTIONS.get(error.field) if (repair := _repair(error)) is None else repair
    if not hint:
        return said
    if ";" in said or not said.endswith("."):
        return f"{said} {hint[0].upper()}{hint[1:]}."
    return f"{said[:-1]}; {hint}."


def _repair(error: FishError) -> str | None:
    """Return the command that shows the voices, repairs a model, or fetches one into a folder that does not exist."""
    from fishcli.checkpoints.local import IncompleteModel, NoSuchFolder

    if error.field == "voice":
        return _about_voices(error)
    if isinstance(error, NoSuchFolder):
        return f"`fish download --local-dir {shlex.quote(error.name)}` fetches Fish Speech 1.5 into it"
    if not isinstance(error, IncompleteModel) or error.found is None:
        return None
    from fishcli.doctor.check import repair_command

    return f"run `{repair_command(error.found)}`"


def _about_voices(error: FishError) -> str | None:
    """Return the command that shows which voices there are; "" for a message that needs no hint."""
    from fishcli.voices import VoiceExists, VoiceMissing

    if isinstance(error, VoiceMissing):
        return "`fish voices list` shows them"
    return "" if isinstance(error, VoiceExists) else None
