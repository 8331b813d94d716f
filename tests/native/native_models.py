"""Language models of odd shapes with random weights, and the C++ compiled for another instruction set."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fishcli.lm.model import Transformer
from fishcli.lm.quantize import QuantizedLinear, quantize
from fishcli.lm.sampling import SamplingTensors
from fishcli.lm.settings import LMSettings
from fishcli.native import build, compiler
from fishcli.request import SamplingParams
from fishcli.runners.base import Batch

FORMATS = ("float32", "bfloat16", "int8", "int4")
# What -march takes, and the feature without which this processor cannot run it.
INSTRUCTION_SETS = {
    "native": "",
    "cascadelake": "avx512_vnni",
    "skylake-avx512": "avx512bw",
    "haswell": "avx2",
    "x86-64-v2": "sse4_2",
}
# 640 and 1100 weights are parts of several spans of 512, so that sums of parts are added.
ODD = dict(
    model_type="dual_ar", vocab_size=300, n_layer=2, n_fast_layer=1, n_head=10, n_local_heads=2, head_dim=64, dim=640,
    intermediate_size=1100, codebook_size=64, num_codebooks=3, max_seq_len=256, rope_base=1e6, norm_eps=1e-6,
    dropout=0.1, attention_qkv_bias=False, tie_word_embeddings=False, initializer_range=0.02,
    use_gradient_checkpointing=True,
)  # fmt: skip


def random_lm(format: str, **changes: object) -> Transformer:
    """Return a model with seeded weights: 60 codes of 64, of which code 0 is token 200."""
    settings = LMSettings.from_dict(ODD | changes)
    quantized = format in ("int8", "int4")
    model = Transformer(settings, 60, 200, format if quantized else "none")
    generator = torch.Generator().manual_seed(0)
    for layer in model.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            if isinstance(layer, QuantizedLinear) and name != "bias":
                continue
            values = torch.randn(parameter.shape, generator=generator)
            scaled = 1 + 0.1 * values if parameter.dim() == 1 else values / parameter.shape[-1] ** 0.5
            parameter.data = scaled.bfloat16() if format != "float32" else scaled
        if isinstance(layer, QuantizedLinear):
            weight = torch.randn(len(layer.weight), layer.inp, generator=generator) / layer.inp**0.5
            layer.weight.data, layer.scales.data = quantize(weight, layer.kind)
    return model.prepare()


def columns(model: Transformer, count: int) -> Tensor:
    """Return the first seeded columns (count, K + 1), some of text and most of speech."""
    s, generator = model.settings, torch.Generator().manual_seed(1)
    tokens = torch.randint(model.semantic - 20, model.semantic + model.codes, (256, 1), generator=generator)
    codes = torch.randint(0, model.codes, (256, s.codebooks), generator=generator)
    return torch.cat([tokens, codes], dim=1)[:count]


def batch(model: Transformer, slots: Tensor, positions: Tensor) -> Batch:
    """Return the input of a decode step whose sequences each sample in their own way."""
    count, k = len(slots), model.settings.codebooks
    generator = torch.Generator().manual_seed(2)
    params = [
        SamplingParams(0.7, 0.7, 1.2),
        SamplingParams(1, 1, 1),
        SamplingParams(0, 0.7, 1.2),
        SamplingParams(1.5, 0.95, 0.8),
    ]
    return Batch(
        columns(model, count),
        slots,
        positions,
        torch.randint(0, model.codes + 20, (count, k, 16), generator=generator),
        SamplingTensors.stack((params * count)[:count], torch.device("cpu")),
        torch.rand(count, k, generator=generator),
    )


def need(march: str) -> None:
    """Skip where this processor cannot run an instruction set."""
    if march != "native" and (platform.machine() != "x86_64" or INSTRUCTION_SETS[march] not in _features()):
        pytest.skip(f"this processor has no {INSTRUCTION_SETS[march]}")


def flag(march: str) -> str:
    """Return the compiler's flag for an instruction set."""
    if march == "native":
        return compiler.tuning()
    return f"-march={march.replace('-', '_')}" if "ziglang" in build.found_compiler() else f"-march={march}"


@contextlib.contextmanager
def instruction_set(march: str) -> Iterator[None]:
    """Have fishcli.native use the C++ compiled for an instruction set; skip where this processor lacks it."""
    if march == "native":
        yield
        return
    need(march)
    with pytest.MonkeyPatch.context() as patch:
        library = _compiled(march)
        patch.setattr(build, "load", lambda: library)
        build.pool.cache_clear()
        yield
    build.pool.cache_clear()


@functools.cache
def _compiled(march: str) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "fish.so")
        build.compile_sources(build.found_compiler(), target, Path(folder), flag(march))
        return build._opened(target)


@functools.cache
def _features() -> frozenset[str]:
    return frozenset(Path("/proc/cpuinfo").read_text().split())
