"""The compiled step: one graph for all frames, the same frames as without, and a compiler that fails.

A CPU stands in for the GPU: all but the recording of CUDA graphs is the same. `test_cuda.py` has the GPU's tests.
"""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from recordable import Recordable
from sequences import generated, in_company
from torch._dynamo.testing import CompileCounter

from fishcli.engine import load
from fishcli.lm.sampling import WINDOW, SamplingTensors
from fishcli.request import SamplingParams
from fishcli.runners import base as runners
from fishcli.runners.cuda_graph import Compiled, Frame, _block, _embed, _first, _following, _Parts
from fishcli.runners.eager import Eager

CPU = torch.device("cpu")
PARTS = 5  # of a frame of the smallest model, compiled one by one: embed, slow and fast block, first and other codes
SAMPLINGS = [
    SamplingParams(0.7, 0.7, 1.2, max_new_tokens=9),
    SamplingParams(0, max_new_tokens=14),
    SamplingParams(1, 1, 1, max_new_tokens=6),
]


@pytest.fixture(scope="module")
def smallest(make_checkpoint):
    return make_checkpoint("--size", "micro", "--layers", "1", "--fast-layers", "1", "--codebooks", "2")


@pytest.fixture(scope="module")
def model(smallest):
    return load(smallest, device="cpu", dtype="float32").lm


@pytest.fixture
def counter():
    yield CompileCounter()
    torch._dynamo.reset()


@pytest.fixture
def compiled(model, counter):
    return Compiled(model, backend=counter)


def prompt_of(model, width):
    """A prompt (K + 1, width) of speech and other tokens, different for each width."""
    random = np.random.default_rng(width)
    codes = random.integers(0, model.codes, (model.settings.codebooks, width))
    tokens = np.where(random.random(width) < 0.5, codes[0] + model.semantic, random.integers(0, 900, width))
    return np.concatenate([tokens[None], codes])


def requests(model):
    return [(prompt_of(model, 80 * i + 7), sampling, i) for i, sampling in enumerate(SAMPLINGS)]


def joining(runner):
    """The codes of three sequences that differ in everything, join one after another and leave when they end."""
    return in_company(runner, requests(runner.model), [0, 2, 4])


def alone(runner):
    """The codes of the same sequences, each in a batch of its own."""
    return np.concatenate([generated(runner, *each) for each in requests(runner.model)], axis=1)


def rows_at(model, *positions):
    """One step of rows at these positions, all else at random."""
    count, codebooks = len(positions), model.settings.codebooks
    return runners.Batch(
        columns=torch.randint(0, model.codes, (count, codebooks + 1)),
        slots=torch.arange(count) * 500,
        positions=torch.tensor(positions),
        history=torch.randint(0, model.codes + 2, (count, codebooks, WINDOW)),
        params=SamplingTensors(*torch.rand(3, count) + 0.1),
        uniforms=torch.rand(count, codebooks),
    )


def test_frames_are_those_of_the_plain_step(model, compiled, counter):
    for expected, got in zip(joining(Eager(model)), joining(compiled), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert counter.frame_count


@torch.inference_mode()
def test_one_graph_serves_every_step(model, compiled, counter):
    cache, eager = compiled.cache(1000), Eager(model)
    other = eager.cache(1000)
    for each in (cache, other):  # some positions that are read were never written
        each.keys.zero_()
        each.values.zero_()
    for start, width in ((0, 3), (3, 70), (73, 128)):
        for row in (0, 1):
            columns = torch.from_numpy(prompt_of(model, width + row).T)
            for runner, where in ((compiled, cache), (eager, other)):
                runner.prefill(columns, where, row * 500, start)
        for positions in ((start, start + width), (start + width + 1,), (start + width, start)):
            rows = rows_at(model, *positions)
            for expected, got in zip(eager.step(other, rows), compiled.step(cache, rows), strict=True):
                torch.testing.assert_close(got, expected)
    assert counter.frame_count == 2 * PARTS  # batches of one and of two


def test_a_sequence_needs_one_graph_and_so_does_the_next(model, compiled, counter):
    np.testing.assert_array_equal(alone(compiled), alone(Eager(model)))
    assert counter.frame_count == PARTS
    cache = compiled.cache(777)  # a KV cache of another length
    compiled.step(cache, rows_at(model, 5))
    assert counter.frame_count == PARTS


def test_the_layers_of_a_stack_share_what_is_compiled(micro, counter):
    model = load(micro, device="cpu", dtype="float32").lm
    assert (len(model.layers), len(model.fast_layers)) == (3, 2)
    runner, eager = Compiled(model, backend=counter), Eager(model)
    prompt, sampling = prompt_of(model, 40), SamplingParams(max_new_tokens=4)
    np.testing.assert_array_equal(generated(runner, prompt, sampling), generated(eager, prompt, sampling))
    assert counter.frame_count == PARTS + 1  # the fast block with one new position


def test_more_graphs_than_torch_allows_by_default(model, compiled, counter, caplog, monkeypatch):
    monkeypatch.setattr("fishcli.runners.cuda_graph._LEAST_CONTEXT", 64)
    shapes = [(count, context) for count in (1, 2, 8) for context in (64, 128, 256)]
    assert len(shapes) > torch._dynamo.config.recompile_limit
    cache = compiled.cache(8 * 500 + 4096)
    for count, context in shapes * 2:
        compiled.step(cache, rows_at(model, *[context - 5] * count))
    fast = 3  # of the parts, only embed and the slow block depend on the context
    assert counter.frame_count == 2 * len(shapes) + fast * len({count for count, _ in shapes})
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@torch.inference_mode()
def test_sequences_that_fill_up_a_bucket_write_no_slot(model, compiled):
    cache = compiled.cache(3 * 500)
    cache.keys.zero_()
    compiled.step(cache, rows_at(model, 5, 7, 9))  # a bucket of four
    written = cache.keys[0, 0].any(-1).nonzero().flatten().tolist()
    assert written == [5, 507, 1009, cache.positions - 1]


@pytest.mark.parametrize("positions", [((3, 8), (70, 9), (5, 400)), ((3,), (70,), (500,))], ids=["two", "one"])
def test_a_frame_can_be_recorded(model, compiled, monkeypatch, positions):
    """Each does the same operations on the same memory, and none waits for the GPU to look at a number."""
    cache, seen = compiled.cache(1000), []

    def work(self, plain=Frame._work):
        self._compiled = _Parts(_embed, _block, _first, _following)  # whose operations can be seen
        with Recordable() as mode:
            result = plain(self)
        seen.append((mode.operations, mode.read))
        return result

    monkeypatch.setattr(Frame, "_work", work)
    for at in positions:
        compiled.step(cache, rows_at(model, *at))
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]
    assert {cache.keys.data_ptr(), cache.values.data_ptr(), model.rotation.data_ptr()} < seen[0][1]


