"""What Python passes to the C++ cannot crash the process: indices, NaN, threads that do not start, fork and exit."""

import os
import random  # noqa: F401  # for the programs below
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from native_models import FORMATS, batch, columns, random_lm

from fishcli.native import build
from fishcli.runners.native_lm import Native

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason="there is no C++ compiler")

BAD = [-1, -(2**40), 2**31, 2**40, 2**63 - 1, -(2**63)]


@pytest.fixture(scope="module")
def runner():
    return Native(random_lm("float32"), 2)


def inputs(runner, count=3):
    return runner.cache(300), batch(runner.model, torch.arange(count) * 100, torch.tensor([7, 0, 99][:count]))


def with_entry(tensor, index, value):
    tensor = tensor.clone()
    tensor[index] = value
    return tensor


@pytest.mark.parametrize(
    ("field", "change"),
    [
        *((field, (index, value)) for field, index in [("columns", (1, 0)), ("columns", (2, 3))] for value in BAD),
        *((field, (1, value)) for field in ("slots", "positions") for value in BAD),
        *(("history", ((0, 1, 5), value)) for value in BAD if value < 0),
        ("columns", ((0, 0), 300)),
        ("columns", ((0, 1), 64)),
        ("slots", (1, 300)),
        ("positions", (2, 100)),
        ("positions", (0, 256)),
    ],
)
def test_an_index_out_of_range_in_a_step(runner, field, change):
    cache, given = inputs(runner)
    with pytest.raises(ValueError, match=field):
        runner.step(cache, given._replace(**{field: with_entry(getattr(given, field), *change)}))


@pytest.mark.parametrize("field", ["columns", "slots", "positions", "history", "uniforms"])
@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: tensor[:1],
        lambda tensor: tensor[..., None],
        lambda tensor: tensor.to(torch.complex64),
        lambda tensor: tensor.bool(),
        lambda tensor: tensor.to("meta"),
        lambda tensor: tensor.to_sparse(),
        lambda tensor: tensor.tolist(),
        lambda tensor: None,
        lambda tensor: tensor.float() if not tensor.is_floating_point() else tensor.long(),
    ],
    ids=["short", "deep", "complex", "bool", "meta", "sparse", "list", "None", "other kind"],
)
def test_a_tensor_of_the_wrong_kind_in_a_step(runner, field, change):
    cache, given = inputs(runner)
    with pytest.raises(ValueError, match=r"slots|columns|positions|history|uniforms|temperature"):
        runner.step(cache, given._replace(**{field: change(getattr(given, field))}))


def test_other_integers_and_strides_mean_the_same(runner):
    cache, given = inputs(runner)
    expected = runner.step(cache, given)
    strided = [torch.stack([each, each], dim=-1).to(torch.int32)[..., 0] for each in given[:4]]
    wide = given._replace(uniforms=given.uniforms.T.contiguous().T)
    for got, wanted in zip(runner.step(cache, type(given)(*strided, *wide[4:])), expected, strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize(
    ("slot", "start", "count", "said"),
    [
        (-1, 0, 1, "slot"),
        (301, 0, 1, "slot"),
        (2**70, 0, 1, "slot"),
        (1.5, 0, 1, "slot"),
        (None, 0, 1, "slot"),
        (0, -1, 1, "start"),
        (0, 257, 1, "start"),
        (0, "0", 1, "start"),
        (300, 0, 1, "position"),
        (299, 0, 2, "position"),
        (0, 250, 7, "position"),
        (100, 201, 1, "position"),
    ],
)
def test_a_prefill_out_of_the_cache(runner, slot, start, count, said):
    given = columns(runner.model, count)
    for call in (runner.prefill, runner.hidden):
        with pytest.raises(ValueError, match=said):
            call(given, runner.cache(300), slot, start)


def test_the_last_position_can_be_used(runner):
    given = columns(runner.model, 256)
    runner.prefill(given, runner.cache(300), 44, 0)
    assert runner.hidden(given[:0], runner.cache(300), 300, 256).shape == (0, 640)


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: cache.keys.bfloat16(),
        lambda cache: cache.keys[..., :32],
        lambda cache: cache.keys[:1],
        lambda cache: cache.keys[:, :, :100],
        lambda cache: cache.keys.transpose(2, 3).contiguous().transpose(2, 3),
        lambda cache: cache.keys.to("meta"),
    ],
    ids=["bfloat16", "half a head", "one layer", "fewer positions", "transposed", "meta"],
)
@pytest.mark.parametrize("name", ["keys", "values"])
def test_a_cache_of_another_model(runner, name, change):
    cache, given = inputs(runner)
    setattr(cache, name, change(cache))
    with pytest.raises(ValueError, match="KV cache"):
        runner.step(cache, given)


def test_more_sequences_than_positions(runner):
    cache = runner.cache(2)
    with pytest.raises(ValueError, match="room"):
        runner.step(cache, batch(runner.model, torch.zeros(3, dtype=torch.long), torch.zeros(3, dtype=torch.long)))


