"""No operation of a GPU's paths mixes tensors of two devices. The meta device stands in: it has no data."""

import pytest
import torch

from fishcli.codec import CodecSettings, Firefly
from fishcli.lm.kv_cache import KVIndex
from fishcli.lm.model import Transformer
from fishcli.lm.sampling import WINDOW, SamplingTensors
from fishcli.lm.settings import LMSettings
from fishcli.runners import cuda_graph
from fishcli.runners.base import Batch
from fishcli.runners.cuda_graph import Frame
from fishcli.runners.eager import Eager, decode_step
from fishcli.testing.checkpoint import micro

CODES = 1000


@pytest.fixture
def gpu():
    return torch.device("meta")


def moved(module, device, dtype):
    """The module with weights on a device, as checkpoints are loaded."""
    state = module.state_dict()
    dtypes = {name: dtype if each.dtype == torch.float32 else each.dtype for name, each in state.items()}
    state = {name: torch.empty(each.shape, dtype=dtypes[name], device=device) for name, each in state.items()}
    module.load_state_dict(state, assign=True)
    return module


@pytest.fixture(params=["none", "int8", "int4"])
def model(gpu, request):
    settings = LMSettings.from_dict(micro().lm)
    with torch.device("meta"):
        made = Transformer(settings, CODES, 910, request.param)
    return moved(made, gpu, torch.bfloat16).prepare()


def batch_of(count, device):
    k, real = 8, dict(device=device)
    whole = dict(device=device, dtype=torch.int64)
    params = SamplingTensors(*(torch.empty(count, **real) for _ in range(3)))
    columns, history = torch.empty(count, k + 1, **whole), torch.empty(count, k, WINDOW, **whole)
    slots, positions = torch.empty(2, count, **whole)
    return Batch(columns, slots, positions, history, params, torch.empty(count, k, **real))


def test_it_is_noticed(gpu):
    with pytest.raises(RuntimeError, match="device"):
        torch.ones(3) + torch.ones(3, device=gpu)


def test_a_prefill_and_a_plain_step(model, gpu):
    runner = Eager(model)
    cache = runner.cache(300)
    assert cache.keys.dtype == torch.bfloat16
    hidden = runner.hidden(torch.zeros(70, 9, dtype=torch.int64, device=gpu), cache, 100, 5)
    assert (hidden.device, hidden.dtype) == (gpu, torch.bfloat16)
    batch = batch_of(3, gpu)
    for result in decode_step(model, cache, batch, KVIndex.step(batch.slots, batch.positions, 80)):
        assert result.device == gpu


@pytest.mark.parametrize("count", [1, 4])
def test_a_recorded_frame(model, gpu, monkeypatch, count):
    monkeypatch.setattr(cuda_graph, "_inputs", lambda *_: (None, batch_of(count, gpu)))
    cache = model.cache(300)
    frame = Frame(model, cache, cuda_graph._Bucket(count, 128), "eager")
    parts = cuda_graph._embed, cuda_graph._block, cuda_graph._first, cuda_graph._following
    frame._compiled = cuda_graph._Parts(*parts)
    result = frame._work()
    assert (result.shape, result.device, result.dtype) == ((count, 17), gpu, torch.int64)


def test_a_lone_slot_is_a_number(gpu):
    index = KVIndex.step(torch.tensor([5]), torch.empty(1, dtype=torch.int64, device=gpu), 80)
    assert index.write.device == gpu
    assert index.read == slice(5, 85)


def test_the_codec(gpu):
    with torch.device("meta"):
        codec = Firefly(CodecSettings.from_dict(micro().codec))
    codec = moved(codec, gpu, torch.float32)
    state = {}
    samples = codec.decode_piece(torch.zeros(8, 4, dtype=torch.int64, device=gpu), state)
    assert (samples.shape, samples.device) == ((4 * 2048,), gpu)
    assert {kept.device for kept in state.values()} == {gpu}
    (latent, *_) = codec._latents(torch.zeros(2048 * 5 + 1536, device=gpu))
    assert codec.quantizer.residual_fsq.quantize(latent).device == gpu
