"""Checks of the models on this machine, and the speed of the selected one."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fishcli.checkpoints import download, local
from fishcli.config import Resolved, Settings, Value
from fishcli.doctor.check import Check, State, repair_command, unset
from fishcli.errors import FishError, InputError

if TYPE_CHECKING:
    from fishcli.engine import Engine

_LOADED_WITH = ("checkpoint_path", "codec_path", "device", "dtype", "quantize", "compile", "threads", "kv_memory")
_TRIAL = 12  # frames: two audio chunks


def checks(settings: Settings, verify: bool) -> Iterator[Check]:
    """Check the selected model, and each model on this machine."""
    chosen, named = _chosen(settings)
    here = local.models()
    if chosen and not any(_same(chosen, found) for found in here):
        here = [chosen, *here]
    yield named
    for found in here:
        yield _state(found, verify, in_use=chosen is not None and _same(chosen, found))


def size(settings: Settings) -> int:
    """Return the size in bytes of the language model of the selected model; 0 if there is none."""
    chosen, _ = _chosen(settings)
    path = chosen.path / "model.pth" if chosen else None
    return path.stat().st_size if path and path.is_file() else 0


def _same(one: local.Found, other: local.Found) -> bool:
    return one.path.resolve() == other.path.resolve()


def _chosen(settings: Settings) -> tuple[local.Found | None, Check]:
    """Return the selected model, which may be incomplete."""
    named, codec = settings.find("checkpoint_path"), settings.find("codec_path")
    try:
        found = local.find(_text(named.value), needed=())
    except FishError as error:
        return None, Check("model", f"{named.value}, from {named.source}", "fail", str(error))
    if codec.value is not None and not Path(str(codec.value)).is_file():
        return found, Check("model", f"codec_path does not exist: {codec.value}", "fail", unset(codec))
    if found.built_in:
        remedy = "" if named.value else "run `fish download` for Fish Speech 1.5, which is multilingual"
        return found, Check("model", "the built-in voice, English only", remedy=remedy)
    return found, Check("model", found.name)


def _state(found: local.Found, verify: bool, in_use: bool) -> Check:
    """Check the files of a model: their sizes or, with `verify`, their checksums.

    The built-in voice has no record of a download; its weights have checksums of their own.
    """
    bad: State = "fail" if in_use else "warn"
    name = f"{found.name}, {_size(found.path) / 1e6:,.0f} MB"
    try:
        if reason := local.fault(found.path):
            return Check("on disk", f"{name}: {reason}", bad, f"run `{repair_command(found)}`")
        if not verify:
            return Check("on disk", f"{name}, complete")
        if not found.built_in and not (found.path / local.RECORD).exists():
            return Check("on disk", f"{name}: no checksums to verify", "warn", f"run `{repair_command(found)}`")
        damaged = damaged_weights(found.path) if found.built_in else _damaged_files(found.path)
    except FishError as error:  # the record is damaged
        return Check("on disk", name, bad, str(error))
    if damaged:
        return Check("on disk", f"{name}: {', '.join(damaged)} damaged", "fail", f"run `{repair_command(found)}`")
    return Check(
        "on disk",
        f"{name}, checksums verified",
    )


def _damaged_files(path: Path) -> list[str]:
    return [event.name for event in download.verify(path) if isinstance(event, download.Damaged)]


def damaged_weights(path: Path) -> list[str]:
    """Return the weights in a folder with wrong checksums: a `.pth` file is a zip archive, which has them."""
    return [name for name in ("model.pth", local.CODEC) if not _is_intact(path / name)]


def _is_intact(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # a damaged file can raise any error of zipfile
        return False


def _size(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in local.FILES if (folder / name).is_file())


def trial(settings: Settings, verify: bool) -> Iterator[Check]:
    """Check the KV cache of the selected model and, with `verify`, its speed; else no weights are loaded.

    Speaking uses the converted copies, whose checksums `storage.checks` verifies, or converts the source, which
    validates every key and shape.
    """
    try:
        engine = _load(settings)
        yield _kv_cache(engine, settings)
        if not verify:
            yield Check("speed", "not measured", remedy="run `fish doctor --verify`")
            return
        rate = _frames_per_second(engine)
    except (FishError, RuntimeError) as error:  # torch raises the latter if a device does not work
        reason = str(error).split("\n", 1)[0]
        yield Check("speed", "the model does not work", "fail", reason)
        return
    yield Check("speed", f"{rate:.1f} tokens/s, real-time factor {engine.frame_rate / rate:.2f}")


def _load(settings: Settings) -> Engine:
    """Load the selected model as a command would."""
    from fishcli.engine import load

    values = {name: settings.find(name).value for name in _LOADED_WITH}
    return load(
        _text(values["checkpoint_path"]),
        codec=_text(values["codec_path"]),
        device=str(values["device"]),
        dtype=str(values["dtype"]),
        quantize=str(values["quantize"]),
        compile=None if values["compile"] is None else bool(values["compile"]),
        threads=_integer(values["threads"]),
        kv_memory=_integer(values["kv_memory"]),
    )


def _kv_cache(engine: Engine, settings: Settings) -> Check:
    from fishcli.runners.plan import kv_position_bytes

    length = engine.lm_settings.max_seq_len
    size = kv_position_bytes(engine.lm_settings, engine.plan)
    return kv_cache(settings.find("kv_memory"), engine.kv_positions, size, length)


def kv_cache(chosen: Resolved, positions: int, position_bytes: int, length: int) -> Check:
    """Check the KV cache: `positions` in all, each of `position_bytes`, for sequences of `length` positions."""
    value = f"{positions * position_bytes / 1e6:,.0f} MB, {positions:,} positions"
    if positions < length:
        return Check("KV cache", f"{value}, too few for a sequence of {length:,}", "warn", unset(chosen))
    count = positions // length
    return Check("KV cache", f"{value} ({count} sequence{'' if count == 1 else 's'} of {length:,})")


def _frames_per_second(engine: Engine) -> float:
    """Return the rate after the first audio chunk, which includes loading and prefill."""
    from fishcli.request import Request, SamplingParams

    request = Request("This is how fast it is.", sampling=SamplingParams(seed=0, max_new_tokens=_TRIAL))
    times, frames = [], []
    for chunk in engine.speak(request):
        times.append(time.perf_counter())
        frames.append(chunk.codes.shape[1])
    if len(times) < 2:
        raise InputError("The model ends a sentence at once; run `fish download` to repair it.")
    return sum(frames[1:]) / (times[-1] - times[0])


def _text(value: Value | None) -> str | None:
    return None if value is None else str(value)


def _integer(value: Value | None) -> int | None:
    return None if value is None else int(value)
