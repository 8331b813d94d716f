"""The processor and the device: number format, threads, compiler, speed."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fishcli.config import Resolved, Settings
from fishcli.doctor.check import Check, unset
from fishcli.errors import SettingError
from fishcli.native import build

if TYPE_CHECKING:
    import torch

# As Linux spells them, the fastest first.
_FEATURES = {
    "amx_tile": "AMX",
    "avx512_bf16": "AVX512-BF16",
    "avx512f": "AVX512",
    "avx2": "AVX2",
    "bf16": "BF16",
    "asimd": "NEON",
}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_GROUPS = Path("/sys/fs/cgroup")


def checks(settings: Settings, environ: Mapping[str, str], size: int) -> Iterator[Check]:
    """What the settings come to on this machine, for a model of `size` bytes. Needs torch."""
    from fishcli.runners.plan import physical_cores, pick_device, pick_native, pick_threads

    yield processor()
    chosen = settings.find("device")
    try:
        device = pick_device(str(chosen.value))
    except SettingError:
        yield Check("device", f"{chosen.value} is not there", "fail", f"{unset(chosen)} to use what is")
        device = pick_device("auto")
    yield _device(device)
    dtype, quantize = str(settings.find("dtype").value), str(settings.find("quantize").value)
    wanted = pick_native(device, dtype, quantize, size, bool(settings.find("compile").value))
    compiled = wanted and build.why_not() is None
    yield _dtype(settings.find("dtype"), device, size, compiled)
    yield _quantize(settings.find("quantize"), device, size, compiled)
    cores, quota = physical_cores(), cpu_quota(_GROUPS, Path("/proc/self/cgroup"))
    yield from threads(settings.find("threads"), environ, cores, quota, own=pick_threads(None, size))
    yield from company(environ, cores, os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0)
    yield _compile(device)


def processor() -> Check:
    """Its name, and what it has that multiplies matrices fast."""
    import torch

    info = _text(Path("/proc/cpuinfo"))
    features = cpu_features(info) or [torch.backends.cpu.get_cpu_capability()]
    slow = platform.machine().lower() in ("x86_64", "amd64") and features == ["DEFAULT"]
    value = f"{_cpu_name(info)} ({', '.join(features)})"
    return (
        Check("processor", value, "warn", "without AVX2 expect it to be very slow")
        if slow
        else Check("processor", value)
    )


def cpu_features(info: str) -> list[str]:
    """Of what `/proc/cpuinfo` lists, that which matters here."""
    flags = {flag for line in info.splitlines() if line.startswith(("flags", "Features")) for flag in line.split()}
    return [name for flag, name in _FEATURES.items() if flag in flags]


def _cpu_name(info: str) -> str:
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    if names:
        return names[0]
    if sys.platform == "darwin":
        asked = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        return asked.stdout.strip() or platform.machine()
    return platform.processor() or platform.machine()


def _device(device: torch.device) -> Check:
    import torch

    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        return Check("device", f"cuda: {found.name}, {found.total_memory / 1e9:.0f} GB")
    if device.type == "cpu" and shutil.which("nvidia-smi"):
        built = torch.version.cuda is not None
        remedy = "update its driver" if built else "install torch built for CUDA, see https://pytorch.org/get-started"
        return Check("device", "cpu, though there is an NVIDIA GPU", "warn", remedy)
    return Check("device", device.type)


def _dtype(chosen: Resolved, device: torch.device, size: int, compiled: bool) -> Check:
    import torch

    from fishcli.runners.plan import cpu_has_bfloat16, pick_dtype

    dtype = pick_dtype(str(chosen.value), device, size, compiled)
    name = str(dtype).removeprefix("torch.")
    if chosen.value == "auto":
        return Check("dtype", f"{name}, {_why(dtype, device, compiled)}")
    fast = compiled or cpu_has_bfloat16()
    slow = device.type == "cpu" and (dtype == torch.float16 or (dtype == torch.bfloat16 and not fast))
    if slow or (dtype == torch.bfloat16 and pick_dtype("auto", device, size, compiled) == torch.float16):
        return Check("dtype", f"{name}, which is slow on this {device.type} device", "warn", unset(chosen))
    return Check("dtype", f"{name}, from {chosen.source}")


def _why(dtype: torch.dtype, device: torch.device, compiled: bool) -> str:
    from fishcli.runners.plan import cpu_has_bfloat16

    if device.type != "cpu":
        return "which the device multiplies fast"
    if "bfloat16" in str(dtype):
        return "half as much to read as float32" if compiled else "which this CPU multiplies itself"
    if compiled or cpu_has_bfloat16():
        return "the fastest for so small a model"
    return "since this CPU has neither AMX nor AVX512-BF16"


def _quantize(chosen: Resolved, device: torch.device, size: int, compiled: bool) -> Check:
    from fishcli.runners.plan import pick_quantize

    try:
        kind = pick_quantize(str(chosen.value), device, size, compiled)
    except SettingError as error:
        return Check("quantize", str(error), "fail", unset(chosen))
    if chosen.value != "auto":
        return Check("quantize", f"{kind}, from {chosen.source}")
    if kind == "int8":
        return Check("quantize", "int8: what a CPU reads for a frame is what takes its time")
    if device.type != "cpu":
        return Check("quantize", f"none: {device.type} reads fast enough")
    return Check("quantize", "none, for so small a model" if compiled or not size else "none, without what is compiled")


def threads(chosen: Resolved, environ: Mapping[str, str], cores: int, quota: float | None, own: int) -> Iterator[Check]:
    """How many there will be, and what in the environment fights it.

    `quota`: processors' worth of time, if that is bounded; `own`: the threads that the model takes by itself.
    """
    count = int(chosen.value or own)
    why = f"from {chosen.source}" if chosen.value else "the physical cores" if own == cores else "for so small a model"
    yield Check("threads", f"{count}, {why}")
    if count > cores:
        yield Check("threads", f"{count} on {cores} physical cores get in each other's way", "warn", unset(chosen))
    for name in _THREAD_VARIABLES:
        if (asked := environ.get(name)) and asked != str(count):
            remedy = f"unset {name}, or run `fish config set threads {asked}`"
            yield Check("threads", f"{name} is {asked}, but {count} are used all the same", "warn", remedy)
    if quota is not None and quota < count:
        fitting = f"run `fish config set threads {max(1, int(quota))}`, or give the container more"
        yield Check("threads", f"a control group allows {quota:g} processors' worth of time", "warn", fitting)


def company(environ: Mapping[str, str], cores: int, load: float) -> Iterator[Check]:
    """Whether the processors are shared with others. `load`: processes that want one, on average."""
    if load > cores + 1 and environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        # Threads that wait for each other by spinning waste what the others leave: 5 times slower at a load of 6 on 2.
        remedy = "wait for the others, or set OMP_WAIT_POLICY=PASSIVE"
        yield Check("threads", f"the processors are busy: a load of {load:.1f} on {cores} cores", "warn", remedy)
    there = os.cpu_count() or 1
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    if ours < there:
        remedy = "start it without taskset, or give its container more"
        yield Check("threads", f"{ours} of {there} processors are open to this process", "warn", remedy)


def cpu_quota(root: Path, own: Path) -> float | None:
    """Processors' worth of time that the control groups of this process get at most; None if any amount.

    `root` is where they are mounted, `own` the file that names those of this process, of version 1 or 2.
    """
    quotas = []
    for line in _text(own).splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        here = base / group.lstrip("/")
        for folder in [here, *here.parents]:
            quotas += _group_quota(folder)
            if folder == base:
                break
    return min(quotas, default=None)


def _group_quota(folder: Path) -> list[float]:
    """The bound that one group sets, if any."""
    fields = _text(folder / "cpu.max").split() or [
        *_text(folder / "cpu.cfs_quota_us").split(),
        *_text(folder / "cpu.cfs_period_us").split(),
    ]
    if len(fields) != 2 or fields[0] in ("max", "-1"):
        return []
    return [int(fields[0]) / int(fields[1])]


def _compile(device: torch.device) -> Check:
    """What can be compiled: C++ for a CPU, Triton and C for CUDA."""
    if device.type == "mps":
        return Check("compile", "not for mps")
    if reason := build.why_not():
        return Check("compile", reason, "warn", f"install {os.environ.get('CXX') or 'g++'}; all else works without it")
    if device.type == "cuda" and not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return Check("compile", "Python's headers are missing", "warn", "install them, as python3-dev for example")
    if device.type == "cpu" and build.is_built():
        return Check("compile", "done, for this processor")
    return Check("compile", f"can be done, with {build.compiler()}")


def _text(path: Path) -> str:
    """A file's text; nothing where there is none, or none for us."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
