"""Checks of the CPU and the device: dtype, quantization, threads and compiler."""

from __future__ import annotations

import os
import platform
import shlex
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
from fishcli.native import build, compiler

if TYPE_CHECKING:
    import torch

# By the flags of Linux, the fastest first.
_FEATURES = {
    "amx_tile": "AMX",
    "avx512_bf16": "AVX512-BF16",
    "avx512f": "AVX512",
    "avx2": "AVX2",
    "bf16": "BF16",
    "asimd": "NEON",
}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def checks(settings: Settings, environ: Mapping[str, str], size: int) -> Iterator[Check]:
    """Check the settings on this machine, for a model of `size` bytes. Needs torch."""
    from fishcli.runners.plan import cpu_quota, physical_cores, pick_device, pick_native, pick_threads

    yield processor()
    chosen = settings.find("device")
    try:
        device = pick_device(str(chosen.value))
    except SettingError:
        yield Check("device", f"{chosen.value} is not available", "fail", f"{unset(chosen)} to use the default")
        device = pick_device("auto")
    yield _device(device)
    dtype, quantize = str(settings.find("dtype").value), str(settings.find("quantize").value)
    chosen_compile = settings.find("compile").value
    compile = None if chosen_compile is None else bool(chosen_compile)
    compiled = pick_native(device, dtype, quantize, size, compile) and build.why_not() is None
    yield _dtype(settings.find("dtype"), device, size, compiled)
    yield _quantize(settings.find("quantize"), device, size, compiled, compile)
    cores, quota = physical_cores(), cpu_quota()
    yield from threads(settings.find("threads"), environ, cores, quota, own=pick_threads(None, size))
    yield from other_processes(environ, cores, os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0)
    yield _compile(device)


def processor() -> Check:
    """Return the name of the CPU and its vector and matrix extensions."""
    import torch

    info = _text(Path("/proc/cpuinfo"))
    features = cpu_features(info) or [torch.backends.cpu.get_cpu_capability()]
    slow = platform.machine().lower() in ("x86_64", "amd64") and features == ["DEFAULT"]
    value = f"{_cpu_name(info)} ({', '.join(features)})"
    return (
        Check("processor", value, "warn", "without AVX2 it is very slow; use another machine")
        if slow
        else Check("processor", value)
    )


def cpu_features(info: str) -> list[str]:
    """Return the relevant features in the text of `/proc/cpuinfo`."""
    flags = {flag for line in info.splitlines() if line.startswith(("flags", "Features")) for flag in line.split()}
    return [name for flag, name in _FEATURES.items() if flag in flags]


def _cpu_name(info: str) -> str:
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    if names:
        return names[0]
    if sys.platform == "darwin":
        found = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        return found.stdout.strip() or platform.machine()
    return platform.processor() or platform.machine()


def _device(device: torch.device) -> Check:
    import torch

    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        return Check("device", f"cuda: {found.name}, {found.total_memory / 1e9:.0f} GB")
    if device.type == "cpu" and shutil.which("nvidia-smi"):
        built = torch.version.cuda is not None
        remedy = "update its driver" if built else "install torch built for CUDA, see https://pytorch.org/get-started"
        return Check("device", "cpu, although there is an NVIDIA GPU", "warn", remedy)
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
        return "the fastest on this device"
    if "bfloat16" in str(dtype):
        return "which halves the memory traffic" if compiled else "which this CPU supports"
    if compiled or cpu_has_bfloat16():
        return "the fastest for a model this small"
    return "because this CPU has neither AMX nor AVX512-BF16"


def _quantize(chosen: Resolved, device: torch.device, size: int, compiled: bool, compile: bool | None) -> Check:
    from fishcli.runners.plan import SMALL, pick_quantize

    try:
        kind = pick_quantize(str(chosen.value), device, size, compiled, compile)
    except SettingError as error:
        return Check("quantize", str(error), "fail", unset(chosen))
    if chosen.value != "auto":
        return Check("quantize", f"{kind}, from {chosen.source}")
    if kind == "int8":
        return Check("quantize", "int8, which halves the memory traffic of a CPU")
    if device.type != "cpu":
        return Check("quantize", f"none, because the memory of {device.type} is fast enough")
    return Check("quantize", "none, for a small model" if size <= SMALL else "none, because int8 needs compiled code")


def threads(chosen: Resolved, environ: Mapping[str, str], cores: int, quota: float | None, own: int) -> Iterator[Check]:
    """Check the number of threads against the cores, the environment and the quota.

    `quota`: CPUs' worth of time in the control group, None: unlimited; `own`: the default for the model.
    """
    usable = cores if quota is None else min(cores, max(1, int(quota)))
    count = min(int(chosen.value or own), usable)
    default = "for a small model" if own < usable else "the CPU quota" if own < cores else "the physical cores"
    if chosen.value and int(chosen.value) > usable:
        value = f"{chosen.value}, from {chosen.source}, are more than can run at once here: {count} are used"
        yield Check("threads", value, "warn", unset(chosen))
    else:
        yield Check("threads", f"{count}, {f'from {chosen.source}' if chosen.value else default}")
    for name in _THREAD_VARIABLES:
        if (wanted := environ.get(name)) and wanted != str(count):
            remedy = f"unset {name}, or run `fish config set threads {wanted}`"
            yield Check(name, f"{wanted}, but {count} threads are used", "warn", remedy)
    if quota is not None and quota < count:
        value = f"this container may use {quota:g} of a CPU"
        yield Check("CPU quota", value, "warn", "raise the limit of the container")


def other_processes(environ: Mapping[str, str], cores: int, load: float) -> Iterator[Check]:
    """Check whether other processes use the CPU. `load`: the load average."""
    if load > cores + 1 and environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        # Spinning threads waste the time that the others leave: 5 times slower at a load of 6 on two cores.
        remedy = "wait for the other processes, or set OMP_WAIT_POLICY=PASSIVE"
        yield Check("load", f"other processes keep the CPU busy: a load of {load:.1f} on {cores} cores", "warn", remedy)
    total = os.cpu_count() or 1
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    if ours < total:
        remedy = "run it without taskset, or raise the limit of the container"
        yield Check("CPUs", f"this process may use {ours} of {total}", "warn", remedy)


def _compile(device: torch.device) -> Check:
    """Check the compiler: for C++ on a CPU, for Triton and C on CUDA."""
    if device.type == "mps":
        return Check("compile", "not supported on mps")
    if compiler.find() is None:
        remedy = "run `pip install 'fishcli[native]'`, which brings one, or install g++; it works without, more slowly"
        return Check("compile", _sentence(compiler.why_missing()), "warn", remedy)
    if reason := build.why_not():
        remedy = "mend the compiler, or name another in CXX, then run `fish cache clear native`"
        return Check("compile", _sentence(reason), "warn", remedy)
    if device.type == "cuda" and not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return Check("compile", "Python's headers are missing", "warn", "install them, for example as python3-dev")
    if device.type == "cpu" and build.is_built():
        return Check("compile", "done for this CPU")
    return Check("compile", f"possible with {shlex.join(build.found_compiler())}")


def _sentence(clause: str) -> str:
    return clause[0].upper() + clause[1:]


def _text(path: Path) -> str:
    """Return the text of a file; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
