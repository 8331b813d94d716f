"""`fish bench`: how fast a model is here, and what its quantization costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from fishcli.cli import console, options, signals
from fishcli.cli.app import app, command
from fishcli.errors import SettingError

if TYPE_CHECKING:
    from fishcli.bench import Speed, Spread
    from fishcli.bench.quality import Quality

_MAX_BATCH = 64
_REPEAT = 5
_UTTERANCES = 160
_MODEL_OPTIONS = ("checkpoint_path", "codec_path")


@dataclasses.dataclass(frozen=True)
class BenchOptions:
    """What is measured, and how often."""

    # `--text` leads here too, as in every command.
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What is spoken, about five seconds long.")] = None
    size: Annotated[
        Literal["full", "micro"] | None,
        typer.Option("--size", help="Measure a checkpoint of random weights: as large as Fish Speech 1.5, or a toy."),
    ] = None
    batch: Annotated[str, typer.Option("--batch", help="Batch sizes to measure, such as 1,8.", metavar="N,N")] = "1,8"
    repeat: Annotated[int, typer.Option("--repeat", help="How often each is measured.", min=1)] = _REPEAT
    quality: Annotated[bool, typer.Option("--quality", help="Compare int8 and int4 with full precision too.")] = False
    utterances: Annotated[
        int, typer.Option("--utterances", help="How many are listened to, of the built-in voice.", min=1)
    ] = _UTTERANCES

    def counts(self) -> list[int]:
        """What --batch names."""
        try:
            counts = [int(word) for word in self.batch.split(",")]
        except ValueError:
            counts = [0]
        if not all(1 <= count <= _MAX_BATCH for count in counts):
            raise SettingError(f"--batch must be numbers from 1 to {_MAX_BATCH}, such as 1,8, not {self.batch!r}.")
        return counts


@command(app)
def bench(context: typer.Context, model: options.ModelOptions, asked: BenchOptions) -> None:
    """Measure how fast a model speaks here, part by part: medians, with the least and the most.

    [cyan]fish bench[/cyan]
    [cyan]fish bench --size micro --batch 1,4,16 --repeat 2[/cyan]
    """
    counts = asked.counts()
    if asked.size is not None:
        _refuse_others(context)
        model = _random(model, asked.size)
    engine = model.load()
    with console.status("loading"):
        from fishcli.bench import TEXT, Task, machine, measure, quality
        from fishcli.doctor.machine import processor

        # Before it is this command that the processors are busy with.
        described = {"processor": processor().value, **dataclasses.asdict(machine(engine))}
    signals.clean_up()
    task = Task(engine, asked.repeat, model.codec_path, TEXT if asked.text is None else asked.text)
    speed = measure(task, counts, console.status)
    compared = quality.measure(task, asked.utterances, console.status) if asked.quality else None
    name = f"{asked.size} random weights" if asked.size else engine.model.name
    if console.flags.json:
        fields = {"model": name, "machine": described, **dataclasses.asdict(speed)}
        console.result(fields | {"quality": dataclasses.asdict(compared)} if compared else fields)
        return
    title = f"{name} on {described.pop('processor')}"
    _show(title, described, [*_speed(speed), *(_quality(compared) if compared else [])])
    if compared and compared.unheard:
        console.note(compared.unheard)


def _refuse_others(context: typer.Context) -> None:
    """--size beside the name of another model; a setting of one gives way to it."""
    for name in _MODEL_OPTIONS:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise SettingError(f"--size and --{name.replace('_', '-')} contradict each other; give one of them.")


def _random(model: options.ModelOptions, size: Literal["full", "micro"]) -> options.ModelOptions:
    """The same options for a checkpoint of random weights."""
    with console.status("making a checkpoint"):
        from fishcli.testing.checkpoint import cached

        signals.clean_up()
        return dataclasses.replace(model, checkpoint_path=str(cached(size)), codec_path=None)


class _Line(NamedTuple):
    """One figure: what was measured, the median, the least and the most, and what that comes to."""

    what: str
    median: str
    extremes: str = ""
    comes_to: str = ""


def _speed(speed: Speed) -> Iterator[_Line]:
    prefill = speed.prefill
    rate = f"{prefill.columns_per_second.median:.0f} columns/s"
    yield _timed(f"prompt of {prefill.columns} columns", prefill.seconds, rate)
    for frame in speed.frame:
        rate = f"{frame.frames_per_second.median:.1f} frames/s"
        yield _timed(f"frame, {_counted(frame.rows, 'row')}", frame.seconds, rate)
    for decode in speed.decode:
        what = f"decoding a frame, {decode.frames} at once"
        yield _timed(what, decode.seconds_per_frame, f"{1 / decode.seconds_per_frame.median:.1f} frames/s")
    yield _timed(f"encoding {speed.encode.audio:g} s", speed.encode.seconds)
    yield _timed("first sound, known voice", speed.first_audio.known)
    yield _timed("first sound, new voice", speed.first_audio.new)
    for sentence in speed.sentence:
        factor, tokens = sentence.real_time_factor.median, sentence.tokens_per_second.median
        whole = f"{tokens:.1f} tokens/s, real-time factor {factor:.2f}"
        voice = "known" if sentence.known_voice else "new"
        yield _timed(f"{_counted(sentence.frames, 'frame')}, {voice} voice", sentence.seconds, whole)
    yield from _start(speed)
    yield from _limit(speed)


def _start(speed: Speed) -> Iterator[_Line]:
    peak = f"at most {_bytes(speed.start.peak)}, " if speed.start.peak else ""
    yield _timed("first sound of a new process", speed.start.seconds, f"{peak}weights {_bytes(speed.start.weights)}")


def _limit(speed: Speed) -> Iterator[_Line]:
    limit = speed.limit
    slow = f"{_bytes(limit.slow_bytes)} at {_bytes(limit.slow_rate)}/s"
    fast = f"{limit.codebooks} x {_bytes(limit.fast_bytes)} at {_bytes(limit.fast_rate)}/s"
    yield _Line("reading the weights allows", f"{limit.frames_per_second:.1f} frames/s", "", f"{slow}, {fast}")
    yield _Line("of which one row has", f"{limit.share:.1%}")


def _quality(quality: Quality) -> Iterator[_Line]:
    for each in quality.fidelity:
        choices = f"the same choice at {each.same_choice:.1%} of {each.positions}"
        yield _Line(f"{each.kind}, cosine", f"{each.cosine_mean:.5f}", f"{each.cosine_minimum:.5f} at least", choices)
    for heard in quality.heard or ():
        yield _Line(
            f"{heard.kind}, word error rate", f"{heard.word_error_rate:.3f}", "", f"{heard.utterances} utterances"
        )


def _timed(what: str, spread: Spread, comes_to: str = "") -> _Line:
    extremes = f"{_seconds(spread.minimum)} to {_seconds(spread.maximum)}"
    return _Line(what, _seconds(spread.median), extremes, comes_to)


def _show(title: str, described: Mapping[str, object], lines: Sequence[_Line]) -> None:
    run = ", ".join(f"{name} {value}" for name, value in described.items())
    if not console.stdout.is_terminal:
        console.listing(f"{title}\n{run}")
        for what, median, extremes, comes_to in lines:
            console.listing(
                f"{what}: {median}{f' ({extremes})' if extremes else ''}{f', {comes_to}' if comes_to else ''}"
            )
        return
    table = Table(title=Text(title), caption=Text(run), box=None, padding=(0, 1), pad_edge=False)
    table.add_column()
    table.add_column("median", justify="right")
    table.add_column("least to most", style="dim")
    table.add_column()
    for line in lines:
        table.add_row(*map(Text, line))
    console.stdout.print(table)


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.1f} ms"


def _bytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
