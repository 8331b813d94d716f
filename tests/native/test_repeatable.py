"""The bits of a column depend neither on the columns beside it, nor on the threads, nor on the blocks of a prefill."""

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from native_models import FORMATS, INSTRUCTION_SETS, batch, columns, instruction_set, random_lm

from fishcli.native import build, compiler
from fishcli.runners.native_lm import Native

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason="there is no C++ compiler")

LONGEST = 19  # columns: three shares of a product and a rest, with tiles of any height
SLOT = 64


@pytest.fixture(scope="module", params=FORMATS)
def model(request):
    return random_lm(request.param)


def hidden(runner: Native, blocks: list[int]) -> torch.Tensor:
    """The hidden states of as many columns as the blocks have together."""
    given, cache = columns(runner.model, sum(blocks)), runner.cache(200)
    edges = [sum(blocks[:i]) for i in range(len(blocks) + 1)]
    pieces = [runner.hidden(given[a:b], cache, 7, a) for a, b in pairwise(edges)]
    return torch.cat(pieces)


def check_blocks(model, threads: int) -> None:
    runner = Native(model, threads)
    expected = hidden(runner, [LONGEST])
    for count in range(1, LONGEST):
        assert torch.equal(hidden(runner, [count]), expected[:count]), f"{count} columns on {threads} threads"
        assert torch.equal(hidden(runner, [count, LONGEST - count]), expected), f"cut at {count} on {threads} threads"


def decode_step(runner: Native, which: range) -> list[torch.Tensor]:
    """Step some of nine sequences: their columns, choices, and the keys and values that the step writes."""
    slots = torch.arange(9).flip(0) * SLOT
    positions = torch.tensor([3, 40, 17, 1, 30, 31, 32, 0, 55])
    cache = runner.cache(9 * SLOT)
    prompt = columns(runner.model, SLOT)
    for i in which:
        if positions[i]:
            runner.prefill(prompt[: positions[i]], cache, int(slots[i]), 0)
    given = batch(runner.model, slots, positions)
    chosen = given._replace(
        **{name: getattr(given, name)[which.start : which.stop] for name in given._fields if name != "params"},
        params=type(given.params)(*(each[which.start : which.stop] for each in given.params)),
    )
    made, choices = runner.step(cache, chosen)
    written = (slots + positions)[which.start : which.stop]
    return [
        made,
        choices,
        cache.keys[:, :, written].permute(2, 0, 1, 3),
        cache.values[:, :, written].permute(2, 0, 1, 3),
    ]


def check_steps(model, threads: int) -> None:
    runner = Native(model, threads)
    together = decode_step(runner, range(9))
    for count in range(1, 9):
        for start in range(0, 9 - count + 1, count):
            fewer = decode_step(runner, range(start, start + count))
            for got, expected in zip(fewer, together, strict=True):
                assert torch.equal(got, expected[start : start + count]), f"{count} sequences on {threads} threads"


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_blocks_of_a_prefill(model, threads):
    check_blocks(model, threads)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_batches_of_a_step(model, threads):
    check_steps(model, threads)


def test_threads(model):
    expected = hidden(Native(model, 1), [LONGEST])
    for threads in (2, 3, 4):
        assert torch.equal(hidden(Native(model, threads), [LONGEST]), expected)


@pytest.mark.parametrize("march", [name for name in INSTRUCTION_SETS if name != "native"])
def test_other_instruction_sets(model, march):
    with instruction_set(march):
        check_blocks(model, 2)
        check_steps(model, 1)


def driven(command, tuning, folder, *emulator):
    """Return the means of hidden states by format, which driver.cpp prints; it fails where bits differ."""
    program, source = folder / "driver", Path(__file__).parent / "driver.cpp"
    flags = [*build._FLAGS, *tuning, f"-I{build._SOURCES}"]
    subprocess.run([*command, *flags, str(source), "-o", str(program)], check=True)
    done = subprocess.run([*emulator, str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return {int(format): float(mean) for format, mean in map(str.split, done.stdout.splitlines())}


@pytest.mark.parametrize("march", ["armv8-a", "armv8.2-a+dotprod"])
def test_64_bit_arm(tmp_path, march):
    """The same without Python, under an emulator; with the numbers that this processor finds."""
    cross = shutil.which("aarch64-linux-gnu-g++")
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if not cross or not emulator:
        pytest.skip("there is no aarch64-linux-gnu-g++ or no qemu-aarch64")
    got = driven([cross], [f"-march={march}", "-static"], tmp_path, emulator)
    here = driven(build.found_compiler(), [compiler.tuning()], tmp_path)
    # The decoder's random weights depend on the width of a vector.
    assert [got[format] for format in range(4)] == pytest.approx([here[format] for format in range(4)], rel=2e-3)
