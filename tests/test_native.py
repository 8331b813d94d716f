"""What is compiled for the processor: the language model in every format of its weights, and the compiling itself."""

import copy
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from fishcli import native
from fishcli.engine import load
from fishcli.lm.native import Native
from fishcli.lm.quantize import LINEAR, quantized, widened
from fishcli.lm.step import Eager

pytestmark = pytest.mark.skipif(native.why_not() is not None, reason="there is no C++ compiler")


def teacher_forced(runner, prompt):
    """The hidden states (T, dim) of a prompt, in blocks of uneven sizes."""
    columns = torch.from_numpy(prompt.T.astype(np.int64))
    past = runner.past(2, 200)
    with torch.inference_mode():
        blocks = [(0, 1), (1, 8), (8, 31), (31, len(columns))]
        return torch.cat([runner.prefill(columns[a:b], past, 1, a).float() for a, b in blocks])


@pytest.mark.parametrize("kind", ["none", "int8", "int4"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_hidden_states(micro, golden, kind, dtype, threads):
    """What is compiled against PyTorch in float32 over the same weights."""
    model = load(micro, device="cpu", dtype=dtype, quantize=kind, compile=True).lm
    got = teacher_forced(Native(model, threads), golden["prompt_1_refs"])
    expected = teacher_forced(Eager(copy.deepcopy(model).float()), golden["prompt_1_refs"])
    scale = expected.abs().max().item()
    # Activations are rounded to 16 bits for int8, and to 8 for int4.
    error = {"none": 1e-5, "int8": 2e-4, "int4": 2e-2}[kind] if dtype == "float32" else 2e-2
    torch.testing.assert_close(got, expected, atol=error * scale, rtol=0)


@pytest.mark.parametrize(("kind", "error"), [("int8", 0.008), ("int4", 0.1)])
@pytest.mark.parametrize("inp", [64, 160, 700, 1024, 4096])
def test_quantized_weights(kind, error, inp):
    weight = torch.randn(12, inp, generator=torch.Generator().manual_seed(inp))
    weight[3] = 0
    stored, scales = quantized(weight, kind)
    layer = LINEAR[kind](inp, 12)
    assert (layer.weight.shape, layer.weight.dtype) == (stored.shape, stored.dtype)
    assert (layer.scales.shape, layer.scales.dtype) == (scales.shape, scales.dtype)
    back = widened(stored, scales, inp, torch.float32)
    assert (back - weight).norm() / weight.norm() < error
    assert (back[3] == 0).all()


def test_what_no_compiler_leaves(monkeypatch, micro, caplog, tmp_path):
    """Without a compiler PyTorch does the work, and a line says why it is slower."""
    logging.getLogger("fishcli.engine").addHandler(caplog.handler)
    monkeypatch.setenv("CXX", "no-such-compiler")
    native.load.cache_clear()
    engine = load(micro, device="cpu", compile=True)
    assert isinstance(engine.runner, Eager)
    assert "no-such-compiler" in caplog.text
    native.load.cache_clear()


def test_a_compiler_that_fails(monkeypatch, tmp_path):
    compiler = tmp_path / "broken"
    compiler.write_text("#!/bin/sh\n[ $1 = --version ] && exit\necho step.cpp:1: error: no >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("FISHCLI_CACHE_DIR", str(tmp_path / "cache"))
    native.load.cache_clear()
    with pytest.raises(native.Unavailable, match=r"step\.cpp:1: error: no"):
        native.load()
    native.load.cache_clear()
    assert [path.suffix for path in (tmp_path / "cache" / "native").iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FISHCLI_CACHE_DIR", str(tmp_path / "file"))
    native.load.cache_clear()
    with pytest.raises(native.Unavailable, match="cannot be made"):
        native.load()
    native.load.cache_clear()


def test_two_at_once_compile_once(tmp_path):
    environment = {**os.environ, "FISHCLI_CACHE_DIR": str(tmp_path)}
    program = "import logging; logging.basicConfig(level='INFO'); from fishcli import native; native.load()"
    both = [subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=-1, text=True) for _ in range(2)]
    said = "".join(process.communicate(timeout=300)[1] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said.count("Compiling for this processor") == 1
    assert len(list((tmp_path / "native").glob("*.so"))) == 1
