"""On a GPU: `pytest -m cuda`. Golden numbers, bounds of 16 bits, the recorded step and vocoder, memory that runs out.

With FISHCLI_TEST_DEVICE=cpu the same tests run on a CPU, by PyTorch and with nothing recorded, so that only the device
is new to them. FISHCLI_TEST_FULL names the folder of the full-size random checkpoint; without it, that size is skipped.
"""

import contextlib
import dataclasses
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATA, TINY
from recordable import Recordable
from sequences import generated, in_company
from test_codec import near_edge
from torch._dynamo.testing import CompileCounter

from fishcli import Reference, Request, SamplingParams
from fishcli.checkpoints import local
from fishcli.engine import Engine
from fishcli.errors import is_out_of_memory
from fishcli.lm.kv_cache import KVIndex
from fishcli.runners import cuda_graph
from fishcli.runners.cuda_codec import RecordedDecoder
from fishcli.runners.cuda_graph import Compiled, Frame
from fishcli.runners.eager import Eager
from fishcli.runners.plan import make_plan
from fishcli.runners.recorder import Recorder

DEVICE = torch.device(os.environ.get("FISHCLI_TEST_DEVICE", "cuda"))
GPU = DEVICE.type == "cuda"
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(GPU and not torch.cuda.is_available(), reason="there is no GPU that CUDA can use"),
]
PRECISE = 1e-4 if not GPU else 1e-3  # of float32, whose products another device adds up in another order
# Relative errors of logits and hidden states (Frobenius norm). Measured on a CPU: at full size 0.017, 0.0024, 0.039 and
# 0.41, of random weights, whose errors nothing averages out; micro at most half as much.
BOUNDS = {"bfloat16": 0.05, "float16": 0.01, "int8": 0.08, "int4": 0.6}
BATCHES = (1, 8, 32)
TEXT = "Real software speaks. It says what it does."
SHORT = SamplingParams(seed=3, max_new_tokens=40)


def engine_of(folder, dtype="float32", quantize="none", compile=False, max_batch=32, **plan):
    """An engine of its own on the device. Without a GPU, `compile` does all but compile and record."""
    size = (folder / "model.pth").stat().st_size
    made = make_plan(size, DEVICE.type, dtype, "none", compile and GPU, 2, **plan)
    made = dataclasses.replace(made, quantize=quantize, compile=compile)
    engine = Engine(local.Found(folder, str(folder)), folder / local.CODEC, made, max_batch)
    if compile and not GPU:
        engine._parts.__dict__["runner"] = compiled(engine)
        engine._parts.__dict__["decoder"] = RecordedDecoder(engine.codec)
    return engine


def compiled(engine):
    """The compiled runner; without a GPU, torch's tracer checks its parts and runs them as they are."""
    return Compiled(engine.lm) if GPU else Compiled(engine.lm, backend=CompileCounter())


SIZES = pytest.mark.parametrize("size", ["micro", "full"])


@pytest.fixture(scope="module")
def folder(micro):
    """size -> the folder of that checkpoint."""

    def find(size):
        if size == "micro":
            return micro
        if not (named := os.environ.get("FISHCLI_TEST_FULL")):
            pytest.skip("FISHCLI_TEST_FULL names no checkpoint")
        return Path(named)

    return find


@pytest.fixture(scope="module")
def engines(folder):
    """(size, ...) -> an engine of these settings, made once."""
    made = {}

    def get(size="micro", **settings):
        key = size, *sorted(settings.items())
        if key not in made:
            made[key] = engine_of(folder(size), **settings)
        return made[key]

    yield get
    for engine in made.values():
        engine.close()


@pytest.fixture(scope="module")
def engine(engines):
    return engines()


@pytest.fixture(scope="module")
def fast(engines):
    """The engine as `compile` makes it: parts compiled, frames and pieces recorded."""
    return engines(compile=True)


def golden_of(size):
    with np.load(DATA / f"{size}.npz") as numbers:
        return dict(numbers)


def on_device(array):
    return torch.from_numpy(np.ascontiguousarray(array, np.int64)).to(DEVICE)