def test_a_compiler_that_fails_is_said_once_and_nothing_is_lost(model, caplog):
    def backend(graph, inputs):
        raise OSError("no Triton here\nand much more")

    runner = Compiled(model, backend=backend)
    for expected, got in zip(joining(Eager(model)), joining(runner), strict=True):
        np.testing.assert_array_equal(got, expected)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == ["The decode step cannot be compiled here (no Triton here); going on without."]


def test_a_failure_after_some_frames_loses_none(model, compiled, monkeypatch, caplog):
    replay, calls = Frame.__call__, []

    def failing(self, batch):
        calls.append(replay(self, batch))
        if len(calls) == 5:
            raise AssertionError
        return calls[-1]

    monkeypatch.setattr(Frame, "__call__", failing)
    for expected, got in zip(joining(Eager(model)), joining(compiled), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert "The decode step cannot be compiled here (AssertionError); going on without." in caplog.messages
    assert len(calls) == 5


def test_a_cache_that_cannot_be_written(model, compiled, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FISHCLI_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torch"))
    compiled.step(compiled.cache(10), rows_at(model, 5))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture(autouse=True)
def _own_torch_cache(monkeypatch, tmp_path):
    """What the first compiling sets is for the process; the tests' other ones must not get it."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torch"))


PROGRAM = """
import json, logging, os, sys
from torch._dynamo.utils import counters
sys.path[:0] = [{tests!r}]
import test_compile as t
del os.environ["TORCHINDUCTOR_CACHE_DIR"]  # its imports have torch set its default, which `say` does not
from fishcli.engine import load
from fishcli.runners.cuda_graph import Compiled
from fishcli.runners.eager import Eager

messages = []
handler = logging.Handler()
handler.emit = lambda record: messages.append(record.getMessage())
logging.getLogger("fishcli").addHandler(handler)
logging.getLogger("fishcli").setLevel(logging.INFO)

model = load({folder!r}, device="cpu", dtype="float32").lm
same = bool((t.alone(Compiled(model)) == t.alone(Eager(model))).all())
print(json.dumps(dict(same=same, messages=messages, **counters["inductor"], **counters["aot_autograd"])))
"""


@pytest.mark.slow
def test_a_second_process_starts_with_what_the_first_compiled(smallest, tmp_path):
    """By torch's own compiler."""
    environment = os.environ | {"FISHCLI_CACHE_DIR": str(tmp_path / "cache")}
    del environment["TORCHINDUCTOR_CACHE_DIR"]  # which _own_torch_cache set

    def run():
        program = PROGRAM.format(tests=str(Path(__file__).parent), folder=str(smallest))
        ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        assert not ran.stderr
        return json.loads(ran.stdout)

    first, second = run(), run()
    assert (tmp_path / "cache" / "compiled" / "fxgraph").is_dir()
    assert first["same"]
    assert second["same"]
    assert [message[:26] for message in first["messages"]] == ["Compiling the decode step "]
    assert not second["messages"]
    for cache in ("autograd", "fxgraph"):
        assert first[f"{cache}_cache_miss"] == PARTS
        assert second[f"{cache}_cache_hit"] == PARTS
        assert f"{cache}_cache_miss" not in second
