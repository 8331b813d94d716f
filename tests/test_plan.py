"""How a model runs: the number of threads, and the quota of control groups."""

import logging

import pytest
import torch

from fishcli.engine import load
from fishcli.errors import SettingError
from fishcli.runners import plan
from fishcli.runners.eager import Eager


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2.0),
        ("0::/a/b\n", {"a/b/cpu.max": "100000 100000\n", "a/cpu.max": "200000 100000\n"}, 1.0),
        ("0::/gone\n", {"cpu.max": "50000 100000\n"}, 0.5),
        (
            "4:memory:/x\n1:cpu,cpuacct:/d\n",
            {"cpu/d/cpu.cfs_quota_us": "300000\n", "cpu/d/cpu.cfs_period_us": "100000\n", "x/cpu.max": "1 1\n"},
            3.0,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("", {}, None),
    ],
)
def test_the_quota_of_control_groups(tmp_path, groups, files, quota):
    (tmp_path / "own").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert plan.cpu_quota(tmp_path / "groups", tmp_path / "own") == quota


@pytest.mark.parametrize(
    ("wanted", "large", "cores", "quota", "threads"),
    [
        (None, True, 8, None, 8),
        (None, True, 8, 2.0, 2),
        (None, True, 8, 2.9, 2),
        (None, True, 8, 0.5, 1),
        (None, True, 2, 16.0, 2),
        (None, False, 8, None, 1),
        (None, False, 8, 4.0, 1),
        (6, True, 8, None, 6),
        (6, False, 8, None, 6),
        (8, True, 8, 8.0, 8),
        (6, True, 8, 2.0, 2),
        (1000, False, 8, None, 8),
        (1000, True, 2, 0.5, 1),
    ],
)
def test_threads_follow_the_cores_and_the_quota(monkeypatch, caplog, wanted, large, cores, quota, threads):
    monkeypatch.setattr(plan, "physical_cores", lambda: cores)
    monkeypatch.setattr(plan, "cpu_quota", lambda: quota)
    monkeypatch.setattr(plan, "log", logging.getLogger("test_plan"))
    assert plan.pick_threads(wanted, 2 * plan.SMALL if large else plan.SMALL // 2) == threads
    capped = wanted is not None and wanted > threads
    assert [each.args for each in caplog.records] == ([(wanted, threads)] if capped else [])


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *[("threads", value) for value in (0, -1, 1.5, "x", "2", True)],
        *[("kv_memory", value) for value in (0, -5, "much", 2.5, False)],
        *[("compile", value) for value in (0, 1, "true", "auto")],
        ("device", "gpu"),
        ("dtype", "int8"),
        ("quantize", "int2"),
    ],
)
def test_nonsense_names_the_argument(argument, value):
    with pytest.raises(SettingError, match=f"^{argument} must be .*{value!r}") as caught:
        load("built-in", **{"device": "cpu", argument: value})
    assert caught.value.field == argument


CPU = torch.device("cpu")
LARGE = 2 * plan.SMALL


@pytest.mark.parametrize(
    ("compile", "dtype", "quantize", "size", "built", "native"),
    [
        (None, "auto", "auto", 1, False, False),
        (None, "auto", "auto", 1, True, True),
        (None, "auto", "auto", LARGE, False, True),
        (None, "auto", "int8", 1, False, True),
        (True, "auto", "auto", 1, False, True),
        (True, "float16", "auto", LARGE, True, False),
        (False, "auto", "auto", 1, True, False),
        (False, "auto", "auto", LARGE, True, False),
        (False, "auto", "int8", LARGE, True, False),
    ],
)
def test_what_runs_in_compiled_code(monkeypatch, compile, dtype, quantize, size, built, native):
    monkeypatch.setattr(plan.build, "is_built", lambda: built)
    assert plan.pick_native(CPU, dtype, quantize, size, compile) == native


def test_compile_false_is_pytorch_alone(micro, caplog):
    engine = load(micro, device="cpu", compile=False)
    assert isinstance(engine.runner, Eager)
    assert not engine.plan.native
    assert caplog.text == ""
    with pytest.raises(SettingError, match="int8 on a CPU needs compiled code, and compile is false"):
        load(micro, device="cpu", compile=False, quantize="int8")


@pytest.mark.parametrize("compile", [None, True])
def test_float16_on_a_cpu_is_slow_and_says_so(monkeypatch, caplog, compile):
    monkeypatch.setattr(plan, "log", logging.getLogger("test_plan"))
    made = plan.make_plan(1, device="cpu", dtype="float16", compile=compile)
    assert not made.native
    assert [each.getMessage() for each in caplog.records] == [
        "float16 on a CPU runs without the compiled code, several times slower; leave dtype at auto."
    ]
