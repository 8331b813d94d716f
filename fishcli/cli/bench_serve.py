"""`fish bench --serve`: the speed of a server, as its clients see it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fishcli.cli import console, keys, options, signals
from fishcli.cli.bench_table import Line, counted, seconds, show, size
from fishcli.errors import FishError, SettingError

if TYPE_CHECKING:
    from fishcli.bench.http_load import Load, Target
    from fishcli.bench.player import Percentiles
    from fishcli.bench.serve import Served


@dataclasses.dataclass(frozen=True)
class ServeOptions:
    """The load on a server and its address; without `url`, a server is started for the measurement."""

    url: str | None
    streams: int
    repeat: int
    arrivals: float | None
    format: Literal["pcm", "wav"]
    raw: Path | None
    api_key_file: Path | None


def bench_server(model: options.ModelOptions, asked: ServeOptions) -> None:
    """Measure a server, and show what its clients heard."""
    from fishcli.bench import serve
    from fishcli.bench.http_load import Load

    signals.clean_up()
    load = Load(asked.streams, asked.streams * asked.repeat, asked.arrivals)
    with _target(model, asked) as target:
        engine = _engine_first_audio(model, load, asked.repeat) if asked.url is None else None
        served = serve.measure(target, load, asked.repeat, console.status)
    if asked.raw is not None:
        _keep(asked.raw, {"url": target.url, **served.raw})
    if console.flags.json:
        fields = {"load": served.load, "alone": served.alone, "engine_first_audio": engine}
        measured = {name: dataclasses.asdict(value) if value else None for name, value in fields.items()}
        console.result({"url": target.url, **measured, "raw": served.raw})
        return
    lines = [*_lines(served.load)]
    if served.alone is not None:
        lines += _first_audio("one client alone", served.alone.time_to_first_audio)
    if engine is not None:
        lines += _first_audio("the engine itself", engine)
    show(f"{target.base}{target.route}", _described(load), lines)


@contextlib.contextmanager
def _target(model: options.ModelOptions, asked: ServeOptions) -> Iterator[Target]:
    """Yield the server to measure, started for it where no URL is given."""
    import secrets

    from fishcli.bench import own_server
    from fishcli.bench.http_load import Target

    if asked.url is not None:
        yield Target(asked.url, keys.api_key(asked.api_key_file), asked.format)
        return
    with tempfile.TemporaryDirectory(prefix="fishcli-") as folder:
        file, key = Path(folder) / "key", secrets.token_urlsafe()
        file.touch(0o600)
        file.write_text(key, encoding="ascii")
        with contextlib.ExitStack() as stack:
            with console.status("Starting a server"):
                url = stack.enter_context(own_server.running([*_arguments(model), "--api-key-file", str(file)]))
            yield Target(url, key, asked.format)


def _engine_first_audio(model: options.ModelOptions, load: Load, repeat: int) -> Percentiles:
    """Measure the engine without a server, while the server that was started is idle."""
    from fishcli.bench import own_server

    with console.status("Measuring the engine itself"):
        return own_server.engine_first_audio(_loading(model), dataclasses.replace(load, requests=repeat))


def _arguments(model: options.ModelOptions) -> list[str]:
    """Return the options of a command line that mean the same model."""
    words: list[str] = []
    for field in dataclasses.fields(model):
        name, value = f"--{field.name.replace('_', '-')}", getattr(model, field.name)
        if value is False and field.name == "compile":
            words.append("--no-compile")
        elif value is True:
            words.append(name)
        elif value not in (None, False):
            words += [name, str(value)]
    return words


def _loading(model: options.ModelOptions) -> dict[str, Any]:
    """Return the arguments of `load` that mean the same model, as JSON can hold them."""
    values = {name: str(value) if isinstance(value, Path) else value for name, value in vars(model).items()}
    own = ("checkpoint_path", "codec_path", "dtype", "half")
    return {
        **{name: value for name, value in values.items() if name not in own},
        "model": values["checkpoint_path"],
        "codec": values["codec_path"],
        "dtype": model.loaded_dtype,
    }


def _keep(file: Path, raw: dict[str, Any]) -> None:
    """Write all times to a file."""
    from fishcli import files

    with files.writing(file) as opened:
        opened.write(json.dumps(raw).encode())


def check(asked: ServeOptions) -> None:
    """Raise SettingError for options that do not fit each other, before anything is started."""
    if asked.url is None and asked.api_key_file is not None:
        raise SettingError("--api-key-file is the key of another server; give its URL after --serve.")
    if asked.raw is not None and asked.raw.is_dir():
        raise FishError(f"{asked.raw} is a folder; name a file for --raw.")


def _described(load: Load) -> dict[str, object]:
    loop = "closed loop" if load.arrivals is None else f"{load.arrivals:g} requests/s"
    return {"clients": load.streams, "requests": load.requests, "load": loop}


def _lines(served: Served) -> Iterator[Line]:
    many = f"{counted(served.requests, 'request')} on {counted(served.streams, 'stream')}"
    yield from _first_audio(many, served.time_to_first_audio)
    gaps = f"{served.gaps_over_100_ms} gaps over 100 ms, longest {seconds(served.longest_gap)}"
    yield Line("without a gap over 100 ms", f"{served.continuous} of {served.requests}", "", gaps)
    enough = f"enough for {served.real_time_streams:.1f} streams in real time, as computed from it"
    yield Line("all streams", f"{served.audio_seconds_per_second:.2f} s of audio/s", "", enough)
    errors = ", ".join(f"{kind}: {count}" for kind, count in served.errors.items())
    yield Line("errors", str(sum(served.errors.values())), "", errors)
    if served.health is not None:
        tail = f"p95 {seconds(served.health.p95)}, p99 {seconds(served.health.p99)}"
        yield Line("/v1/health meanwhile", seconds(served.health.p50), "", tail)
    if served.memory is not None:
        yield Line("memory of the server", size(served.memory))
    yield Line("processor time of these clients", f"{served.client_cpu:.0%}")


def _first_audio(who: str, waits: Percentiles | None) -> Iterator[Line]:
    if waits is None:
        yield Line(f"time to first audio, {who}", "never")
    else:
        tail = f"p95 {seconds(waits.p95)}, p99 {seconds(waits.p99)}"
        yield Line(f"time to first audio, {who}", seconds(waits.p50), "", tail)
