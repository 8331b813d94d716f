"""What is compiled for the processor: the language model in every format of its weights, and the compiling itself."""

import copy
import json
import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from fishcli.engine import load
from fishcli.lm.model import Transformer
from fishcli.lm.quantize import LINEAR, dequantize, quantize
from fishcli.lm.sampling import SamplingTensors
from fishcli.lm.settings import LMSettings
from fishcli.native import build
from fishcli.request import SamplingParams
from fishcli.runners.base import Batch
from fishcli.runners.eager import Eager
from fishcli.runners.native_lm import Native

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason="there is no C++ compiler")


def teacher_forced(runner, prompt):
    """The hidden states (T, dim) of a prompt, in blocks of uneven sizes."""
    columns = torch.from_numpy(prompt.T.astype(np.int64))
    cache = runner.cache(400)
    with torch.inference_mode():
        blocks = [(0, 1), (1, 8), (8, 31), (31, len(columns))]
        return torch.cat([runner.hidden(columns[a:b], cache, 200, a).float() for a, b in blocks])


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


def test_keys_and_values_do_not_depend_on_who_needs_the_rest(micro, golden):
    runner = Native(load(micro, device="cpu", dtype="float32", compile=True).lm, 2)
    columns = torch.from_numpy(golden["prompt_1_refs"].T.astype(np.int64))
    pasts = runner.cache(len(columns)), runner.cache(len(columns))
    runner.hidden(columns, pasts[0], 0, 0)
    runner.prefill(columns, pasts[1], 0, 0)
    assert torch.equal(pasts[0].keys, pasts[1].keys)
    assert torch.equal(pasts[0].values, pasts[1].values)


@pytest.mark.parametrize("count", [1, 2], ids=["one model", "two models"])
def test_several_threads_at_the_same_time(micro, golden, count):
    """The threads of the C++ are the process's, the room for activations is a model's: who comes second waits."""
    model = load(micro, device="cpu", dtype="float32", compile=True).lm
    runners = [Native(model, 2) for _ in range(count)] * (3 - count)
    prompts = [golden["prompt_1_refs"], golden["prompt_1_refs"][:, ::-1]]
    expected = [teacher_forced(runners[0], prompt) for prompt in prompts]
    with ThreadPoolExecutor() as threads:
        for _ in range(20):
            for got, wanted in zip(threads.map(teacher_forced, runners, prompts), expected, strict=True):
                assert torch.equal(got, wanted)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how much is resident is read from /proc")
def test_what_is_forgotten_of_a_file_can_be_read_again(tmp_path):
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    numbers = np.arange(4_000_000, dtype=np.int64)
    numbers.tofile(tmp_path / "numbers")
    mapped = np.memmap(tmp_path / "numbers", np.int64, "r")
    assert np.array_equal(mapped, numbers)
    before = resident()
    build.forget((array.ctypes.data, array.nbytes) for array in (mapped, numbers))
    assert before - resident() > 0.9 * mapped.nbytes
    assert np.array_equal(mapped, numbers)
    assert numbers[-1] == len(numbers) - 1  # it is in no file, and stays


def rows(model, golden, count):
    """What a step needs of `count` rows at different positions, each sampled in its own way."""
    generator = torch.Generator().manual_seed(count)
    samplings = [
        SamplingParams(0.7, 0.7, 1.2),
        SamplingParams(1, 1, 1),
        SamplingParams(0, 0.7, 1.2),
        SamplingParams(1.5, 0.95, 0.8),
    ] * 2
    k = model.settings.codebooks
    return Batch(
        columns=torch.from_numpy(golden["prompt_1_refs"][: k + 1, -1 - count : -1].T.astype(np.int64)),
        slots=torch.arange(count) * 128,
        positions=torch.arange(count) * 7 + 20,
        history=torch.randint(0, model.codes + 200, (count, k, 16), generator=generator),
        params=SamplingTensors.stack(samplings[:count], torch.device("cpu")),
        uniforms=torch.rand(count, k, generator=generator),
    )


def stepped(runner, golden, count):
    """Columns and choices of three steps of `count` rows, after a prefill of each."""
    k = runner.model.settings.codebooks
    columns = torch.from_numpy(golden["prompt_1_refs"][: k + 1].T.astype(np.int64))
    cache, given = runner.cache(count * 128), rows(runner.model, golden, count)
    made = []
    with torch.inference_mode():
        for row, position in enumerate(given.positions.tolist()):
            runner.prefill(columns[:position], cache, row * 128, 0)
        for _ in range(3):
            column, choices = runner.step(cache, given)
            made += [column, choices]
            given = given._replace(columns=column, positions=given.positions + 1)
    return torch.cat([each.flatten() for each in made])


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_a_step_is_that_of_pytorch(micro, golden, count):
    """The same draws, whatever the temperature, the penalty and the company."""
    model = load(micro, device="cpu", dtype="float32").lm
    assert torch.equal(stepped(Native(model, 2), golden, count), stepped(Eager(model), golden, count))


@pytest.mark.parametrize(
    "change",
    [
        {"fast_dim": 32, "fast_n_head": 2, "fast_n_local_heads": 1, "fast_intermediate_size": 52},
        {"attention_qkv_bias": True},
        {"num_codebooks": 1},
        {"head_dim": 12, "n_head": 3, "n_local_heads": 3},
        {"intermediate_size": 170},
    ],
    ids=lambda change: next(iter(change)),
)
def test_shapes_of_other_models(micro, golden, change):
    settings = LMSettings.from_dict(json.loads((micro / "config.json").read_text()) | change)
    model = Transformer(settings, codes=1000, semantic=912)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        parameter.data = 1 + 0.1 * values if "norm" in name else values / parameter.shape[-1] ** 0.5
    model.prepare()
    assert torch.equal(stepped(Native(model, 2), golden, 2), stepped(Eager(model), golden, 2))


def test_a_shape_that_is_not_compiled_for(micro):
    settings = LMSettings.from_dict(json.loads((micro / "config.json").read_text()) | {"dim": 66})
    model = Transformer(settings, codes=1000, semantic=912).prepare()
    with pytest.raises(build.Unavailable, match="multiples of 4"):
        Native(model, 1)


@pytest.mark.parametrize(("kind", "error"), [("int8", 0.008), ("int4", 0.1)])
@pytest.mark.parametrize("inp", [64, 160, 700, 1024, 4096])
def test_quantized_weights(kind, error, inp):
    weight = torch.randn(12, inp, generator=torch.Generator().manual_seed(inp))
    weight[3] = 0
    stored, scales = quantize(weight, kind)
    layer = LINEAR[kind](inp, 12)
    assert (layer.weight.shape, layer.weight.dtype) == (stored.shape, stored.dtype)
    assert (layer.scales.shape, layer.scales.dtype) == (scales.shape, scales.dtype)
    back = dequantize(stored, scales, inp, torch.float32)
    assert (back - weight).norm() / weight.norm() < error
    assert (back[3] == 0).all()
