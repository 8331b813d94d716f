"""The options that several commands share, with the help, defaults and ranges of the settings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fishcli.cli import completers, console
from fishcli.config import SETTINGS
from fishcli.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fishcli.cli.remote import Speaker
    from fishcli.client.discovery import Identity
    from fishcli.engine import Engine
    from fishcli.jobs.judge import Judge
    from fishcli.request import Reference, Request, Script

MODEL = "Model"
VOICE = "Voice"
TEXT = "Text"
SPEAKING = "Speaking"
OUTPUT = "Output"
_METAVARS = {"int": "N", "float": "X", "text": "NAME", "path": "FILE", "model": "NAME", "bool": None}


def default(key: str) -> Any:
    """Return the default of a setting."""
    return SETTINGS[key].default


def setting(
    key: str, panel: str, metavar: str | None = None, off: bool = False, eager: bool = False, hidden: bool = False
) -> Any:
    """Return the Typer option of a setting, with its name, help and range; `off` adds the --no- form.

    An `eager` option is parsed before the others, whose callbacks can then compare themselves with it. A `hidden` one
    is accepted and not shown.
    """
    known = SETTINGS[key]
    name = f"--{known.name.replace('_', '-')}"

    def check(value: Any) -> Any:
        for each in value if isinstance(value, list) else [value]:
            if each is not None and not known.accepts(str(each) if isinstance(each, Path) else each):
                raise SettingError(f"{name} must be {known.expected}, not {each}.")
        return value

    return typer.Option(
        f"{name}/--no-{name[2:]}" if off else name,
        help=known.help,
        rich_help_panel=panel,
        metavar=metavar or _METAVARS[known.kind],
        callback=check,
        is_eager=eager,
        hidden=hidden,
        autocompletion=completers.words(known),
    )


def output_option(help: str, default: str = "") -> Any:
    """Return the option -o, for the file of one result. `default` says where the result goes without it."""
    return typer.Option(
        "-o",
        "--output",
        help=f"{help}; - is standard output.",
        show_default=default or False,
        rich_help_panel=OUTPUT,
        metavar="FILE",
        callback=_not_empty,
    )


def subtype_option() -> Any:
    """Return the option --subtype, for the encoding of samples."""
    return typer.Option(
        "--subtype",
        help="Sample format: PCM_16, PCM_24 or FLOAT (.wav).",
        rich_help_panel=OUTPUT,
        metavar="TYPE",
        callback=_not_empty,
        autocompletion=completers.subtypes,
    )


def force_option() -> Any:
    """Return the option --force, for the derived names of several samples."""
    return typer.Option("--force", help="Replace NAME-1.wav, ... of several samples.", rich_help_panel=OUTPUT)


def dry_run_option(help: str = "Show the chunks and the output only.") -> Any:
    """Return the option -n, which writes nothing."""
    return typer.Option("-n", "--dry-run", help=help, rich_help_panel=OUTPUT)


def api_key_option(panel: str = MODEL, hidden: bool = False) -> Any:
    """Return the option --api-key-file, for the key of a server."""
    return typer.Option(
        "--api-key-file",
        help="File with the API key; else FISHCLI_API_KEY.",
        show_default=False,
        rich_help_panel=panel,
        metavar="FILE",
        callback=_not_empty,
        hidden=hidden,
    )


def typed(ctx: typer.Context, group: type) -> list[str]:
    """Return the options of a group that stand on the command line, such as `--device`."""
    names = [field.name for field in dataclasses.fields(group)]
    sources = ((name, ctx.get_parameter_source(name)) for name in names)
    return [f"--{name.replace('_', '-')}" for name, source in sources if source and source.name == "COMMANDLINE"]


def _not_empty(parameter: typer.CallbackParam, value: Any) -> Any:
    """Reject an empty value, which is a mistake in a script; as a path it is the working folder."""
    given = value if isinstance(value, list | tuple) else [value]
    if "" in given or Path() in given:
        name = next(each for each in parameter.opts if each.startswith("--"))
        raise SettingError(f"{name} must {'not be empty' if '' in given else 'name a file'}.")
    return value


def _half(ctx: typer.Context, value: bool) -> bool:
    """Reject another --dtype on the command line beside --half, which overrides a setting."""
    source = ctx.get_parameter_source("dtype")
    if value and source is not None and source.name == "COMMANDLINE" and ctx.params["dtype"] != "float16":
        raise SettingError(f"--half and --dtype {ctx.params['dtype']} contradict each other; give one of them.")
    return value


@dataclass(frozen=True)
class ModelOptions:
    """The model, and how it runs: device, dtype, quantization, threads and memory."""

    checkpoint_path: Annotated[str | None, setting("checkpoint_path", MODEL)] = None
    codec_path: Annotated[Path | None, setting("codec_path", MODEL, "FILE")] = None
    device: Annotated[str, setting("device", MODEL)] = default("device")
    dtype: Annotated[str, setting("dtype", MODEL, eager=True)] = default("dtype")
    quantize: Annotated[str, setting("quantize", MODEL)] = default("quantize")
    half: Annotated[
        bool, typer.Option("--half", help="Same as --dtype float16.", callback=_half, rich_help_panel=MODEL)
    ] = False
    compile: Annotated[bool | None, setting("compile", MODEL, off=True)] = None
    threads: Annotated[int | None, setting("threads", MODEL, "N")] = None
    kv_memory: Annotated[int | None, setting("kv_memory", MODEL, "MB")] = None

    @property
    def loaded_dtype(self) -> str:
        """The dtype to load the model in; --half means float16."""
        return "float16" if self.half else self.dtype

    def load(self, max_batch: int | None = None) -> Engine:
        """Load the engine. Say so if it is the built-in voice because no model is downloaded."""
        with console.status("Loading the model"):
            from fishcli.engine import load

            engine = load(
                self.checkpoint_path,
                codec=self.codec_path,
                device=self.device,
                dtype=self.loaded_dtype,
                quantize=self.quantize,
                compile=self.compile,
                threads=self.threads,
                kv_memory=self.kv_memory,
                max_batch=max_batch,
                progress=console.converting,
            )
        self.say_which(engine.model.built_in)
        return engine

    def identity(self) -> Identity:
        """Return the identity of the model, by which a server knows whether it has the same one."""
        from fishcli.client import discovery

        return discovery.identity(
            self.checkpoint_path,
            self.codec_path,
            device=self.device,
            dtype=self.loaded_dtype,
            quantize=self.quantize,
            compile=self.compile,
            threads=self.threads,
        )

    def say_which(self, built_in: bool) -> None:
        """Print a note, once, if the built-in voice is used because no model is downloaded."""
        if built_in and self.checkpoint_path is None:
            console.note_once(
                "built-in", "This is the built-in voice, an English demo. For the real model: fish download"
            )


@dataclass(frozen=True)
class QuietModelOptions(ModelOptions):
    """The same for a command with many options of its own: how the model runs is accepted, and not in the help."""

    codec_path: Annotated[Path | None, setting("codec_path", MODEL, "FILE", hidden=True)] = None
    dtype: Annotated[str, setting("dtype", MODEL, eager=True, hidden=True)] = default("dtype")
    half: Annotated[bool, typer.Option("--half", callback=_half, hidden=True)] = False
    compile: Annotated[bool | None, setting("compile", MODEL, off=True, hidden=True)] = None
    threads: Annotated[int | None, setting("threads", MODEL, "N", hidden=True)] = None
    kv_memory: Annotated[int | None, setting("kv_memory", MODEL, "MB", hidden=True)] = None


@dataclass(frozen=True)
class ServerOptions:
    """The choice of a server to speak. A local one with the same model is found by itself."""

    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            help="Speak through this server.",
            metavar="URL",
            rich_help_panel=MODEL,
            show_default=False,
            callback=_not_empty,
        ),
    ] = None
    no_server: Annotated[
        bool, typer.Option("--no-server", help="Use no server, not even a local one.", rich_help_panel=MODEL)
    ] = False
    api_key_file: Annotated[Path | None, api_key_option(hidden=True)] = None

    def __post_init__(self) -> None:
        if self.server and self.no_server:
            raise SettingError("--server and --no-server contradict each other; give one of them.")


@dataclass(frozen=True)
class CodecOptions(ModelOptions):
    """The same where the codec alone runs. What concerns the language model is accepted and has no effect."""

    dtype: Annotated[str, setting("dtype", MODEL, eager=True, hidden=True)] = default("dtype")
    quantize: Annotated[str, setting("quantize", MODEL, hidden=True)] = default("quantize")
    half: Annotated[bool, typer.Option("--half", callback=_half, hidden=True)] = False
    kv_memory: Annotated[int | None, setting("kv_memory", MODEL, "MB", hidden=True)] = None


def _voice(ctx: typer.Context, value: str | None) -> str | None:
    """Reject a typed --voice beside --ref, which overrides the voice of the settings."""
    if value == "":
        raise SettingError("--voice must not be empty.")
    if not value or not ctx.params.get("ref"):
        return value
    source = ctx.get_parameter_source("voice")
    if source is not None and source.name == "COMMANDLINE":
        raise SettingError("--voice and --ref are both given; pass one of them.")
    return None


@dataclass(frozen=True)
class ReferenceOptions:
    """The references: recordings of the voice, or their codes."""

    ref: Annotated[
        list[Path] | None,
        typer.Option(
            "--ref",
            "--prompt-tokens",
            help="Recording or codes (.npy) of the voice; repeatable.",
            rich_help_panel=VOICE,
            metavar="FILE",
            callback=_not_empty,
            is_eager=True,
        ),
    ] = None
    ref_text: Annotated[
        list[str] | None,
        typer.Option(
            "--ref-text",
            "--prompt-text",
            help="What is said in it.",
            show_default="FILE.lab or FILE.txt",
            rich_help_panel=VOICE,
            metavar="TEXT",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.ref_text and len(self.ref_text) != len(self.ref or []):
            counts = f"{len(self.ref or [])} --ref and {len(self.ref_text)} --ref-text"
            raise SettingError(f"Give one --ref-text for each --ref, not {counts}.")


@dataclass(frozen=True)
class VoiceOptions(ReferenceOptions):
    """The references, or a voice of the library, whose recordings they are."""

    voice: Annotated[
        str | None,
        typer.Option(
            "--voice",
            help=SETTINGS["generate.voice"].help,
            show_default=False,
            rich_help_panel=VOICE,
            metavar="NAME",
            callback=_voice,
            autocompletion=completers.voices,
        ),
    ] = None

    def check(self, engine: Engine | Speaker) -> None:
        """Warn if the built-in voice gets references: it moves between its two voices and reaches no third."""
        if engine.model.built_in and (self.ref or self.voice):
            console.warn("The built-in voice cannot clone; run `fish download` first.")


@dataclass(frozen=True)
class SpeakingOptions:
    """How the text is split into chunks, and sampling."""

    language: Annotated[str | None, setting("language", TEXT, "CODE")] = None
    chunk_length: Annotated[int, setting("generate.chunk_length", TEXT, "BYTES")] = default("generate.chunk_length")
    iterative_prompt: Annotated[bool, setting("generate.iterative_prompt", TEXT, off=True)] = default(
        "generate.iterative_prompt"
    )
    seed: Annotated[int | None, setting("generate.seed", SPEAKING)] = None
    num_samples: Annotated[int, setting("generate.num_samples", SPEAKING)] = default("generate.num_samples")
    temperature: Annotated[float | None, setting("generate.temperature", SPEAKING)] = None
    top_p: Annotated[float | None, setting("generate.top_p", SPEAKING)] = None
    repetition_penalty: Annotated[float | None, setting("generate.repetition_penalty", SPEAKING)] = None
    max_new_tokens: Annotated[int, setting("generate.max_new_tokens", SPEAKING)] = default("generate.max_new_tokens")
    check: Annotated[str, setting("generate.check", SPEAKING)] = default("generate.check")

    def request(
        self, engine: Engine | Speaker, script: Script, references: Sequence[Reference], streamed: bool
    ) -> Request:
        """Return the request with all sampling parameters, so that the seed can be shown.

        A chunk that came out wrong is generated again, unless it is `streamed` and may have been heard before its end.
        """
        from fishcli.request import LISTENING_RETRIES, RETRIES, Request, SamplingParams

        retries = LISTENING_RETRIES if self.check == "listen" else RETRIES
        sampling = SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            seed=self.seed,
            max_new_tokens=self.max_new_tokens,
        )
        return Request(
            script,
            references,
            sampling,
            num_samples=self.num_samples,
            chunk_length=self.chunk_length,
            iterative_prompt=self.iterative_prompt,
            language=self.language,
            check="off" if self.check == "off" else "length",
            retries=0 if streamed else retries,
        ).complete(engine.sampling)

    def judge(self, language: str) -> Judge | None:
        """Return the judge of --check listen; None for another check, or a language that nobody here can judge.

        Raises FishError without the extra.
        """
        from fishcli.jobs.judge import Ears

        return Ears().judge(language) if self.check == "listen" else None


@dataclass(frozen=True)
class TextOptions:
    """The text: an argument, a file, or stdin."""

    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What to say.", show_default="standard input, as with -")
    ] = None
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", help="Read the text from a file.", metavar="FILE", rich_help_panel=TEXT, callback=_not_empty
        ),
    ] = None
    normalize: Annotated[bool, setting("normalize", TEXT, off=True)] = default("normalize")
