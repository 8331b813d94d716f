"""`fish batch`: the lines of a file, or a book, each spoken into a file of its own."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fishcli.cli import console, options, ray_options, signals
from fishcli.cli.app import app, command
from fishcli.cli.book_options import BookOptions
from fishcli.errors import FishError, SettingError

if TYPE_CHECKING:
    from fishcli.cli.batch_progress import JobProgress
    from fishcli.jobs.binding import Bound
    from fishcli.jobs.books import BookSettings
    from fishcli.jobs.identity import ModelIdentity
    from fishcli.jobs.lexicon import Lexicon
    from fishcli.jobs.line import Job, Line
    from fishcli.jobs.local import Result
    from fishcli.jobs.output import Output, Part
    from fishcli.jobs.settings import JobSettings
    from fishcli.voices import Library

LINES = "Lines"


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

    @property
    def part(self) -> Part | None:
        """The part of the job to speak. Raises SettingError."""
        from fishcli.jobs.output import Part

        if self.shard is None:
            return None
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", self.shard)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise SettingError(f"--shard must be a part such as 1/4, not {self.shard!r:.40}.")
        return Part(int(found[1]), int(found[2]))

    def chosen(self, lines: Sequence[Line]) -> list[Line]:
        """Return the lines to speak. Raises SettingError for a wrong shard or an unknown id."""
        chosen = list(lines)
        if self.only:
            known = {line.id: line for line in lines}
            if missing := [id for id in self.only if id not in known]:
                near = difflib.get_close_matches(missing[0], known, 1)
                hint = f"did you mean {near[0]}?" if near else "--dry-run --json lists the lines."
                raise SettingError(f"The job has no line {missing[0]!r:.70}; {hint}")
            chosen = [known[id] for id in dict.fromkeys(self.only)]
        if self.part is not None:
            chosen = chosen[self.part.number - 1 :: self.part.of]
        return chosen[: self.limit]


def _hidden(name: str, panel: str, off: bool = False) -> Any:
    """Return an option of `fish say` that is accepted and not in the help, which has no room for it."""
    return options.setting(f"generate.{name}", panel, off=off, hidden=True)


@dataclass(frozen=True)
class BatchOptions:
    """How the lines are spoken, unless a line says otherwise."""

    language: Annotated[str | None, options.setting("language", options.TEXT, "CODE")] = None
    normalize: Annotated[bool, options.setting("normalize", options.TEXT, off=True)] = options.default("normalize")
    chunk_length: Annotated[int, _hidden("chunk_length", options.TEXT)] = options.default("generate.chunk_length")
    iterative_prompt: Annotated[bool, _hidden("iterative_prompt", options.TEXT, off=True)] = options.default(
        "generate.iterative_prompt"
    )
    seed: Annotated[
        int,
        typer.Option(
            help="Seed of the job.",
            min=0,
            max=2**63 - 1,
            metavar="N",
            rich_help_panel=options.SPEAKING,
        ),
    ] = 0
    temperature: Annotated[float | None, _hidden("temperature", options.SPEAKING)] = None
    top_p: Annotated[float | None, _hidden("top_p", options.SPEAKING)] = None
    repetition_penalty: Annotated[float | None, _hidden("repetition_penalty", options.SPEAKING)] = None
    max_new_tokens: Annotated[int, options.setting("generate.max_new_tokens", options.SPEAKING)] = options.default(
        "generate.max_new_tokens"
    )
    check: Annotated[str, options.setting("generate.check", options.SPEAKING)] = options.default("generate.check")
    retries: Annotated[
        int | None,
        typer.Option(
            help="Further attempts at a wrong chunk.",
            show_default="2, or 20 for listen",
            min=0,
            max=20,
            metavar="N",
            rich_help_panel=options.SPEAKING,
        ),
    ] = None

    def settings(self, format: str, voice: options.VoiceOptions, lexicon: Lexicon | None) -> JobSettings:
        """Return the settings of the job. Raises SettingError."""
        from fishcli.jobs.settings import JobSettings
        from fishcli.request import LISTENING_RETRIES, RETRIES, SamplingParams

        listens = self.check == "listen"
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
            check=self.check,  # type: ignore[arg-type]  # the option has checked it
            retries=self.retries if self.retries is not None else LISTENING_RETRIES if listens else RETRIES,
            lexicon=lexicon,
        )


@dataclass(frozen=True)
class FolderOptions:
    """Where the files go, and in which format."""

    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Folder for the results.",
            metavar="DIR",
            show_default="name of JOB",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None
    format: Annotated[
        str | None,
        typer.Option(
            help="wav, flac, mp3, ogg or opus.",
            metavar="NAME",
            show_default="wav, for books flac",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace files of others, fill the disk.", rich_help_panel=options.OUTPUT),
    ] = False
    dry_run: Annotated[bool, options.dry_run_option("Show the lines and the expected time only.")] = False


@command(app)
def batch(
    ctx: typer.Context,
    job: Annotated[Path, typer.Argument(metavar="JOB", help="Texts: .jsonl, .csv, .txt, .md or .epub.")],
    where: FolderOptions,
    which: LineOptions,
    voice: options.VoiceOptions,
    speech: BatchOptions,
    model: options.QuietModelOptions,
    book: BookOptions,
    ray: ray_options.WorkerOptions,
) -> None:
    """Speak each line of a file, or a book, with one model. The same command again makes only what is missing.

    A line of a .jsonl or .csv has text, and may have id, voice, ref, ref_text, seed, language, format, temperature,
    top_p and repetition_penalty. The options of `fish say` for sampling and the model are taken, too. `fish verify`
    checks what was made. Exit code 6: a part failed.

    Examples:
      printf 'Good morning.\\nGood night.\\n' > greetings.txt
      fish batch greetings.txt -o greetings
      fish verify greetings
    """
    from fishcli.cli.batch_progress import show_problems
    from fishcli.jobs import readers
    from fishcli.jobs.checks import checked
    from fishcli.voices import Library

    read, library = readers.read(job, which.paragraphs), Library.of_user()
    bound = book.settings(where.format, bool(read.chapters))
    # The lines of a book are kept without loss until they are put together.
    settings = speech.settings("flac" if read.chapters else where.format or "wav", voice, book.words())
    found = checked(read, library, settings)
    show_problems(found.problems)
    if not found.lines:
        raise FishError(f"{job} has no line that can be spoken.")
    folder = where.output or Path(job.stem)
    if folder.exists() and not folder.is_dir():
        raise SettingError(f"{folder} is a file, and -o names a folder; choose another.")
    work = Work(found, which.chosen(found.lines), settings, library, model, ray, folder, which.part, where.force, bound)
    if where.dry_run:
        work.show()
        return
    if code := work.run():
        raise typer.Exit(code)


@dataclass(frozen=True)
class Work:
    """A job that was read and checked, and how to do it."""

    job: Job
    chosen: list[Line]
    settings: JobSettings
    library: Library
    model: options.ModelOptions
    ray: ray_options.WorkerOptions
    folder: Path
    part: Part | None
    force: bool
    book: BookSettings

    def identity(self) -> ModelIdentity:
        """Return the identity of the model, which is not loaded for it. Raises ModelMissing."""
        from fishcli.jobs.identity import ModelIdentity

        model = self.model
        with console.status("Reading the model"):
            return ModelIdentity.of(
                model.checkpoint_path,
                model.codec_path,
                device=model.device,
                dtype=model.loaded_dtype,
                quantize=model.quantize,
            )

    def show(self) -> None:
        """Show how much there is to speak, and how long it is expected to take."""
        from fishcli.cli import batch_progress
        from fishcli.jobs import speed
        from fishcli.jobs.identity import Addresses
        from fishcli.jobs.output import done

        identity = self.identity()
        made: set[str] = set()
        if self.folder.is_dir():
            addresses = Addresses(identity, self.library, self.settings)
            made = done(self.job, {line.id: addresses.of(line) for line in self.job.lines}, self.folder, read=False)
        batch_progress.show_plan(
            self.folder, self.chosen, made, self.job.problems, self.settings, speed.remembered(identity)
        )

    def run(self) -> int:
        """Speak the lines that are not made yet, report, and return the exit code."""
        from fishcli.checkpoints import local
        from fishcli.cli.batch_progress import JobProgress, report
        from fishcli.jobs import speed
        from fishcli.jobs.identity import Addresses
        from fishcli.jobs.output import Output

        identity = self.identity()
        if identity.name == local.BUILT_IN and any(line.voice or line.ref for line in self.chosen):
            console.warn("The built-in voice cannot clone; run `fish download` first.")
        addresses = Addresses(identity, self.library, self.settings)
        with Output(self.folder, self.part) as out:
            out.begin(self.job, self.chosen, addresses, self.force)
            with JobProgress(out.pending) as seen:
                if out.pending:
                    self._speak(out, seen)
            bound = self._bind(out)
            out.finish()
            speed.remember(identity, seen.seconds, seen.elapsed)
            return report(self.folder, len(self.chosen), seen, self.job.problems, out.left_over, bound)

    def _bind(self, out: Output) -> Bound:
        """Put the chapters together, and write the subtitles; a part of a job leaves them to the whole."""
        from fishcli.jobs.binding import Bound, bind

        if self.part is not None or not (self.job.chapters or self.book.subtitles):
            return Bound()
        with console.status("Putting the chapters together" if self.job.chapters else "Writing the subtitles"):
            return bind(self.job, out, self.book)

    def _speak(self, out: Output, seen: JobProgress) -> None:
        """Speak the pending lines. Whatever ends it early, the lines that have ended are kept."""
        results = self._results(out.pending, seen)
        signals.clean_up(saves=True)
        try:
            for line, sound, error in results:
                seen.saw(line, out.fail(line, error or "") if sound is None else out.put(line, sound))
                signals.saved()
        except (KeyboardInterrupt, SystemExit, FishError):
            count = f"{len(seen.made):,} of {len(out.pending):,} lines"
            console.note(f"{count} are done and kept; the same command again goes on from there.")
            raise

    def _results(self, lines: Sequence[Line], seen: JobProgress) -> Iterator[Result]:
        """Yield the lines as they end."""
        from fishcli.jobs import local
        from fishcli.jobs.render import Renderer

        if self.ray.on_ray:
            return self.ray.results(self.model, lines, self.library, self.settings, self.identity(), seen.begin)
        engine = self.model.load()
        seen.begin()
        return local.run(Renderer(engine, self.library, self.settings), lines, engine.max_batch)
