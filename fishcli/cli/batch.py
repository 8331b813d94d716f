"""`fish batch`: the lines of a file, or a book, each spoken into a file of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fishcli.cli import console, options, signals
from fishcli.cli.app import app, command
from fishcli.errors import FishError, SettingError

if TYPE_CHECKING:
    from fishcli.jobs.line import Job, Line
    from fishcli.jobs.output import Output
    from fishcli.jobs.settings import JobSettings
    from fishcli.voices import Library

LINES = "Lines"
_PARTLY = 6  # exit code


@dataclass(frozen=True)
class LineOptions:
    """Which lines of the job to speak."""

    paragraphs: Annotated[
        bool, typer.Option("--paragraphs", help="A .txt has a line for each paragraph.", rich_help_panel=LINES)
    ] = False
    shard: Annotated[
        str | None,
        typer.Option(help="Speak part I of N, such as 1/4.", metavar="I/N", rich_help_panel=LINES, show_default=False),
    ] = None
    limit: Annotated[
        int | None, typer.Option(help="Speak the first N lines.", metavar="N", min=1, rich_help_panel=LINES)
    ] = None
    only: Annotated[
        list[str] | None, typer.Option(help="Speak the line ID; repeatable.", metavar="ID", rich_help_panel=LINES)
    ] = None

    def chosen(self, lines: Sequence[Line]) -> list[Line]:
        """Return the lines to speak. Raises SettingError for a wrong shard or an unknown id."""
        chosen = list(lines)
        if self.only:
            known = {line.id: line for line in lines}
            if missing := [id for id in self.only if id not in known]:
                raise SettingError(f"The job has no line {missing[0]!r:.70}; choose another with --only.")
            chosen = [known[id] for id in dict.fromkeys(self.only)]
        if self.shard is not None:
            part, parts = _shard(self.shard)
            chosen = chosen[part - 1 :: parts]
        return chosen[: self.limit]


def _shard(given: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", given)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise SettingError(f"--shard must be a part such as 1/4, not {given!r:.40}.")
    return int(found[1]), int(found[2])


@dataclass(frozen=True)
class BatchOptions:
    """How the lines are spoken, unless a line says otherwise."""

    language: Annotated[str | None, options.setting("language", options.TEXT, "CODE")] = None
    normalize: Annotated[bool, options.setting("normalize", options.TEXT, off=True)] = options.default("normalize")
    chunk_length: Annotated[int, options.setting("generate.chunk_length", options.TEXT, "BYTES")] = options.default(
        "generate.chunk_length"
    )
    iterative_prompt: Annotated[bool, options.setting("generate.iterative_prompt", options.TEXT, off=True)] = (
        options.default("generate.iterative_prompt")
    )
    seed: Annotated[
        int,
        typer.Option(
            help="Seed of the job, of which each line gets its own.",
            min=0,
            max=2**63 - 1,
            metavar="N",
            rich_help_panel=options.SPEAKING,
        ),
    ] = 0
    temperature: Annotated[float | None, options.setting("generate.temperature", options.SPEAKING)] = None
    top_p: Annotated[float | None, options.setting("generate.top_p", options.SPEAKING)] = None
    repetition_penalty: Annotated[float | None, options.setting("generate.repetition_penalty", options.SPEAKING)] = None
    max_new_tokens: Annotated[int, options.setting("generate.max_new_tokens", options.SPEAKING)] = options.default(
        "generate.max_new_tokens"
    )
    check: Annotated[str, options.setting("generate.check", options.SPEAKING)] = options.default("generate.check")
    retries: Annotated[
        int,
        typer.Option(
            help="Further attempts at a chunk that fails the check.",
            min=0,
            max=10,
            metavar="N",
            rich_help_panel=options.SPEAKING,
        ),
    ] = 2

    def settings(self, format: str, voice: options.VoiceOptions) -> JobSettings:
        """Return the settings of the job. Raises SettingError."""
        from fishcli.jobs.settings import JobSettings
        from fishcli.request import SamplingParams

        sampling = SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            max_new_tokens=self.max_new_tokens,
        )
        return JobSettings(
            seed=self.seed,
            format=format,
            voice=voice.voice,
            ref=tuple(map(str, voice.ref or ())),
            ref_text=tuple(voice.ref_text or ()),
            language=self.language,
            sampling=sampling,
            chunk_length=self.chunk_length,
            iterative_prompt=self.iterative_prompt,
            normalize=self.normalize,
            check="off" if self.check == "off" else "length",
            retries=self.retries,
        )


@command(app)
def batch(
    job: Annotated[Path, typer.Argument(metavar="JOB", help="Lines of text: .jsonl, .csv or .txt.")],
    lines: LineOptions,
    batch: BatchOptions,
    voice: options.VoiceOptions,
    model: options.ModelOptions,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Folder for the files and their manifest.",
            metavar="DIR",
            show_default="NAME of JOB",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    format: Annotated[
        str, typer.Option(help="wav, flac, mp3, ogg or opus.", metavar="NAME", rich_help_panel=options.OUTPUT)
    ] = "wav",
    dry_run: Annotated[bool, options.dry_run_option("Show the lines and the expected time only.")] = False,
) -> None:
    """Speak each line of a file into a file of its own. The same command again makes only what is missing or changed.

    Examples:
      printf 'Good morning.\\nGood night.\\n' > greetings.txt
      fish batch greetings.txt -o greetings
      fish verify greetings
    """
    from fishcli.jobs import readers
    from fishcli.jobs.checks import checked
    from fishcli.jobs.output import Output
    from fishcli.voices import Library

    settings = batch.settings(format, voice)
    library = Library.of_user()
    found = checked(readers.read(job, lines.paragraphs), library, settings)
    for each in found.problems:
        console.warn(f"line {each.number}: {each.message}")
    chosen = lines.chosen(found.lines)
    if not chosen:
        raise FishError(f"{job} has no line that can be spoken.")
    with Output(output or Path(job.stem)) as out:
        _speak(out, found, chosen, library, settings, model)


def _speak(
    out: Output, job: Job, chosen: list[Line], library: Library, settings: JobSettings, model: options.ModelOptions
) -> None:
    from fishcli.jobs import local
    from fishcli.jobs.identity import Addresses, ModelIdentity
    from fishcli.jobs.render import Renderer

    identity = ModelIdentity.of(
        model.checkpoint_path, model.codec_path, device=model.device, dtype=model.loaded_dtype, quantize=model.quantize
    )
    out.begin(job, chosen, Addresses(identity, library, settings))
    if out.pending:
        engine = model.load()
        signals.clean_up(saves=True)
        renderer = Renderer(engine, library, settings)
        for line, sound, error in local.run(renderer, out.pending, engine.max_batch):
            if sound is None:
                out.fail(line, error or "")
            else:
                out.put(line, sound)
                console.note(f"{line.id}: {sound.seconds:.1f} s")
    out.finish()
