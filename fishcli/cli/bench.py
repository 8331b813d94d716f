"""`fish bench`: the speed of a model on this machine, and the cost of its quantization."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fishcli.cli import bench_serve, console, options, signals
from fishcli.cli.app import app, command
from fishcli.cli.bench_table import Line, counted, seconds, show, size
from fishcli.errors import SettingError

if TYPE_CHECKING:
    from fishcli.bench.quality import Quality
    from fishcli.bench.streams import Streams
    from fishcli.bench.suite import Speed
    from fishcli.bench.task import Task
    from fishcli.bench.timing import Spread

SERVER = "Server"
_MAX_BATCH = 256
_MAX_STREAMS = 64
_MIN_RATE, _MAX_RATE = 0.001, 1000.0  # requests per second
_RATE = 1.0  # requests per second
_REPEAT = 5
_UTTERANCES = 160
_MODEL_OPTIONS = ("checkpoint_path", "codec_path")


@dataclasses.dataclass(frozen=True)
class BenchOptions:
    """The options of `fish bench` itself."""

    # `--text` leads here too, as in every command.
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="Text to speak.", show_default="about five seconds")
    ] = None
    size: Annotated[
        Literal["full", "micro"] | None,
        typer.Option("--size", metavar="SIZE", help="Random weights: full, as Fish Speech 1.5, or micro, a toy."),
    ] = None
    batch: Annotated[str, typer.Option("--batch", help="Batch sizes.", metavar="N,N")] = "1,8"
    repeat: Annotated[int, typer.Option("--repeat", help="Repetitions of each measurement.", min=1, metavar="N")] = (
        _REPEAT
    )
    quality: Annotated[bool, typer.Option("--quality", help="Compare int8 and int4 with full precision too.")] = False
    utterances: Annotated[
        int,
        typer.Option("--utterances", help="Utterances to transcribe with --quality.", min=1, metavar="N"),
    ] = _UTTERANCES

    streams: Annotated[
        int | None,
        typer.Option(
            "--streams",
            help="Measure this many streams at once instead.",
            metavar="N",
            min=1,
            max=_MAX_STREAMS,
        ),
    ] = None
    arrivals: Annotated[
        float | None,
        typer.Option(
            "--arrivals",
            help="Requests per second, at random times.",
            metavar="RATE",
            show_default="1; with --serve each client waits for its answer",
        ),
    ] = None
    references: Annotated[
        Literal["codes", "audio", "cached"],
        typer.Option("--references", help="With --streams: new codes, new audio or cached.", metavar="KIND"),
    ] = "codes"

    serve: Annotated[
        bool,
        typer.Option("--serve", help="Measure a server: TEXT is its URL, if it runs already.", rich_help_panel=SERVER),
    ] = False
    format: Annotated[
        Literal["pcm", "wav"],
        typer.Option("--format", help="Format of its answers: pcm or wav.", metavar="NAME", rich_help_panel=SERVER),
    ] = "pcm"
    raw: Annotated[
        Path | None, typer.Option("--raw", help="Keep all times, as JSON.", metavar="FILE", rich_help_panel=SERVER)
    ] = None
    api_key_file: Annotated[Path | None, options.api_key_option(SERVER)] = None

    def batches(self) -> list[int]:
        """Return the batch sizes of --batch. Raises SettingError."""
        try:
            counts = [int(word) for word in self.batch.split(",")]
        except ValueError:
            counts = [0]
        if not all(1 <= count <= _MAX_BATCH for count in counts):
            raise SettingError(f"--batch must be numbers from 1 to {_MAX_BATCH}, such as 1,8, not {self.batch!r}.")
        return counts

    def served(self) -> bench_serve.ServeOptions | None:
        """Return what is asked of a server with --serve. Raises SettingError for what does not fit together."""
        if not self.serve:
            if self.raw is not None or self.api_key_file is not None:
                raise SettingError("--raw and --api-key-file belong to --serve; add it.")
            return None
        if self.text is not None and self.size is not None:
            raise SettingError("--size is for a server of its own; leave it out, or the URL.")
        asked = bench_serve.ServeOptions(
            self.text, self.streams or 1, self.repeat, self.arrivals, self.format, self.raw, self.api_key_file
        )
        bench_serve.check(asked)
        return asked

    def check_arrivals(self) -> None:
        """Raise SettingError for a rate that is out of range or not a number."""
        if self.arrivals is not None and not _MIN_RATE <= self.arrivals <= _MAX_RATE:
            raise SettingError(f"--arrivals must be from {_MIN_RATE:g} to {_MAX_RATE:g}, not {self.arrivals:g}.")


@command(app)
def bench(context: typer.Context, model: options.ModelOptions, asked: BenchOptions) -> None:
    """Measure the speed of a model on this machine.

    It measures each part by itself, and a sentence; with --streams, many streams at once; with --serve, a server.

    Examples:
      fish bench
      fish bench --size micro --batch 1,4,16 --repeat 2
      fish bench --streams 8 --arrivals 0.5
      fish bench --serve --streams 4 --size micro
    """
    batches = asked.batches()
    asked.check_arrivals()
    if asked.size is not None:
        _refuse_others(context)
    served = asked.served()
    if asked.size is not None:
        model = _random(model, asked.size)
    if served is not None:
        bench_serve.bench_server(model, served)
        return
    engine = model.load()
    with console.status("Loading the model"):
        from fishcli.bench.player import TEXT
        from fishcli.bench.suite import machine
        from fishcli.bench.task import Task
        from fishcli.doctor.machine import processor

        # The load average of now, before this command adds to it.
        described = {"processor": processor().value, **dataclasses.asdict(machine(engine))}
    signals.clean_up()
    task = Task(engine, asked.repeat, model.codec_path, TEXT if asked.text is None else asked.text)
    fields, lines, note = _measure(task, asked, batches)
    name = f"{asked.size} random weights" if asked.size else engine.model.name
    if console.flags.json:
        console.result({"model": name, "machine": described, **fields})
        return
    title = f"{name} on {described.pop('processor')}"
    show(title, described, lines)
    if note:
        console.note(note)


def _measure(task: Task, asked: BenchOptions, batches: list[int]) -> tuple[dict[str, object], list[Line], str | None]:
    """Return the measurements as fields and as lines, and a note on what was left out."""
    from fishcli.bench import quality, streams
    from fishcli.bench.suite import measure

    if asked.streams is None:
        speed = measure(task, batches, console.status)
        fields, lines = dataclasses.asdict(speed), [*_speed(speed)]
    else:
        load = streams.Load(asked.streams, asked.streams * asked.repeat, asked.arrivals or _RATE, asked.references)
        heard = streams.measure(task, load, console.status)
        fields, lines = {"streams": dataclasses.asdict(heard)}, [*_streams(heard)]
    if not asked.quality:
        return fields, lines, None
    compared = quality.measure(task, asked.utterances, console.status)
    return fields | {"quality": dataclasses.asdict(compared)}, [*lines, *_quality(compared)], compared.unheard


def _refuse_others(context: typer.Context) -> None:
    """Raise SettingError if --size stands beside another model; models in the settings give way to it."""
    for name in _MODEL_OPTIONS:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise SettingError(f"--size and --{name.replace('_', '-')} contradict each other; give one of them.")


def _random(model: options.ModelOptions, size: Literal["full", "micro"]) -> options.ModelOptions:
    """Return the options with a checkpoint of random weights as their model."""
    with console.status("Making a checkpoint"):
        from fishcli.testing.checkpoint import cached

        signals.clean_up()
        return dataclasses.replace(model, checkpoint_path=str(cached(size)), codec_path=None)


def _speed(speed: Speed) -> Iterator[Line]:
    prefill = speed.prefill
    rate = f"{prefill.positions_per_second.median:.0f} positions/s"
    yield _timed(f"prefill of {prefill.positions} positions", prefill.seconds, rate)
    for step in speed.decode_step:
        rate = f"{step.frames_per_second.median:.1f} frames/s"
        yield _timed(f"decode step, batch of {step.batch}", step.seconds, rate)
    if len(speed.decode_step) > 1:
        yield Line("batch that saturates the device", _saturation(speed))
    for decode in speed.codec_decode:
        name = f"codec, a frame in pieces of {decode.frames}"
        yield _timed(name, decode.seconds_per_frame, f"{1 / decode.seconds_per_frame.median:.1f} frames/s")
    yield _timed(f"codec, encoding {speed.codec_encode.audio_seconds:g} s", speed.codec_encode.seconds)
    yield _timed("time to first audio, cached voice", speed.first_audio.cached)
    yield _timed("time to first audio, new voice", speed.first_audio.new)
    for sentence in speed.sentence:
        factor, tokens = sentence.real_time_factor.median, sentence.tokens_per_second.median
        whole = f"{tokens:.1f} tokens/s, real-time factor {factor:.2f}"
        voice = "cached" if sentence.cached_voice else "new"
        yield _timed(f"sentence of {counted(sentence.frames, 'frame')}, {voice} voice", sentence.seconds, whole)
    yield from _start(speed)
    yield from _roofline(speed)


def _saturation(speed: Speed) -> str:
    """Return the batch beyond which more sequences gain nothing, if one was measured."""
    largest = max(step.batch for step in speed.decode_step)
    return str(speed.saturation) if speed.saturation < largest else f"more than {largest}, or {largest}"


def _start(speed: Speed) -> Iterator[Line]:
    peak = f"peak memory {size(speed.start.peak_memory)}, " if speed.start.peak_memory else ""
    name = "time to first audio, new process"
    yield _timed(name, speed.start.seconds, f"{peak}weights {size(speed.start.weights)}")


def _roofline(speed: Speed) -> Iterator[Line]:
    roofline = speed.roofline
    slow = f"{size(roofline.slow_bytes)} at {size(roofline.slow_bandwidth)}/s"
    fast = f"{roofline.codebooks} x {size(roofline.fast_bytes)} at {size(roofline.fast_bandwidth)}/s"
    yield Line("memory roofline, batch of 1", f"{roofline.frames_per_second:.1f} frames/s", "", f"{slow}, {fast}")
    if speed.device_memory is not None:
        yield Line("peak device memory", size(speed.device_memory))
    # More than all of it: the bandwidth was lower when it was measured, or the weights stay in the caches.
    yield Line("share of the roofline", f"{min(1.0, roofline.efficiency):.0%}")


def _streams(heard: Streams) -> Iterator[Line]:
    waits = heard.time_to_first_audio
    tail = f"p95 {seconds(waits.p95)}, p99 {seconds(waits.p99)}"
    many = f"{counted(heard.requests, 'request')} on {counted(heard.streams, 'stream')}"
    yield Line(f"time to first audio, {many}", seconds(waits.p50), "", tail)
    where = f"in {counted(heard.streams_with_gaps_over_100_ms, 'request')}, longest {seconds(heard.longest_gap)}"
    yield Line("gaps over 100 ms", str(heard.gaps_over_100_ms), "", f"{where}, {heard.gaps} of any length")
    enough = f"enough for {heard.real_time_streams:.1f} streams in real time"
    yield Line("all streams", f"{heard.frames_per_second:.1f} frames/s", "", enough)
    batch = f"batch of {heard.step_batch:.1f} on average"
    yield Line("decode steps alone", f"{heard.step_frames_per_second:.1f} frames/s", "", batch)
    if heard.peak_memory:
        yield Line("peak memory", size(heard.peak_memory))


def _quality(quality: Quality) -> Iterator[Line]:
    for each in quality.fidelity:
        same = f"same most likely code at {each.same_argmax:.1%} of {each.positions} positions"
        cosines = f"{each.cosine_mean:.5f}", f"minimum {each.cosine_minimum:.5f}"
        yield Line(f"{each.kind}, cosine similarity of logits", *cosines, same)
    for heard in quality.heard or ():
        yield Line(
            f"{heard.kind}, word error rate", f"{heard.word_error_rate:.3f}", "", f"{heard.utterances} utterances"
        )


def _timed(name: str, spread: Spread, notes: str = "") -> Line:
    extremes = f"{seconds(spread.minimum)} to {seconds(spread.maximum)}"
    return Line(name, seconds(spread.median), extremes, notes)
