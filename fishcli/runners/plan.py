"""Choose how a model runs on this machine: device, dtype, quantization, runner and threads."""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
from pathlib import Path
from typing import Literal

import torch

from fishcli.errors import SettingError
from fishcli.lm.quantize import Quantize
from fishcli.lm.settings import LMSettings
from fishcli.native import build

log = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]

SMALL = 100_000_000  # bytes of weights; a smaller model fits into the CPU's cache


def pick_device(name: str) -> torch.device:
    """Return the device of a name; `auto`: CUDA, else MPS, else the CPU. Raises SettingError if it is unavailable."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, usable in available.items() if usable))
    if name not in available:
        raise SettingError(f"device must be auto, cpu, cuda or mps, not {name!r}.", field="device")
    if not available[name]:
        raise SettingError(f"No usable {name} device was found; `fish doctor` shows details.", field="device")
    return torch.device(name)


def pick_native(device: torch.device, dtype: str, quantize: str, size: int, compile: bool | None) -> bool:
    """Return whether the native runner runs a model of `size` bytes. Its library may have to be compiled first.

    `compile` False: never; None: a small model is fast enough in PyTorch, and the library is compiled for it only if
    the quantization requires it.
    """
    if device.type != "cpu" or dtype == "float16" or compile is False:
        return False
    return compile is True or quantize in ("int8", "int4") or size > SMALL or build.is_built()


def pick_dtype(name: str, device: torch.device, size: int, compiled: bool) -> torch.dtype:
    """Return the dtype of a name; `auto`: the fastest on the device for a model of `size` bytes.

    `compiled`: the native runner runs the model. It stores weights in the dtype and computes in float32.
    """
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name != "auto":
        if name not in types:
            raise SettingError(f"dtype must be auto, {', '.join(types)}, not {name!r}.", field="dtype")
        return types[name]
    if device.type == "cpu":
        # Half the bytes help if weights are read from memory. A small model stays in the cache, and conversions cost
        # more than they save (built-in voice: float32 is 1.5 times as fast).
        return torch.bfloat16 if size > SMALL and (compiled or cpu_has_bfloat16()) else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16
    return torch.float16


def pick_quantize(name: str, device: torch.device, size: int, compiled: bool, compile: bool | None = None) -> Quantize:
    """Return the quantization of a name; `auto`: int8 if a CPU reads the weights (`size` bytes) from memory.

    `compiled`: the native runner runs the model; `compile`: the setting, which may be the reason why it does not.
    """
    if name == "auto":
        return "int8" if device.type == "cpu" and compiled and size > SMALL else "none"
    if name not in ("none", "int8", "int4"):
        raise SettingError(f"quantize must be auto, none, int8 or int4, not {name!r}.", field="quantize")
    if name != "none" and device.type == "cpu" and not compiled:
        if compile is False:
            raise SettingError(f"{name} on a CPU needs compiled code, and compile is false.", field="quantize")
        raise SettingError(
            f"{name} on a CPU needs compiled code, which is not available; `fish doctor` shows why.", field="quantize"
        )
    return name  # type: ignore[return-value]  # a Quantize, as checked above


def cpu_has_bfloat16() -> bool:
    """Return whether the CPU has bfloat16 instructions; without them float32 was 8 times faster (EPYC 7003)."""
    # torch has these as private functions only, and not on every architecture.
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)


def pick_threads(wanted: int | None, size: int) -> int:
    """Return the number of threads for a model of `size` bytes; by default one for a small model, else `usable_cores`.

    More than `usable_cores` are not used, with a warning: they would wait for each other far longer than they work.
    The matrices of a small model take less time than it takes two threads to synchronize, and on a busy machine these
    wait far longer than they work (built-in voice, one of two cores busy: one thread is 5 to 15 times as fast).
    """
    usable = usable_cores()
    if wanted is None:
        return usable if size > SMALL else 1
    if wanted > usable:
        log.warning("%d threads are more than can run at once here, and would be slower; using %d.", wanted, usable)
    return min(wanted, usable)


def usable_cores() -> int:
    """Return the physical cores, at most as many as the control groups allow.

    More threads than the quota spend it on waiting for each other (full size, int8, one CPU's worth of time: 22.7
    frames/s with one thread, 3.8 with eight).
    """
    quota = cpu_quota()
    return physical_cores() if quota is None else min(physical_cores(), max(1, int(quota)))


def physical_cores() -> int:
    """Return the number of physical cores that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        # Apple's cores have one hardware thread, most others two.
        threads = os.cpu_count() or 1
        return threads if platform.machine() == "arm64" else max(1, threads // 2)
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text() if siblings.exists() else str(cpu))
    return max(1, len(cores))


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a model runs. `native`: by the C++ kernels; `compile`: by what torch compiles for a GPU.

    `kv_memory`: megabytes of the KV cache; None: enough for 8 whole contexts, in a quarter of the machine's memory.
    """

    device: torch.device
    dtype: torch.dtype  # of the weights that are not quantized
    quantize: Quantize = "none"
    native: bool = False
    compile: bool = False
    threads: int = 1
    kv_memory: int | None = None

    def __str__(self) -> str:
        """The plan in words, such as "cpu, float32, C++ kernels, 1 thread"."""
        runner = "C++ kernels" if self.native else "compiled" if self.compile else "PyTorch"
        weights = str(self.dtype).removeprefix("torch.") if self.quantize == "none" else self.quantize
        return f"{self.device}, {weights}, {runner}, {self.threads} thread{'' if self.threads == 1 else 's'}"


def make_plan(
    size: int,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "auto",
    compile: bool | None = None,
    threads: int | None = None,
    kv_memory: int | None = None,
) -> Plan:
    """Return how a model of `size` bytes runs, for the arguments of `load`. Raises SettingError."""
    check_arguments(compile, threads, kv_memory)
    where = pick_device(device)
    compiled = pick_native(where, dtype, quantize, size, compile)
    if compiled:
        try:
            build.load()
        except build.Unavailable as error:
            compiled = False
            log.warning("The model runs more slowly, in PyTorch: %s.", error)
    elif where.type == "cpu" and dtype == "float16" and compile is not False:
        log.warning("float16 on a CPU runs without the compiled code, several times slower; leave dtype at auto.")
    elif compile and where.type not in ("cpu", "cuda"):
        log.warning("compile has no effect on %s.", where.type)
    return Plan(
        device=where,
        dtype=pick_dtype(dtype, where, size, compiled),
        quantize=pick_quantize(quantize, where, size, compiled, compile),
        native=compiled,
        compile=compile is True and where.type == "cuda",
        threads=pick_threads(threads, size),
        kv_memory=kv_memory,
    )


def check_arguments(compile: object, threads: object, kv_memory: object) -> None:
    """Raise SettingError for an argument of `load` of another type, or out of range."""
    if compile is not None and type(compile) is not bool:
        raise SettingError(f"compile must be true, false or None, not {compile!r}.", field="compile")
    if threads is not None and (type(threads) is not int or threads < 1):
        raise SettingError(f"threads must be a whole number of at least 1, not {threads!r}.", field="threads")
    if kv_memory is not None and (type(kv_memory) is not int or kv_memory < 1):
        raise SettingError(f"kv_memory must be a whole number of megabytes, not {kv_memory!r}.", field="kv_memory")


_CONTEXTS = 8  # that the KV cache holds by default: what the sequences of a batch may reserve
_SHARE = 4  # of the machine's memory, at most a quarter


def kv_positions(settings: LMSettings, plan: Plan) -> int:
    """Return the positions of the KV cache, those of all sequences together, within `plan.kv_memory`.

    A CPU takes the memory of a position when it is first written: a sequence that reserves its whole context and ends
    early has cost little.
    """
    size = kv_position_bytes(settings, plan)
    if plan.kv_memory is not None:
        return max(1, plan.kv_memory * 1_000_000 // size)
    most = _memory(plan.device) // _SHARE // size
    return max(settings.max_seq_len, min(_CONTEXTS * settings.max_seq_len, most))


def _memory(device: torch.device) -> int:
    """Return the bytes of memory of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 8 << 30  # Windows does not tell through Python


def kv_position_bytes(settings: LMSettings, plan: Plan) -> int:
    """Return the bytes of the keys and values of one position. The C++ keeps them in float32."""
    slow = settings.slow
    return 2 * slow.layers * slow.kv_heads * slow.head_dim * (4 if plan.native else plan.dtype.itemsize)


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return the CPUs' worth of time that the control groups of this process allow; None: unlimited.

    `root` is where they are mounted, and `groups` the file with the names of those of this process (version 1 or 2).
    """
    quotas = []
    for line in _text(groups).splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        own = base / group.lstrip("/")
        for folder in [own, *own.parents]:
            quotas += _group_quota(folder)
            if folder == base:
                break
    return min(quotas, default=None)


def _group_quota(folder: Path) -> list[float]:
    """Return the quota of one control group, if it has one."""
    fields = _text(folder / "cpu.max").split() or [
        *_text(folder / "cpu.cfs_quota_us").split(),
        *_text(folder / "cpu.cfs_period_us").split(),
    ]
    if len(fields) != 2 or fields[0] in ("max", "-1"):
        return []
    return [int(fields[0]) / int(fields[1])]


def _text(path: Path) -> str:
    """Return the text of a file; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