@torch.inference_mode()
def prefilled(model, prompt):
    """The last hidden state (1, dim) of a prompt (K + 1, T), and the cache."""
    cache, width = model.cache(prompt.shape[1] + 1), prompt.shape[1]
    where = KVIndex.prefill(0, 0, width, model.settings.slow.group, DEVICE)
    return model.slow(on_device(prompt).T[None], cache, where)[0, -1:], cache


def relative(got, wanted):
    got, wanted = (each.float().cpu() for each in (got, wanted))
    return float((got - wanted).norm() / wanted.norm())


# The arithmetic.


@SIZES
@torch.inference_mode()
def test_golden_numbers_of_the_language_model(engines, size):
    model, golden = engines(size).lm, golden_of(size)
    prompt = golden["prompt_1_refs"]
    hidden, cache = prefilled(model, prompt)
    np.testing.assert_allclose(hidden[0].cpu(), golden["prefill_hidden"], atol=PRECISE)
    logits, semantic = model.logits(hidden)[0].cpu(), model.codes
    np.testing.assert_allclose(logits[:semantic], golden["prefill_logits_semantic"][:semantic], atol=PRECISE)
    np.testing.assert_allclose(logits[semantic:], golden["prefill_logit_im_end"], atol=PRECISE)
    codes, fast_cache = on_device(golden["fast_forced_codes"]), model.fast_cache(1)
    model.fast(model.fast_input(hidden)[None], 0, fast_cache)
    for i in range(1, 8):
        x = model.fast(model.fast_embeddings(codes[None, i - 1 : i]), i, fast_cache)
        got = model.fast_logits(x)[0, 0].cpu()
        np.testing.assert_allclose(got, golden["fast_logits"][i - 1, :semantic], atol=PRECISE)
    column, width = torch.cat([model.semantic + codes[:1], codes]), prompt.shape[1]
    index = KVIndex.step(torch.tensor([0]), torch.tensor([width], device=DEVICE), width + 1)
    hidden = model.slow(column[None, None], cache, index)[:, 0]
    np.testing.assert_allclose(hidden[0].cpu(), golden["step_hidden"], atol=PRECISE)


