"""The models on this machine: whether they are whole, and how fast the chosen one speaks."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fishcli.checkpoints import download, local
from fishcli.config import Settings, Value
from fishcli.doctor.check import Check, State, repair_command, unset
from fishcli.errors import FishError, InputError

if TYPE_CHECKING:
    from fishcli.engine import Engine
    from fishcli.request import Request

_LOADED_WITH = ("checkpoint_path", "codec_path", "device", "dtype", "quantize", "compile", "threads")
_TRIAL = 12  # frames: two pieces of sound


def checks(settings: Settings, verify: bool) -> Iterator[Check]:
    """The model that would speak, and each one that is here."""
    chosen, named = _chosen(settings)
    here = local.models()
    if chosen and not any(_same(chosen, found) for found in here):
        here = [chosen, *here]
    yield named
    for found in here:
        yield _state(found, verify, in_use=chosen is not None and _same(chosen, found))


def size(settings: Settings) -> int:
    """Bytes of the language model that would speak; 0 if there is none."""
    chosen, _ = _chosen(settings)
    path = chosen.path / "model.pth" if chosen else None
    return path.stat().st_size if path and path.is_file() else 0


def _same(one: local.Found, other: local.Found) -> bool:
    return one.path.resolve() == other.path.resolve()


def _chosen(settings: Settings) -> tuple[local.Found | None, Check]:
    """The model that would speak, whole or not."""
    named, codec = settings.find("checkpoint_path"), settings.find("codec_path")
    try:
        found = local.find(_text(named.value), needed=())
    except FishError as error:
        return None, Check("model", f"{named.value}, from {named.source}", "fail", str(error))
    if codec.value is not None and not Path(str(codec.value)).is_file():
        return found, Check("model", f"there is no codec at {codec.value}", "fail", unset(codec))
    if found.built_in:
        remedy = "" if named.value else "run `fish download` for Fish Speech 1.5, in many languages"
        return found, Check("model", "the built-in voice, English only", remedy=remedy)
    return found, Check("model", found.name)


def _state(found: local.Found, verify: bool, in_use: bool) -> Check:
    """Whether a model is whole: by its files' sizes, or by every byte of them.

    The built-in voice has no record of the hub's; the checksums inside its weights serve.
    """
    bad: State = "fail" if in_use else "warn"
    name = f"{found.name}, {_size(found.path) / 1e6:,.0f} MB"
    try:
        if reason := local.fault(found.path):
            return Check("on disk", f"{name}: {reason}", bad, f"run `{repair_command(found)}`")
        if not verify:
            return Check("on disk", f"{name}, has all its files")
        if not found.built_in and not (found.path / local.RECORD).exists():
            return Check("on disk", f"{name}: nothing to check it against", "warn", f"run `{repair_command(found)}`")
        damaged = damaged_weights(found.path) if found.built_in else _damaged_files(found.path)
    except FishError as error:  # its record is damaged
        return Check("on disk", name, bad, str(error))
    if damaged:
        return Check("on disk", f"{name}: {', '.join(damaged)} damaged", "fail", f"run `{repair_command(found)}`")
    return Check(
        "on disk",
        f"{name}, every byte of its weights is sound" if found.built_in else f"{name}, every byte as on the hub",
    )


def _damaged_files(path: Path) -> list[str]:
    return [event.name for event in download.verify(path) if isinstance(event, download.Damaged)]


def damaged_weights(path: Path) -> list[str]:
    """The weights in a checkpoint folder that differ from their own checksums: a `.pth` file is a zip archive."""
    return [name for name in ("model.pth", local.CODEC) if not _is_sound(path / name)]


def _is_sound(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # no list is complete: a damaged file reaches every corner of zipfile
        return False


def _size(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in local.FILES if (folder / name).is_file())


def trial(settings: Settings, verify: bool) -> Check:
    """With `verify`, whether the chosen model speaks as the settings say, and how fast; else no weights are loaded.

    Speaking maps the converted copies, whose digests `storage.checks` has compared, or makes them from the source,
    every key and shape of which is then checked.
    """
    from fishcli.engine import load
    from fishcli.request import Request, SamplingParams

    values = {name: settings.find(name).value for name in _LOADED_WITH}
    try:
        engine = load(
            _text(values["checkpoint_path"]),
            codec=_text(values["codec_path"]),
            device=str(values["device"]),
            dtype=str(values["dtype"]),
            quantize=str(values["quantize"]),
            compile=bool(values["compile"]),
            threads=None if values["threads"] is None else int(values["threads"]),
        )
        if not verify:
            return Check("speed", "not measured", remedy="run `fish doctor --verify`")
        request = Request("This is how fast it is.", sampling=SamplingParams(seed=0, max_new_tokens=_TRIAL))
        rate = _frames_per_second(engine, request)
    except (FishError, RuntimeError) as error:  # torch raises the latter where a device does not work
        reason = str(error).split("\n", 1)[0]
        return Check("speed", "the model cannot speak", "fail", reason)
    return Check("speed", f"{rate:.1f} tokens/s, {engine.frame_rate / rate:.2f} s for a second of speech")


def _frames_per_second(engine: Engine, request: Request) -> float:
    """The rate after the first piece of sound, before which the model is loaded and the prompt read."""
    times, frames = [], []
    for chunk in engine.speak(request):
        times.append(time.perf_counter())
        frames.append(chunk.codes.shape[1])
    if len(times) < 2:
        raise InputError("The model ends a sentence before it has begun; run `fish download` to get it anew.")
    return sum(frames[1:]) / (times[-1] - times[0])


def _text(value: Value | None) -> str | None:
    return None if value is None else str(value)
