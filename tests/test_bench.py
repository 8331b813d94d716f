"""`fish bench`: what it measures and shows, the random checkpoint, and what quantization costs. No time is judged."""

import json
import os
import subprocess
import sys

import pytest
import torch
from rich.console import Console

from fishcli import files, load
from fishcli.bench import listening, quality, roofline, speed, start
from fishcli.bench.task import Task, cache_aside
from fishcli.bench.timing import Spread
from fishcli.cli import bench, bench_table, console
from fishcli.errors import FishError
from fishcli.lm.model import Transformer
from fishcli.lm.settings import LMSettings
from fishcli.native import build
from fishcli.testing import checkpoint

SHORT = ("--size", "micro", "--repeat", "1")


def spreads(fields: object) -> list[dict[str, float]]:
    """All that was measured several times, wherever it stands."""
    if isinstance(fields, dict) and fields.keys() == {"median", "minimum", "maximum"}:
        return [fields]
    inner = fields.values() if isinstance(fields, dict) else fields if isinstance(fields, list) else []
    return [spread for each in inner for spread in spreads(each)]


def test_json(fish, no_voice_is_kept):
    code, out, err = fish("bench", *SHORT, "--batch", "3,1", "--json", "-q")
    assert (code, err) == (0, "")
    told = json.loads(out)
    machine, bound = told["machine"], told["roofline"]
    assert machine.keys() == {"processor", "cores", "load", "threads", "torch", "device", "dtype", "quantize", "runner"}
    assert [step["batch"] for step in told["decode_step"]] == [3, 1]
    assert [decode["frames"] for decode in told["codec_decode"]] == [1, 4, 16]
    assert told["prefill"]["positions"] > 215  # of which the reference has as many
    assert all(each["frames"] <= 100 for each in told["sentence"])
    assert told["start"]["peak_memory"] > told["start"]["weights"] > 3_000_000
    assert 0 < bound["efficiency"] < 1.5
    assert bound["efficiency"] == pytest.approx(
        told["decode_step"][1]["frames_per_second"]["median"] / bound["frames_per_second"], rel=1e-6
    )
    found = spreads(told)
    assert len(found) == 19
    assert all(0 < each["minimum"] <= each["median"] <= each["maximum"] for each in found)


@pytest.mark.skipif(build.why_not() is not None, reason="there is no C++ compiler")
def test_table_with_quality(fish, monkeypatch):
    monkeypatch.setattr(console, "stdout", Console(force_terminal=True, width=120, color_system=None))
    code, out, err = fish("bench", *SHORT, "--batch", "1", "--quality", "--text", "A short sentence.", "-q")
    assert (code, err) == (0, "")
    assert "micro random weights on " in out
    for name in (
        "decode step, batch of 1",
        "time to first audio, cached voice",
        "memory roofline",
        "int8, cosine",
        "int4, ",
    ):
        assert name in out


def test_start_where_a_seed_says_nothing():
    task = Task(load(device="cpu"), 1, text="/tmp/full")
    assert start.measure(task).seconds.median > 0


def test_plain_lines(capfd):
    spread = bench._timed("a thing", Spread(0.0015, 0.001, 2.5), "6 things/s")
    bench_table.show("title", {"cores": 2}, [spread, bench_table.Line("share", "50%")])
    assert capfd.readouterr().out == "title\ncores 2\na thing: 1.5 ms (1.0 ms to 2.50 s), 6 things/s\nshare: 50%\n"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--batch", "0"], "--batch must be numbers from 1 to 256, such as 1,8, not '0'"),
        (["--batch", "1,,8"], "--batch must be"),
        (["--batch", "257"], "--batch must be"),
        (["--size", "tiny"], "--size must be one of full, micro, not tiny."),
        (["--repeat", "0"], "--repeat must be a whole number from 1 up, not 0."),
        (["--size", "micro", "--checkpoint-path", "built-in"], "--size and --checkpoint-path contradict each other"),
    ],
    ids=str,
)
def test_usage_errors(fish, wrong, said):
    code, out, err = fish("bench", *wrong)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_what_cannot_be_spoken(fish):
    assert fish("bench", "--checkpoint-path", "built-in", "--text", "...").code == 1


def test_help_imports_nothing_heavy():
    program = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules))\n"
    program += "sys.argv = ['fish', 'bench', '-h']; from fishcli.cli.main import main; main()"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("False\n")


def test_a_new_process_that_cannot_speak_is_told(micro):
    task = Task(load(micro, device="cpu"), repeat=1, text="...")
    with pytest.raises(FishError, match="A new process could not speak"):
        start.measure(task)


def test_the_random_checkpoint_is_made_once(caplog):
    folder = checkpoint.cached("micro")
    made = (folder / "model.pth").stat().st_mtime_ns
    assert checkpoint.cached("micro") == folder
    assert (folder / "model.pth").stat().st_mtime_ns == made
    assert {path.name for path in folder.parent.iterdir()} == {"micro", "micro.lock"}
    size = sum((folder / name).stat().st_size for name in ("model.pth", checkpoint.local.CODEC))
    assert 0 < size - checkpoint.micro().bytes < 300_000  # what the zip archives add