@SIZES
@pytest.mark.parametrize("compile", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize(("key", "penalty"), [("greedy_frames", 1.0), ("greedy_frames_penalty_1_2", 1.2)])
def test_golden_frames(engines, size, compile, key, penalty):
    golden, engine = golden_of(size), engines(size, compile=compile)
    sampling = SamplingParams(temperature=0, repetition_penalty=penalty, max_new_tokens=golden[key].shape[1])
    np.testing.assert_array_equal(generated(engine.runner, golden["prompt_1_refs"], sampling), golden[key][1:])


@SIZES
@pytest.mark.parametrize("compile", [False, True], ids=["plain", "recorded"])
def test_golden_numbers_of_the_codec(engines, size, compile):
    engine, golden = engines(size, compile=compile), golden_of(size)
    codec, audio = engine.codec, torch.from_numpy(golden["audio"])
    z = codec.project(audio).cpu()
    np.testing.assert_allclose(z.flatten(1), golden["fsq_input"], atol=10 * PRECISE, rtol=0)
    edge = near_edge(z.numpy(), codec.settings.quantizer.levels).any(-1).T
    np.testing.assert_array_equal(codec.encode(audio).cpu().numpy()[~edge], golden["codes"][~edge])
    sound = engine.decoder.decode(torch.from_numpy(golden["decode_codes"])).cpu()
    np.testing.assert_allclose(sound, golden["decode_audio"], atol=PRECISE, rtol=0)


@SIZES
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@torch.inference_mode()
def test_sixteen_bits_are_near(engines, size, dtype):
    near(engines(size, dtype=dtype).lm, golden_of(size), BOUNDS[dtype])


@SIZES
@pytest.mark.parametrize("kind", ["int8", "int4"])
@torch.inference_mode()
def test_quantized_weights_are_near(engines, size, kind):
    near(engines(size, quantize=kind).lm, golden_of(size), BOUNDS[kind])


def near(model, golden, bound):
    hidden, _ = prefilled(model, golden["prompt_1_refs"])
    assert relative(hidden[0], torch.from_numpy(golden["prefill_hidden"])) < bound
    wanted = torch.from_numpy(golden["prefill_logits_semantic"][: model.codes])
    assert relative(model.logits(hidden)[0][: model.codes], wanted) < bound


def test_half_on_the_command_line(fish, micro, tmp_path):
    ran = fish("say", "Hi.", "-o", "hi.wav", "--half", "--device", DEVICE.type, "--checkpoint-path", micro,
               "--max-new-tokens", "20", "-q")  # fmt: skip
    assert ran.code == 0, ran.err
    assert (tmp_path / "hi.wav").stat().st_size > 2048


# The recorded step.


def prompts_of(model, count):
    """Prompts (K + 1, T) of speech that begin differently, and so share no keys; with sampling and seed."""
    random, k = np.random.default_rng(0), model.settings.codebooks
    for i in range(count):
        codes = random.integers(0, model.codes, (k, 20 + i))
        codes[0, 0] = i
        prompt = np.concatenate([model.semantic + codes[:1], codes])
        yield prompt, SamplingParams(0.7, 0.7, 1.2, max_new_tokens=10 + 3 * (i % 4)), i


class Both(Eager):
    """Steps a plain runner and a recorded one with the same inputs, and counts the choices that are the same."""

    def __init__(self, recorded):
        super().__init__(recorded.model)
        self.recorded, self.same, self.all = recorded, 0, 0

    def cache(self, positions):
        self.other = self.recorded.cache(positions)
        return super().cache(positions)

    def prefill(self, columns, cache, slot, start):
        super().prefill(columns, cache, slot, start)
        self.recorded.prefill(columns, self.other, slot, start)

    def step(self, cache, batch):
        wanted, (_, got) = super().step(cache, batch), self.recorded.step(self.other, batch)
        self.same, self.all = self.same + int((wanted[1] == got).all(1).sum()), self.all + len(got)
        return wanted


@pytest.mark.parametrize("count", BATCHES)
def test_a_batch_is_as_the_plain_step_while_sequences_join_and_leave(fast, count):
    """Each choice is made from the same context. Rounding may tip one in a thousand; the bound is one in a hundred."""
    both = Both(compiled(fast))
    in_company(both, list(prompts_of(fast.lm, count)), [i % 7 for i in range(count)])
    assert both.all >= 10 * count
    assert both.same >= 0.99 * both.all


def test_three_hundred_frames_are_those_of_the_same_step_unrecorded(fast, monkeypatch):
    """To the last bit: a graph replays the same kernels on the same shapes."""
    (prompt, sampling, seed), *_ = prompts_of(fast.lm, 1)
    sampling = dataclasses.replace(sampling, max_new_tokens=300)
    recorded = generated(compiled(fast), prompt, sampling, seed)
    replay = cuda_graph.Recording.replay
    monkeypatch.setattr(cuda_graph.Recording, "replay", lambda self: self._work())
    np.testing.assert_array_equal(generated(compiled(fast), prompt, sampling, seed), recorded)
    monkeypatch.setattr(cuda_graph.Recording, "replay", replay)
    both = Both(compiled(fast))
    generated(both, prompt, sampling, seed)
    assert both.all >= 100
    assert both.same >= 0.99 * both.all


def test_nothing_is_compiled_or_recorded_after_the_first_frame(fast, monkeypatch):
    runner, made, record = compiled(fast), [], Frame.record
    monkeypatch.setattr(Frame, "record", lambda *given: made.append(given) or record(*given))
    requests = list(prompts_of(fast.lm, 3))
    generated(runner, *requests[0])  # the first frame of a batch of one, in a KV cache of its own
    before = len(made), torch._dynamo.utils.counters["stats"]["unique_graphs"]
    in_company(runner, requests, [0, 40, 80])  # one after another
    after = len(made), torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert before[0] == 1
    assert after == (2, before[1])  # recorded anew for the other KV cache, with what was compiled


def waits_for_nothing():
    """A context in which what waits for the device fails: on a GPU by CUDA's own check, else by the operations."""
    if not GPU:
        return Recordable()

    @contextlib.contextmanager
    def checked():
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return checked()


def test_a_frame_waits_for_nothing(fast, monkeypatch):
    """But at its end, for an event. The plain step does wait, which shows that the check works."""
    call = Frame.__call__ if GPU else Frame._work
    calls = []

    def watched(self, *given):
        if GPU or self._recording:
            with torch.inference_mode(), waits_for_nothing():
                calls.append(call(self, *given))
                return calls[-1]
        return call(self, *given)

    if not GPU:
        monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    runner = compiled(fast)
    monkeypatch.setattr(Frame, call.__name__, watched)
    (prompt, sampling, seed), *_ = prompts_of(fast.lm, 1)
    frames = generated(runner, prompt, sampling, seed).shape[1]
    assert len(calls) >= frames - 1 > 0
    assert runner._works
    with pytest.raises((RuntimeError, AssertionError)), waits_for_nothing():
        torch.ones(1, device=DEVICE).item()


# The codec.


def random_codes(engine, frames, seed=0):
    settings = engine.codec_settings
    return np.random.default_rng(seed).integers(0, settings.codes, (settings.codebooks, frames)).astype(np.int16)


@SIZES
@pytest.mark.parametrize("compile", [False, True], ids=["plain", "recorded"])
def test_a_stream_equals_the_whole(engines, size, compile):
    engine = engines(size, compile=compile)
    chunks = list(engine.speak(Request(TEXT, sampling=SHORT)))
    codes = np.concatenate([chunk.codes for chunk in chunks], axis=1)
    whole = engine.codec.decode(on_device(codes)).cpu().numpy() if chunks else np.empty(0)
    ends = np.cumsum([chunk.codes.shape[1] for chunk in chunks])
    assert ends[-1] > 10
    np.testing.assert_allclose(np.concatenate([chunk.samples for chunk in chunks]), whole, atol=10 * PRECISE)


def test_pieces_are_recorded_once_and_their_streams_do_not_mix(engine, monkeypatch):
    record, made = Recorder.record, []
    monkeypatch.setattr(Recorder, "record", lambda *given: made.append(given) or record(*given))
    decoder = RecordedDecoder(engine.codec)
    codes = [torch.from_numpy(random_codes(engine, 50, seed)) for seed in range(3)]
    streams, heard = [decoder.stream() for _ in codes], [[] for _ in codes]
    at = 0
    for size in (4, 4, 8, 16, 16, 2):  # the last one is not recorded
        begun = [stream.begin(each[:, at : at + size]) for stream, each in zip(streams, codes, strict=True)]
        for samples, finish in zip(heard, begun, strict=True):
            samples.append(finish())
        at += size
    assert len(made) == 3
    assert decoder.works
    for each, samples in zip(codes, heard, strict=True):
        torch.testing.assert_close(torch.cat(samples), engine.codec.decode(each).cpu(), atol=PRECISE, rtol=0)


@torch.inference_mode()
def test_a_piece_of_audio_waits_for_nothing(engine):
    decoder = RecordedDecoder(engine.codec)
    stream, codes = decoder.stream(), torch.from_numpy(random_codes(engine, 16))
    stream.begin(codes)()
    if GPU:  # the check of the codes' range looks at the CPU's
        with waits_for_nothing():
            finish = stream.begin(codes)
        assert len(finish()) == 16 * engine.codec_settings.frame
    else:
        with Recordable():
            decoder._plain(codes.long(), decoder.state)


def test_clients_at_once_hear_what_they_would_alone(fast):
    """Pieces are decoded on a stream beside the language model's, and handed over to the threads that read."""
    codes = [random_codes(fast, 60 + i, seed=i) for i in range(6)]
    alone = [fast.codec.decode(on_device(each)).cpu().numpy() for each in codes]
    heard, spoken = {}, []

    def decode(i):
        heard[i] = np.concatenate(list(fast.decode(codes[i])))

    def speak():
        spoken.extend(fast.speak(Request(TEXT, sampling=SHORT)))

    threads = [threading.Thread(target=decode, args=(i,)) for i in range(6)] + [threading.Thread(target=speak)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for i, wanted in enumerate(alone):
        np.testing.assert_allclose(heard[i], wanted, atol=PRECISE)
    assert spoken


def test_encoded_and_decoded(engine, fast):
    samples = (0.1 * np.sin(np.arange(3 * 44100) * 0.05)).astype(np.float32)
    codes = engine.encode(samples)
    assert codes.shape == (8, -(-len(samples) // 2048))
    np.testing.assert_array_equal(fast.encode(samples), codes)
    wanted = np.concatenate(list(engine.decode(codes)))
    assert len(wanted) == codes.shape[1] * 2048
    np.testing.assert_allclose(np.concatenate(list(fast.decode(codes))), wanted, atol=PRECISE)


def test_the_vocoder_in_bfloat16_would_be_inaudible():
    """By two measures on the built-in voice; 45 dB and 0.25 dB measured on a CPU."""
    whole, half = (engine_of(TINY).codec for _ in range(2))
    half.head.to(torch.bfloat16)
    with np.load(DATA / "held_seeds.npz") as held:
        codes = on_device(held["long_0_0"])
    wanted, got = whole.decode(codes).cpu(), half.decode(codes).cpu()
    noise = (wanted - got).square().mean()
    assert 10 * torch.log10(wanted.square().mean() / noise) > 40
    levels = [_levels(each) for each in (wanted, got)]
    loud = levels[0] > levels[0].max() - 60
    assert (levels[0] - levels[1])[loud].square().mean().sqrt() < 0.5


def _levels(samples):
    """Levels of a spectrogram in dB."""
    window = torch.hann_window(2048)
    return 20 * torch.log10(torch.stft(samples, 2048, 512, window=window, return_complex=True).abs().clamp_min(1e-5))


# Engines.


@pytest.mark.parametrize("count", BATCHES)
def test_a_batch_of_clients(fast, count):
    texts = [f"Client {i} says something." for i in range(count)]
    streams = [fast.speak(Request(text, sampling=dataclasses.replace(SHORT, seed=i))) for i, text in enumerate(texts)]
    for stream in streams:
        chunks = list(stream)
        samples = np.concatenate([chunk.samples for chunk in chunks])
        assert len(samples) == 2048 * sum(chunk.codes.shape[1] for chunk in chunks)
        assert np.isfinite(samples).all()


def test_two_engines_in_one_process(folder):
    """Each has a thread, and so compiles and records on its own, at the same time."""
    pair = [engine_of(folder("micro"), compile=True) for _ in range(2)]
    results = {}

    def speak(i):
        results[i] = list(pair[i].speak(Request(TEXT, sampling=SHORT)))

    threads = [threading.Thread(target=speak, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    first, second = ([chunk.codes.tolist() for chunk in results[i]] for i in range(2))
    assert first == second
    assert first
    for engine in pair:
        assert engine.runner._works
        assert engine.decoder.works
        engine.close()


def all_of(size):
    """Tensors of so many bytes, until there is no memory for another."""
    with contextlib.suppress(torch.OutOfMemoryError):
        while True:
            yield torch.empty(size, dtype=torch.uint8, device=DEVICE)


@pytest.fixture
def memory_runs_out(monkeypatch):
    """engine -> a context in which prefills find no memory; without a GPU they are told so."""

    @contextlib.contextmanager
    def limited(engine):
        if GPU:
            torch.cuda.empty_cache()
            total = torch.cuda.get_device_properties(DEVICE).total_memory
            torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / total)
            taken = [*all_of(1 << 20), *all_of(1 << 14), *all_of(512)]
            try:
                yield
            finally:
                taken.clear()
                torch.cuda.set_per_process_memory_fraction(1.0)
        else:

            def full(*given):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

            with monkeypatch.context() as patch:
                patch.setattr(engine.runner, "prefill", full)
                yield

    return limited


def test_memory_that_runs_out_ends_one_request(engines, memory_runs_out):
    engine = engines()
    codes = random_codes(engine, 200)
    request = Request(TEXT, [Reference(codes, "What was said.")], SamplingParams(seed=1, max_new_tokens=4))
    assert list(engine.generate(Request(TEXT, sampling=SHORT)))
    with memory_runs_out(engine), pytest.raises(torch.OutOfMemoryError) as told:
        list(engine.generate(request))
    assert is_out_of_memory(told.value)  # of which commands and servers say one sentence
    assert list(engine.generate(request))
    assert engine.healthy
