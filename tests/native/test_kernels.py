"""Each kernel of the C++ against PyTorch in float64, over odd shapes and every instruction set that runs here."""

import ctypes
import math
import subprocess
from ctypes import byref, c_float, c_void_p
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from native_models import INSTRUCTION_SETS, flag, need

from fishcli.lm.quantize import dequantize, quantize
from fishcli.lm.sampling import SamplingTensors, sample
from fishcli.native import build, structs
from fishcli.request import SamplingParams
from fishcli.runners.conv_packing import ConvPacker

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason="there is no C++ compiler")


class Kernels:
    """The functions of kernels.cpp, called with tensors and numbers."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.fish_pool_new.restype = c_void_p
        self.library.kernel_dot.restype = c_float
        self.pools = {threads: c_void_p(self.library.fish_pool_new(threads)) for threads in (1, 2, 3)}

    def __call__(self, name, *arguments):
        return getattr(self.library, f"kernel_{name}")(*map(passed, arguments))


def passed(argument):
    if isinstance(argument, torch.Tensor):
        assert argument.is_contiguous()
        return c_void_p(argument.data_ptr())
    if isinstance(argument, ctypes.Structure):
        return byref(argument)
    return c_float(argument) if isinstance(argument, float) else argument


@pytest.fixture(scope="module", params=[name for name in INSTRUCTION_SETS if name != "cascadelake"])
def kernels(request, tmp_path_factory):
    need(request.param)
    library = tmp_path_factory.mktemp("kernels") / "kernels.so"
    sources = [Path(__file__).parent / "kernels.cpp", build._SOURCES / "base" / "system.cpp"]
    flags = [*build._FLAGS, flag(request.param), f"-I{build._SOURCES}", "-shared"]
    subprocess.run([*build.found_compiler(), *flags, *map(str, sources), "-o", str(library)], check=True)
    return Kernels(library)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def check(got, expected, error):
    """Compare with an error relative to the greatest value."""
    scale = float(expected.abs().max()) or 1.0
    torch.testing.assert_close(got.double(), expected.double(), atol=error * scale, rtol=0)


EDGES = [-200.0, -88.0, -87.0, -1e-30, 0.0, 1e-30, 87.0, 88.0]


@pytest.mark.parametrize(
    ("name", "expected", "error"),
    [
        ("exp", lambda x: x.clamp(-87, 88).exp(), 2e-7),
        ("silu", F.silu, 5e-7),
        ("gelu", F.gelu, 5e-7),
        ("tanh", torch.tanh, 5e-7),
    ],
)
@pytest.mark.parametrize("n", [1, 15, 16, 1003])
def test_functions(kernels, name, expected, error, n):
    x = torch.cat([5 * random(n), torch.tensor(EDGES)])
    out = torch.empty_like(x)
    kernels(name, x, len(x), out)
    wanted = expected(x.double())
    torch.testing.assert_close(out.double(), wanted, atol=error, rtol=error)


def test_reciprocal(kernels):
    x = torch.cat([random(1000).exp(), -random(100).exp()])
    out = torch.empty_like(x)
    kernels("reciprocal", x, len(x), out)
    torch.testing.assert_close(out.double(), 1 / x.double(), atol=0, rtol=3e-7)


@pytest.mark.parametrize("n", [1, 3, 16, 17, 640, 1001])
def test_dot_and_norms(kernels, n):
    x, weight = random(n), random(n, seed=1)
    got = torch.tensor(kernels("dot", x, weight, n))
    torch.testing.assert_close(got.double(), x.double() @ weight.double(), atol=1e-6 * n, rtol=0)
    out = torch.empty(n)
    kernels("rms_norm", x, weight, n, 1e-6, out)
    check(out, F.rms_norm(x.double(), (n,), weight.double(), 1e-6), 1e-6)
    normed = x.clone()
    kernels("layer_norm", normed, n, 1e-6)
    check(normed, F.layer_norm(x.double(), (n,), eps=1e-6), 1e-5)


@pytest.mark.parametrize("n", [1, 4, 16, 52, 170, 1100])
def test_swiglu(kernels, n):
    x, out = 3 * random(2 * n), torch.empty(n)
    kernels("swiglu", x, n, out)
    gate, up = x.double().chunk(2)
    check(out, F.silu(gate) * up, 5e-7)


def test_rotary(kernels):
    x, rotation = random(32, 2), random(32, 2, seed=1)
    expected = torch.view_as_real(torch.view_as_complex(x.double()) * torch.view_as_complex(rotation.double()))
    kernels("rotate", rotation, 32, x)
    check(x, expected, 3e-7)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 63, 64, 65, 127, 128, 129, 1000])
@pytest.mark.parametrize(("count", "d"), [(1, 64), (3, 64), (16, 128), (2, 12), (5, 36), (1, 2)])
def test_attention_at_the_edges_of_a_block(kernels, length, count, d):
    queries, keys, values = 3 * random(count, d), random(length, d, seed=1), random(length, d, seed=2)
    out = torch.full((count, d), torch.nan)
    kernels("attention", queries, count, keys, values, length, d, out)
    wanted = F.scaled_dot_product_attention(queries.double(), keys.double(), values.double())
    check(out, wanted, 3e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_embedding(kernels, dtype):
    table, out = random(5, 37).to(dtype), random(37, seed=1)
    described = structs.Embedding(table.data_ptr(), 5, 37, structs.FORMATS.index(str(dtype).split(".")[1]))
    expected = out + table[3].float()
    kernels("add_row", described, ctypes.c_int64(3), out)
    assert torch.equal(out, expected)


@pytest.mark.parametrize("format", ["float32", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize(("rows", "cols"), [(4, 4), (5, 64), (1, 160), (37, 700), (8, 512), (12, 1100), (130, 640)])
@pytest.mark.parametrize("columns", [1, 2, 6, 7, 13, 19])
def test_products(kernels, format, rows, cols, columns):
    weight, x = random(rows, cols) / cols**0.5, random(columns, cols, seed=1)
    stored, scales = (weight, None) if format == "float32" else (weight.bfloat16(), None)
    if format in ("int8", "int4"):
        stored, scales = quantize(weight, format)
        weight = dequantize(stored, scales, cols, torch.float32)
    else:
        weight = stored.float()
    number = structs.FORMATS.index(str(stored.dtype).split(".")[1])
    matrix = structs.Matrix(rows=rows, cols=cols, format=number)
    source = structs.WeightSource(weights=stored.data_ptr(), stride=stored.stride(0) * stored.itemsize)
    if scales is not None:
        source.scales, source.scale_stride = scales.data_ptr(), scales.stride(0)
    expected = x.double() @ weight.double().T
    for pool in kernels.pools.values():
        out = torch.full((columns, rows), torch.nan)
        kernels("matmul", pool, matrix, source, x, columns, out)
        error = {"int8": 1e-4, "int4": 4e-2}.get(format, 2e-6)  # outputs have a deviation of 1
        torch.testing.assert_close(out.double(), expected, atol=error, rtol=error)


@pytest.mark.parametrize(("format", "error"), [(2, 2e-5), (3, 5e-3)])
@pytest.mark.parametrize("n", [4, 64, 500, 512, 700, 1100])
def test_quantized_activations(kernels, format, error, n):
    x, out = random(n), torch.empty(n)
    kernels("quantize", format, x, n, out)
    check(out, x, error)
    for bad in (torch.nan, torch.inf, -torch.inf):
        x[n // 2] = bad
        kernels("quantize", format, x, n, out)
        assert not out[n // 2].isfinite(), "a number that is not finite must not disappear"


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(0.7, 0.7, 1.2),
        SamplingParams(1, 1, 1),
        SamplingParams(0, 0.5, 1.3),
        SamplingParams(1.5, 0.95, 0.9),
        SamplingParams(0.1, 0.01, 1.0),
    ],
)
@pytest.mark.parametrize("count", [1, 7, 16, 1001])
def test_sampling(kernels, params, count):
    """The same draws as in PyTorch, but for a draw within rounding of the edge between two entries."""
    generator, differing, draws = torch.Generator().manual_seed(count), 0, 60
    tensors = SamplingTensors.stack([params], torch.device("cpu"))
    for i in range(draws):
        logits = 4 * torch.randn(1, count, generator=generator)
        history = torch.randint(0, count + 5, (1, 16), generator=generator)
        uniform = torch.rand(1, generator=generator) if i % 4 else torch.tensor([[0.99, 0.0][i % 8 // 4]])
        expected = int(sample(logits, history, tensors, uniform))
        given = structs_params(params)
        got = kernels("sample", logits.clone(), count, history, 16, given, float(uniform))
        differing += got != expected
    assert differing <= draws // 30


def structs_params(params):
    return (c_float * 3)(params.temperature, params.top_p, params.repetition_penalty)


def test_top_p_of_one_keeps_every_entry(kernels):
    """Its rounded probabilities add up to more than one, and a draw at the end finds the last entry."""
    logits, history = torch.linspace(0, -8, 5000), torch.full((16,), 10**6)
    got = kernels("sample", logits, 5000, history, 16, structs_params(SamplingParams(1, 1, 1)), 1 - 2**-24)
    assert got >= 4990


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("place", [0, 1, 50, 99])
def test_logits_that_are_not_finite(kernels, bad, temperature, place):
    logits, history = random(100), torch.full((16,), 200)
    given = (c_float * 3)(temperature, 0.7, 1.2)
    logits[place] = bad
    assert kernels("sample", logits, 100, history, 16, given, 0.5) == -1
    logits[place] = -torch.inf  # this one is never chosen, and no reason to refuse
    assert 0 <= kernels("sample", logits, 100, history, 16, given, 0.5) != place


def test_a_history_out_of_range_changes_nothing(kernels):
    logits, given = random(100), (c_float * 3)(0.0, 1.0, 1e6)
    history = torch.tensor([-1, -(2**40), 100, 2**40] * 4)
    assert kernels("sample", logits.clone(), 100, history, 16, given, 0.5) == int(logits.argmax())


def rows_of(x, before, vector):
    """x (channels, steps) as rows (before + steps, padded channels) after rows of zeros."""
    return F.pad(x.T, (0, -len(x) % vector, before, 0)).contiguous()


@pytest.mark.parametrize("winograd", [False, True])
@pytest.mark.parametrize(
    ("inp", "out", "kernel", "dilation"),
    [(1, 1, 1, 1), (3, 5, 2, 1), (24, 41, 3, 1), (130, 16, 4, 3), (20, 100, 7, 5), (16, 33, 13, 7), (41, 8, 5, 1)],
)
@pytest.mark.parametrize("steps", [1, 3, 13, 50, 200])
def test_convolutions(kernels, winograd, inp, out, kernel, dilation, steps):
    weight, bias, x = random(out, inp, kernel), random(out, seed=1), random(inp, steps, seed=2)
    pack = ConvPacker(kernels("vector"), kernels("panel"))
    conv = pack.causal(weight, bias, dilation, winograd)
    rows = rows_of(x, kernels("reach", conv), pack.vector)
    padded = F.pad(x, ((kernel - 1) * dilation, 0)).double()
    expected = F.conv1d(padded[None], weight.double(), bias.double(), dilation=dilation)[0].T
    for pool in kernels.pools.values():
        result = torch.full((steps, conv.out), torch.nan)
        kernels("conv", pool, conv, rows, steps, result)
        check(result[:, :out], expected, 3e-6)
        assert (result[:, out:] == 0).all()


@pytest.mark.parametrize(
    ("inp", "out", "kernel", "stride"), [(3, 5, 2, 2), (24, 41, 12, 5), (16, 8, 3, 2), (20, 33, 16, 8)]
)
@pytest.mark.parametrize("steps", [1, 5, 50])
def test_transposed_convolutions(kernels, inp, out, kernel, stride, steps):
    weight, bias, x = random(inp, out, kernel), random(out, seed=1), random(inp, steps, seed=2)
    pack = ConvPacker(kernels("vector"), kernels("panel"))
    conv = pack.transposed(weight, bias, stride)
    result = torch.full((steps, conv.out), torch.nan)
    kernels("conv", kernels.pools[2], conv, rows_of(x, kernels("reach", conv), pack.vector), steps, result)
    expected = F.conv_transpose1d(x[None].double(), weight.double(), bias.double(), stride=stride)[0].T[
        : steps * stride
    ]
    check(result.view(steps * stride, -1)[:, :out], expected, 3e-6)


def test_a_depthwise_convolution(kernels):
    width = 3 * kernels("vector")
    weight, bias, x = random(7, width), random(width, seed=1), random(7, width, seed=2)
    out = torch.empty(width)
    kernels("depthwise_conv", weight, bias, 7, x[6], width, out)
    check(out, bias.double() + (weight.double() * x.double()).sum(0), 1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 100, 255, 256])
def test_the_last_convolution(kernels, count):
    width, taps = 2 * kernels("vector"), 5
    weight, x = random(taps, width) / 10, random(taps - 1 + count, width, seed=1)
    out = torch.empty(count)
    kernels("conv_to_samples", weight, 0.25, taps, x, width, count, out)
    expected = x.double().unfold(0, taps, 1).permute(0, 2, 1).mul(weight.double()).sum((1, 2))
    check(out, (expected + 0.25).tanh(), 1e-6)


def test_exponential_has_no_gap(kernels):
    """Neighbouring floats around the multiples of log 2, where the reduction changes."""
    x = torch.cat(
        [torch.tensor([(k + 0.5) * math.log(2)]).repeat(9) + torch.arange(-4, 5) * 1e-6 for k in range(-9, 9)]
    )
    out = torch.empty_like(x)
    kernels("exp", x, len(x), out)
    torch.testing.assert_close(out.double(), x.double().exp(), atol=0, rtol=2e-7)
