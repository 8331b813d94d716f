"""The options that several commands share, with the help, defaults and ranges of the settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fishcli.cli import completers, console
from fishcli.config import SETTINGS
from fishcli.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fishcli.engine import Engine
    from fishcli.request import Reference, Request, Script

MODEL = "Model"
VOICE = "Reference"
SPEAKING = "Speaking"
OUTPUT = "Output"


def default(key: str) -> Any:
    """Return the default of a setting."""
    return SETTINGS[key].default


def setting(key: str, panel: str, metavar: str | None = None, off: bool = False, eager: bool = False) -> Any:
    """Return the Typer option of a setting, with its name, help and range; `off` adds the --no- form.

    An `eager` option is parsed before the others, whose callbacks can then compare themselves with it.
    """
    known = SETTINGS[key]
    name = f"--{known.name.replace('_', '-')}"

    def check(value: Any) -> Any:
        if value is not None and not known.accepts(str(value) if isinstance(value, Path) else value):
            raise SettingError(f"{name} must be {known.expected}, not {value}.")
        return value

    return typer.Option(
        f"{name}/--no-{name[2:]}" if off else name,
        help=known.help,
        rich_help_panel=panel,
        metavar=metavar or ("|".join(known.choices) or None),
        callback=check,
        is_eager=eager,
        autocompletion=completers.words(known),
    )


def output_option(help: str) -> Any:
    """Return the option -o, for the file of one result."""
    return typer.Option("-o", "--output", help=f"{help} - is stdout.", rich_help_panel=OUTPUT, metavar="FILE")


def subtype_option() -> Any:
    """Return the option --subtype, for the encoding of samples."""
    return typer.Option(
        "--subtype",
        help="Sample encoding of .wav and .flac: PCM_16, PCM_24, or FLOAT (.wav only).",
        rich_help_panel=OUTPUT,
        autocompletion=completers.subtypes,
    )


def dry_run_option() -> Any:
    """Return the option -n, which writes nothing."""
    return typer.Option("-n", "--dry-run", help="Show the work without doing it.", rich_help_panel=OUTPUT)


def _half(ctx: typer.Context, value: bool) -> bool:
    """Reject another --dtype on the command line beside --half, which overrides a setting."""
    source = ctx.get_parameter_source("dtype")
    if value and source is not None and source.name == "COMMANDLINE" and ctx.params["dtype"] != "float16":
        raise SettingError(f"--half and --dtype {ctx.params['dtype']} contradict each other; give one of them.")
    return value


@dataclass(frozen=True)
class ModelOptions:
    """The model, and how it runs: device, dtype, quantization, threads and memory."""

    checkpoint_path: Annotated[str | None, setting("checkpoint_path", MODEL, "DIR|NAME")] = None
    codec_path: Annotated[Path | None, setting("codec_path", MODEL, "FILE")] = None
    device: Annotated[str, setting("device", MODEL)] = default("device")
    dtype: Annotated[str, setting("dtype", MODEL, eager=True)] = default("dtype")
    quantize: Annotated[str, setting("quantize", MODEL)] = default("quantize")
    half: Annotated[
        bool, typer.Option("--half", help="The same as --dtype float16.", callback=_half, rich_help_panel=MODEL)
    ] = False
    compile: Annotated[bool | None, setting("compile", MODEL, off=True)] = None
    threads: Annotated[int | None, setting("threads", MODEL, "N")] = None
    kv_memory: Annotated[int | None, setting("kv_memory", MODEL, "MB")] = None

    def load(self) -> Engine:
        """Load the engine. Print a note if the built-in voice is used because no model is downloaded."""
        with console.status("loading"):
            from fishcli.engine import load

            engine = load(
                self.checkpoint_path,
                codec=self.codec_path,
                device=self.device,
                dtype="float16" if self.half else self.dtype,
                quantize=self.quantize,
                compile=self.compile,
                threads=self.threads,
                kv_memory=self.kv_memory,
            )
        if engine.model.built_in and self.checkpoint_path is None:
            console.note("No model is downloaded, so the built-in voice speaks; `fish download` gets Fish Speech 1.5.")
        return engine


@dataclass(frozen=True)
class VoiceOptions:
    """The references: recordings of the voice, or their codes."""

    ref: Annotated[
        list[Path] | None,
        typer.Option(
            "--ref",
            "--prompt-tokens",
            help="A recording of the voice, or its codes (.npy); repeatable.",
            rich_help_panel=VOICE,
            metavar="AUDIO",
        ),
    ] = None
    ref_text: Annotated[
        list[str] | None,
        typer.Option(
            "--ref-text",
            "--prompt-text",
            help="Its transcript, one per recording; by default from NAME.lab or NAME.txt.",
            rich_help_panel=VOICE,
            metavar="TEXT",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.ref_text and len(self.ref_text) != len(self.ref or []):
            raise SettingError(
                f"There are {len(self.ref or [])} --ref and {len(self.ref_text)} --ref-text; "
                "give one transcript per reference."
            )


@dataclass(frozen=True)
class SpeakingOptions:
    """Sampling, and how the text is split into chunks."""

    num_samples: Annotated[int, setting("generate.num_samples", SPEAKING, "N")] = default("generate.num_samples")
    seed: Annotated[int | None, setting("generate.seed", SPEAKING, "N")] = None
    temperature: Annotated[float, setting("generate.temperature", SPEAKING)] = default("generate.temperature")
    top_p: Annotated[float, setting("generate.top_p", SPEAKING)] = default("generate.top_p")
    repetition_penalty: Annotated[float, setting("generate.repetition_penalty", SPEAKING)] = default(
        "generate.repetition_penalty"
    )
    max_new_tokens: Annotated[int, setting("generate.max_new_tokens", SPEAKING, "N")] = default(
        "generate.max_new_tokens"
    )
    chunk_length: Annotated[int, setting("generate.chunk_length", SPEAKING, "BYTES")] = default("generate.chunk_length")
    iterative_prompt: Annotated[bool, setting("generate.iterative_prompt", SPEAKING, off=True)] = default(
        "generate.iterative_prompt"
    )

    language: Annotated[str | None, setting("language", SPEAKING, "CODE")] = None

    def request(self, script: Script, references: Sequence[Reference] = ()) -> Request:
        """Return the request. Without --seed, draw one, so that it can be shown."""
        from fishcli.request import Request, SamplingParams, draw_seed

        sampling = SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            seed=draw_seed() if self.seed is None else self.seed,
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
        )


@dataclass(frozen=True)
class TextOptions:
    """The text: an argument, a file, or stdin."""

    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="The text; - is stdin.")] = None
    file: Annotated[
        Path | None,
        typer.Option("--file", help="A file with the text; - is stdin.", metavar="FILE", rich_help_panel=SPEAKING),
    ] = None
    normalize: Annotated[bool, setting("normalize", SPEAKING, off=True)] = default("normalize")
