"""`fish doctor`: findings, the remedy for each problem, and the exit code."""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY
from rich.cells import cell_len

from fishcli.checkpoints import local
from fishcli.config import SETTINGS, Resolved
from fishcli.doctor import machine, models
from fishcli.engine import engine

EVERYWHERE = {
    "fishcli",
    "python",
    "libraries",
    "torch",
    "processor",
    "device",
    "dtype",
    "quantize",
    "threads",
    "compile",
    "model",
}
EVERYWHERE |= {"on disk", "data", "cache", "cached files", "normalize", "audio output", "settings", "KV cache", "speed"}


@pytest.fixture(autouse=True)
def _own(tmp_path, monkeypatch):
    """Folders and engines of this test alone (some damage files that are mapped), and no other settings."""
    monkeypatch.setattr(engine, "_engines", {})
    for kind in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"FISHCLI_{kind}_DIR", str(tmp_path / "own" / kind.lower()))
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def doctor(fish, monkeypatch):
    """Run the doctor -> its exit code, and the checks by name."""

    def run(*arguments: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
        if arguments:  # it speaks, and two threads are slow on a machine where other tests run
            monkeypatch.setenv("FISHCLI_THREADS", "1")
        ran = fish("doctor", "--json", *arguments)
        found = json.loads(ran.out)
        assert len({check["name"] for check in found["checks"]}) == len(found["checks"])
        assert found["checks"][-1]["name"] == "cached files"
        assert found["ok"] == (ran.code == 0)
        by_name: dict[str, list[dict[str, str]]] = {}
        for check in found["checks"]:
            assert check["remedy"] or check["state"] == "ok", check
            by_name.setdefault(re.sub(r" \d+$", "", check["name"]), []).append(check)
        return ran.code, by_name

    return run


def only(checks: list[dict[str, str]], state: str) -> dict[str, str]:
    """The one check that is in that state."""
    found = [check for check in checks if check["state"] == state]
    assert len(found) == 1, checks
    return found[0]


def flip_last_byte(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_the_built_in_voice_has_no_failures(doctor):
    code, checks = doctor()
    assert code == 0
    assert set(checks) - {"load", "CPUs", "CPU quota"} == EVERYWHERE
    assert torch.__version__ in checks["torch"][0]["value"]
    assert "fish download" in checks["model"][0]["remedy"]
    assert checks["speed"][0]["remedy"] == "run `fish doctor --verify`"
    assert checks["settings"] == [{"name": "settings", "value": "the defaults", "state": "ok", "remedy": ""}]


def test_plain_lines_and_quiet(fish, monkeypatch):
    monkeypatch.setenv("FISHCLI_CHECKPOINT_PATH", "no-such-model")
    ran = fish("doctor")
    assert ran.code == 1
    assert ran.err == ""
    lines = ran.out.splitlines()
    assert all(line.startswith(("ok    ", "warn  ", "fail  ", "      -> ")) for line in lines)
    at = lines.index("fail  model: no-such-model, from environment FISHCLI_CHECKPOINT_PATH")
    assert lines[at + 1].startswith("      -> ")
    assert "no-such-model" in lines[at + 1]
    quiet = fish("doctor", "-q").out
    assert "fail  model" in quiet
    assert "ok  " not in quiet


@pytest.mark.parametrize("columns", [40, 80])
def test_a_terminal_is_not_too_narrow(columns, tmp_path):
    environment = {
        **os.environ,
        "FORCE_COLOR": "1",
        "NO_COLOR": "1",
        "COLUMNS": str(columns),
        "FISHCLI_CODEC_PATH": str(tmp_path / "no" / "such" / "file" / "with" / "a" / "long" / "name.pth"),
    }
    command = [sys.executable, "-m", "fishcli", "doctor"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "\x1b[3" not in ran.stdout  # no colour
    assert max(cell_len(line) for line in ran.stdout.replace("\x1b[", "\n").splitlines()) <= columns
    assert all(name in ran.stdout for name in EVERYWHERE - {"KV cache", "speed"})


# Settings


def test_every_broken_source_of_settings_is_named(doctor, tmp_path, monkeypatch):
    own = tmp_path / "own" / "config" / "config.toml"
    own.parent.mkdir(parents=True)
    own.write_text("[generate]\ntop_p = 5\n")
    (tmp_path / "fishcli.toml").write_text("device = 'cpu'\n")
    monkeypatch.setenv("FISHCLI_DEVISE", "cpu")
    code, checks = doctor()
    assert code == 1
    assert "speed" not in checks  # nothing would run
    states = {check["value"]: (check["state"], check["remedy"]) for check in checks["settings"]}
    assert states[str(own)] == ("fail", f"{own}, line 2: generate.top_p must be {TOP_P}, not 5.")
    assert states[f"{tmp_path / 'fishcli.toml'} sets device"] == ("ok", "")
    assert "did you mean FISHCLI_DEVICE?" in states["the environment"][1]


TOP_P = SETTINGS["generate.top_p"].expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="cuda is there")
def test_an_unavailable_device_fails(doctor, fish, monkeypatch):
    fish("config", "set", "--local", "device", "cuda")
    code, checks = doctor()
    assert code == 1
    remedy = only(checks["device"], "fail")["remedy"]
    assert "fish config unset device --local" in remedy
    monkeypatch.setenv("FISHCLI_DEVICE", "cuda")
    assert "unset FISHCLI_DEVICE" in only(doctor()[1]["device"], "fail")["remedy"]


def test_a_slow_dtype_is_a_warning(doctor, monkeypatch):
    monkeypatch.setenv("FISHCLI_DEVICE", "cpu")
    monkeypatch.setenv("FISHCLI_DTYPE", "float16")
    code, checks = doctor()
    assert code == 0
    assert "slow" in only(checks["dtype"], "warn")["value"]
    monkeypatch.setenv("FISHCLI_DTYPE", "float32")
    assert checks["dtype"] != doctor()[1]["dtype"]
    assert doctor()[1]["dtype"][0]["value"] == "float32, from environment FISHCLI_DTYPE"


def test_kv_memory_too_small_for_a_sequence_is_a_warning(doctor, monkeypatch):
    assert doctor()[1]["KV cache"][0]["value"] == "101 MB, 16,384 positions (8 sequences of 2,048)"
    monkeypatch.setenv("FISHCLI_KV_MEMORY", "1")
    code, checks = doctor()
    assert code == 0
    assert only(checks["KV cache"], "warn")["remedy"] == "unset FISHCLI_KV_MEMORY"


# Models


def make_model(folder: Path, micro: Path, record: bool = True) -> Path:
    """A downloaded model: the micro checkpoint, with the hub's record of it."""
    shutil.copytree(micro, folder)
    files = [
        local.File(
            name, (folder / name).stat().st_size, f"sha256:{hashlib.sha256((folder / name).read_bytes()).hexdigest()}"
        )
        for name in local.FILES
        if (folder / name).is_file()
    ]
    if record:
        (folder / local.STATE).mkdir()
        local.Record(local.REPO, "0" * 40, tuple(files)).write(folder / local.RECORD)
    return folder


def test_a_complete_model_is_verified_and_speaks(doctor, micro):
    folder = make_model(local.home(local.REPO), micro)
    code, checks = doctor()
    assert code == 0
    assert checks["model"][0]["value"] == local.REPO
    assert any(check["value"].endswith("complete") for check in checks["on disk"])
    code, checks = doctor("--verify")
    assert code == 0, checks
    assert any(check["value"].endswith("checksums verified") for check in checks["on disk"])
    assert "tokens/s" in checks["speed"][0]["value"]
    flip_last_byte(folder / "model.pth")
    assert doctor()[0] == 0  # the size is right
    code, checks = doctor("--verify")
    assert code == 1
    assert "model.pth damaged" in only(checks["on disk"], "fail")["value"]
    assert only(checks["on disk"], "fail")["remedy"] == "run `fish download`"


def test_an_incomplete_model_fails_only_if_it_is_selected(doctor, micro, tmp_path, monkeypatch):
    folder = make_model(tmp_path / "checkpoints" / "mine", micro)
    (folder / "model.pth").unlink()
    code, checks = doctor()
    assert code == 0  # the built-in voice speaks
    assert "lacks model.pth" in only(checks["on disk"], "warn")["value"]
    monkeypatch.setenv("FISHCLI_CHECKPOINT_PATH", "checkpoints/mine")
    code, checks = doctor()
    assert code == 1
    remedy = only(checks["on disk"], "fail")["remedy"]
    assert remedy == "run `fish download --local-dir checkpoints/mine`"
    (folder / local.RECORD).write_text("{")
    assert "record.json is damaged" in only(doctor()[1]["model"], "fail")["remedy"]


def test_a_model_in_another_folder_is_checked(doctor, micro, tmp_path, monkeypatch):
    folder = make_model(tmp_path / "elsewhere", micro, record=False)
    monkeypatch.setenv("FISHCLI_CHECKPOINT_PATH", str(folder))
    code, checks = doctor("--verify")
    assert code == 0
    assert "no checksums to verify" in only(checks["on disk"], "warn")["value"]


def test_an_invalid_config_fails(doctor, micro, tmp_path, monkeypatch):
    folder = make_model(tmp_path / "elsewhere", micro, record=False)
    monkeypatch.setenv("FISHCLI_CHECKPOINT_PATH", str(folder))
    (folder / "config.json").write_text("{}")
    code, checks = doctor()
    assert code == 1
    assert "config.json" in only(checks["speed"], "fail")["remedy"]


def test_a_missing_codec_fails(doctor, monkeypatch, tmp_path):
    monkeypatch.setenv("FISHCLI_CODEC_PATH", str(tmp_path / "codec.pth"))
    code, checks = doctor()
    assert code == 1
    assert only(checks["model"], "fail")["remedy"] == "unset FISHCLI_CODEC_PATH"


def test_a_damaged_converted_copy_is_found(doctor, micro, tmp_path, monkeypatch):
    monkeypatch.setenv("FISHCLI_CHECKPOINT_PATH", str(micro))
    assert doctor("--verify")[0] == 0  # speaking a little converts it
    converted = sorted((tmp_path / "own" / "cache" / "converted").glob("*.safetensors"))
    assert len(converted) == 2  # model and codec
    flip_last_byte(converted[0])
    code, checks = doctor("--verify")
    assert code == 1
    check = only(checks["converted model"], "fail")
    assert converted[0].name in check["value"]
    assert f"run `rm {shlex.quote(str(converted[0]))}`" in check["remedy"]


def test_every_byte_of_the_built_in_weights_is_read(tmp_path):
    shutil.copytree(TINY, tmp_path / "tiny")
    assert models.damaged_weights(tmp_path / "tiny") == []
    path = tmp_path / "tiny" / "model.pth"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert models.damaged_weights(tmp_path / "tiny") == ["model.pth"]
    path.write_bytes(data[: len(data) // 2])
    (tmp_path / "tiny" / local.CODEC).unlink()
    assert models.damaged_weights(tmp_path / "tiny") == ["model.pth", local.CODEC]


# The machine

FREE = Resolved(SETTINGS["threads"], None, "default")
FOUR = Resolved(SETTINGS["threads"], 4, "environment FISHCLI_THREADS")
EIGHT = Resolved(SETTINGS["threads"], 8, "environment FISHCLI_THREADS")
QUOTA = "raise the limit of the container"


@pytest.mark.parametrize(
    ("chosen", "environ", "quota", "own", "value", "warnings"),
    [
        (FREE, {}, None, 4, "4, the physical cores", []),
        (FREE, {"OMP_NUM_THREADS": "4"}, None, 4, "4, the physical cores", []),
        (
            FREE,
            {"OMP_NUM_THREADS": "1"},
            None,
            4,
            "4, the",
            ["unset OMP_NUM_THREADS, or run `fish config set threads 1`"],
        ),
        (
            FREE,
            {"MKL_NUM_THREADS": "64"},
            None,
            4,
            "4, the",
            ["unset MKL_NUM_THREADS, or run `fish config set threads 64`"],
        ),
        (FREE, {}, 4.0, 4, "4, the physical cores", []),
        (FREE, {}, 2.5, 2, "2, the CPU quota", []),
        (FREE, {}, 2.5, 1, "1, for a small model", []),
        (FREE, {}, 0.5, 1, "1, the CPU quota", [QUOTA]),
        (FREE, {}, None, 1, "1, for a small model", []),
        (FOUR, {}, None, 1, "4, from environment FISHCLI_THREADS", []),
        (FOUR, {}, 1.5, 1, "4, from environment FISHCLI_THREADS, are more", ["unset FISHCLI_THREADS"]),
        (EIGHT, {}, None, 4, "8, from environment FISHCLI_THREADS, are more", ["unset FISHCLI_THREADS"]),
        (EIGHT, {"OMP_NUM_THREADS": "4"}, None, 4, "8, from", ["unset FISHCLI_THREADS"]),
    ],
)
def test_threads_on_four_cores(chosen, environ, quota, own, value, warnings):
    checks = list(machine.threads(chosen, environ, 4, quota, own))
    assert checks[0].value.startswith(value)
    assert [check.remedy for check in checks if check.state == "warn"] == warnings
    assert {check.state for check in checks} <= {"ok", "warn"}
    assert len({check.name for check in checks}) == len(checks)


def test_a_busy_machine_is_a_warning():
    busy = [check for check in machine.other_processes({}, 4, 9.0) if "busy" in check.value]
    assert busy[0].state == "warn"
    assert not [check for check in machine.other_processes({}, 4, 4.5) if "busy" in check.value]
    assert not [
        check for check in machine.other_processes({"OMP_WAIT_POLICY": "passive"}, 4, 9.0) if "busy" in check.value
    ]


@pytest.mark.parametrize(
    ("positions", "state", "value"),
    [
        (32_768, "ok", "805 MB, 32,768 positions (8 sequences of 4,096)"),
        (8_000, "ok", "197 MB, 8,000 positions (1 sequence of 4,096)"),
        (4_095, "warn", "101 MB, 4,095 positions, too few for a sequence of 4,096"),
    ],
)
def test_the_size_of_the_kv_cache(positions, state, value):
    memory = Resolved(SETTINGS["kv_memory"], 800, "environment FISHCLI_KV_MEMORY")
    check = models.kv_cache(memory, positions, position_bytes=24_576, length=4_096)
    assert (check.state, check.value) == (state, value)
    assert check.remedy == ("unset FISHCLI_KV_MEMORY" if state == "warn" else "")


@pytest.mark.parametrize(
    ("info", "features"),
    [
        (
            "model name\t: A\nflags\t\t: fpu avx2 avx512f amx_tile avx512_bf16\n",
            ["AMX", "AVX512-BF16", "AVX512", "AVX2"],
        ),
        ("flags\t\t: fpu avx2x\n", []),
        ("Features\t: fp asimd bf16\n", ["BF16", "NEON"]),
        ("", []),
    ],
)
def test_features_of_a_processor(info, features):
    assert machine.cpu_features(info) == features


@pytest.mark.skipif(torch.cuda.is_available(), reason="looks at the CPU's compiler")
def test_no_compiler_is_a_warning(doctor, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    code, checks = doctor()
    assert code == 0
    assert only(checks["compile"], "warn")["value"] == "CXX is no-such-compiler, which is not found"
    assert "pip install 'fishcli[native]'" in checks["compile"][0]["remedy"]


def test_no_player_fails_only_if_playing_is_the_setting(doctor, monkeypatch, tmp_path):
    if doctor()[1]["audio output"][0]["value"] == "sounddevice":
        pytest.skip("there is a sound device")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PULSE_SERVER", "elsewhere")
    code, checks = doctor()
    assert code == 0
    remedies = "run `pip install 'fishcli[play]'`", "run `apt install libportaudio2`"  # where sounddevice is there
    assert only(checks["audio output"], "warn")["remedy"].startswith(remedies)
    monkeypatch.setenv("FISHCLI_SAY_PLAY", "true")
    assert doctor()[0] == 1