def test_the_full_size_is_that_of_the_real_model():
    assert checkpoint.FULL.bytes == pytest.approx(1.28e9 + 0.19e9, rel=0.01)


def test_spread():
    spread = Spread.of([4.0, 1.0, 2.0])
    assert spread == Spread(2.0, 1.0, 4.0)
    assert spread.rate(8) == Spread(4.0, 2.0, 8.0)


def test_the_bytes_of_a_frame_are_those_that_are_stored(micro):
    full, small = (load(micro, device="cpu", dtype=dtype, quantize="none").lm for dtype in ("float32", "bfloat16"))
    assert roofline.weights_read(full) == tuple(2 * count for count in roofline.weights_read(small))


def test_what_two_gpus_should_reach():
    """By the bytes of the full-size model in bfloat16 and the published bandwidths; no device has run it."""
    with torch.device("meta"):
        model = Transformer(LMSettings.from_dict(checkpoint.FULL_LM), 1000, 100_014).to(torch.bfloat16)
    assert sum(roofline.weights_read(model)) == pytest.approx(0.72e9 + 0.12e9, rel=0.01)
    reached = {name: roofline.expected(model, bandwidth) for name, bandwidth in roofline.PUBLISHED.items()}
    assert reached["RTX 4090"] == (pytest.approx(595, rel=0.01), pytest.approx(0.65, abs=0.01))
    assert reached["H100 SXM"] == (pytest.approx(1980, rel=0.01), pytest.approx(0.36, abs=0.01))


def test_bandwidth_by_a_copy():
    copier = roofline.Copier(torch.device("cpu"), 1 << 20)
    copier.read()
    assert copier.best > 0
    assert torch.equal(copier._source, copier._target)


@pytest.mark.parametrize(
    ("rates", "batch"), [({1: 10, 8: 60, 32: 100, 64: 101}, 32), ({1: 10, 8: 80}, 8), ({8: 5, 1: 5}, 1)]
)
def test_the_batch_beyond_which_nothing_is_gained(rates, batch):
    steps = [speed.DecodeStep(n, 300, Spread(1, 1, 1), Spread(rate, rate, rate)) for n, rate in rates.items()]
    assert speed.saturation(steps) == batch


def test_the_cache_is_laid_aside_and_put_back(monkeypatch):
    before = files.folder("cache")
    with cache_aside():
        assert files.folder("cache") != before
    assert files.folder("cache") == before
    monkeypatch.delenv("FISHCLI_CACHE_DIR")
    with cache_aside():
        pass
    assert "FISHCLI_CACHE_DIR" not in os.environ


@pytest.mark.skipif(build.why_not() is not None, reason="there is no C++ compiler")
def test_quantized_choices_are_near_to_those_of_full_precision(micro):
    engine = load(micro, device="cpu")
    task = Task(engine, repeat=1)
    found = {each.kind: each for each in quality.measure(task, utterances=1).fidelity}
    assert found.keys() == {"int8", "int4"}
    assert all(each.positions == 200 for each in found.values())
    assert found["int8"].cosine_minimum > 0.99
    assert found["int8"].same_argmax > 0.9
    assert found["int8"].cosine_mean > found["int4"].cosine_mean > 0.9
    (same,) = quality.compare(task, {"none": engine, "same": engine})
    assert (same.same_argmax, same.cosine_minimum) == (1, pytest.approx(1, abs=1e-5))


def test_what_a_device_cannot_run_is_left_out(micro, caplog):
    task = Task(load(micro, device="cpu", dtype="float16", quantize="none"), repeat=1)
    assert list(quality._engines(task)) == ["none"]
    assert "int8 is not compared" in caplog.text


@pytest.mark.parametrize("utterances", [1, 19, 20, 21, 160])
def test_utterances_are_spread_over_the_sentences(utterances):
    seeds = [count for _, count in quality._shares(utterances)]
    assert sum(seeds) == utterances
    assert max(seeds) - min(seeds) <= 1


def test_words_are_heard_in_every_kind():
    pytest.importorskip("faster_whisper")
    engine = load("built-in", device="cpu", threads=1)
    assert quality._word_error_rate(engine, 3) < 0.7


def test_without_the_recogniser_it_is_said(micro, monkeypatch):
    task = Task(load("built-in", device="cpu"), repeat=1)
    assert quality._why_unheard(task) is None or not listening.is_installed()
    monkeypatch.setattr(listening, "is_installed", lambda: False)
    assert "pip install 'fishcli[listen]'" in quality._why_unheard(task)
    other = Task(load(micro, device="cpu"), repeat=1)
    assert "built-in voice only" in quality._why_unheard(other)