HOSTILE = """
import sys; sys.path.insert(0, sys.argv[1])
from test_native_safety import *
runner, draw = Native(random_lm("float32"), 2), random.Random(0)
numbers = [*BAD, 0, 1, 7, 59, 63, 64, 99, 100, 200, 255, 256, 299, 300, 301, 2**31 - 1, 2**32]
refused = 0
for _ in range(1000):
    cache, given = inputs(runner)
    fields = {name: getattr(given, name).clone() for name in ("columns", "slots", "positions", "history")}
    for _ in range(draw.randint(1, 3)):
        tensor = draw.choice(list(fields.values())).view(-1)
        tensor[draw.randrange(len(tensor))] = draw.choice(numbers)
    try:
        runner.step(cache, given._replace(**fields))
    except ValueError:
        refused += 1
    try:
        runner.prefill(fields["columns"], cache, draw.choice(numbers), draw.choice(numbers))
    except ValueError:
        refused += 1
print(refused)
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program that can import this file, in a process of its own."""
    here = str(Path(__file__).parent)
    return subprocess.run(
        [sys.executable, "-c", code, here, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_thousand_hostile_inputs():
    done = run(HOSTILE)
    assert done.returncode == 0, done.stderr
    assert 1000 < int(done.stdout) < 2000


@pytest.mark.parametrize("format", FORMATS)
def test_logits_that_are_not_finite(format):
    """The choice is -1, the codes are 0, and the other sequences of the batch do not notice."""
    runner = Native(random_lm(format), 2)
    cache, given = inputs(runner)
    for tensor in (cache.keys, cache.values):
        tensor.fill_(0.5)
    expected = runner.step(cache, given)
    cache.values[:, :, :100] = torch.nan  # the slot of the first sequence
    made, choices = runner.step(cache, given)
    assert choices[0].tolist()[0] == -1
    assert (made[0, 1:] >= 0).all()
    assert made[0, 1] == 0
    assert torch.equal(made[1:], expected[0][1:])
    assert torch.equal(choices[1:], expected[1][1:])


NO_MEMORY = """
import sys; sys.path.insert(0, sys.argv[1])
import pathlib, resource
from test_native_safety import *
runner = Native(random_lm("float32", max_seq_len=8192), 2)
given, cache = columns(runner.model, 1).expand(8000, -1), runner.cache(8000)
runner.hidden(given[:10], cache, 0, 0)
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (32 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for count in (8000, 10):
    try:
        print(len(runner.hidden(given[:count], cache, 0, 0)))
    except MemoryError as error:
        print(error)
    except RuntimeError as error:  # torch's own
        print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how much is taken is read from /proc")
def test_memory_that_runs_out():
    """Far more columns at once than a prompt is ever given in, and next to no memory left for them."""
    done = run(NO_MEMORY)
    assert done.stdout.splitlines() == ["There is no memory left for the language model.", "10"], done.stderr


FEWER_THREADS = """
import logging, pathlib, resource, sys
sys.path.insert(0, sys.argv[1])
logging.basicConfig(format="%(message)s")
from test_native_safety import *
model = random_lm("float32")
build.load()
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (400 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
build.pool(512)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how much is taken is read from /proc")
def test_threads_that_do_not_start():
    done = run(FEWER_THREADS)
    assert done.returncode == 0, done.stderr
    started = int(done.stderr.split("started only ")[1].split()[0])
    assert 1 <= started < 512


FORKED = """
import os, sys; sys.path.insert(0, sys.argv[1])
from test_native_safety import *
torch.set_num_threads(1)
model = random_lm("float32")
runner, given = Native(model, 2), columns(model, 10)
expected = runner.hidden(given, runner.cache(10), 0, 0)
if not os.fork():
    try:
        runner.hidden(given, runner.cache(10), 0, 0)
    except RuntimeError as error:
        print(error)
    again = Native(model, 2)
    print(torch.equal(again.hidden(given, again.cache(10), 0, 0), expected), flush=True)
    os._exit(0)
os.wait()
print(torch.equal(runner.hidden(given, runner.cache(10), 0, 0), expected))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_has_no_threads():
    done = run(FORKED)
    said = "The language model was loaded before fork(), which copies no threads: load it after."
    assert done.stdout.splitlines() == [said, "True", "True"], done.stderr


AT_EXIT = """
import sys, threading, time; sys.path.insert(0, sys.argv[1])
from test_native_safety import *
runner = Native(random_lm("float32"), 2)
cache, given = inputs(runner)
def work():
    while True:
        runner.step(cache, given)
threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
"""


def test_exit_during_a_step():
    codes = [run(AT_EXIT).returncode for _ in range(3)]
    # Python itself may abort a daemon thread that torch's code does not let end.
    assert not {-signal.SIGSEGV, -signal.SIGBUS} & set(codes), codes
