"""`fish config`: its output, its edits, and that it works while a settings file is broken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from fishcli.config import SETTINGS, load_settings, template
from fishcli.config.read import read_file


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """The user's settings file of this test, outside the working folder."""
    monkeypatch.setenv("FISHCLI_CONFIG_DIR", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    return tmp_path / "own" / "config.toml"


def test_show_prints_each_value_and_its_source(fish, own, tmp_path, monkeypatch):
    own.write_text("device = 'cpu'\n[generate]\ntop_p = 0.5\ntemperature = 0.4\n")
    (tmp_path / "fishcli.toml").write_text("\n[generate]\ntop_p = 0.6  # mine\n")
    monkeypatch.setenv("FISHCLI_GENERATE_SEED", "7")
    ran = fish("config", "show")
    lines = ran.out.splitlines()
    assert len(lines) == len(SETTINGS)
    assert f'device = "cpu"  # {own}:1' in lines
    assert f"generate.temperature = 0.4  # {own}:4" in lines
    assert f"generate.top_p = 0.6  # {tmp_path / 'fishcli.toml'}:3" in lines
    assert "generate.seed = 7  # environment FISHCLI_GENERATE_SEED" in lines
    assert "generate.chunk_length = 200  # default" in lines
    assert "# threads is not set" in lines
    shown = json.loads(fish("config", "show", "--json").out)
    assert list(shown) == list(SETTINGS)
    assert shown["generate.seed"] == {"value": 7, "source": "environment FISHCLI_GENERATE_SEED"}
    assert shown["threads"] == {"value": None, "source": "default"}


def test_what_show_prints_is_a_settings_file(fish, own, tmp_path):
    own.write_text("checkpoint_path = 'a \"b\" # c'\ncompile = true\n")
    values = {key: each.value for key, each in load_settings(tmp_path, {}).resolved.items()}
    own.write_text(fish("config", "show").out)
    assert {key: each.value for key, each in load_settings(tmp_path, {}).resolved.items()} == values


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_show_is_a_table_on_a_terminal(own, tmp_path, columns):
    own.write_text(f"checkpoint_path = '{'long/' * 20}'\n[generate]\ntop_p = 0.5\n")
    environment = {**os.environ, "FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": str(columns)}
    command = [sys.executable, "-m", "fishcli", "config", "show"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "\x1b[3" not in shown  # no colour
    assert max(cell_len(line) for line in shown.replace("\x1b[", "\n").splitlines()) <= columns
    for name in [setting.name for setting in SETTINGS.values()] + ["[generate]", "config.toml:3"]:
        assert name in shown


def test_path_and_get_are_one_line(fish, own, tmp_path):
    own.write_text("device = 'cpu'\n")
    assert fish("config", "path").out == f"{own}\n"
    assert fish("config", "path", "--local").out == f"{tmp_path / 'fishcli.toml'}\n"
    assert json.loads(fish("config", "path", "--local", "--json").out)["exists"] is False
    for key, value in (("device", "cpu"), ("generate.chunk_length", "200"), ("normalize", "true")):
        assert fish("config", "get", key).out == f"{value}\n"
    assert fish("config", "get", "threads")[:2] == (1, "")  # has no value
    assert fish("config", "get", "threads", "--json").code == 1
    assert json.loads(fish("config", "get", "device", "--json").out) == {
        "key": "device",
        "value": "cpu",
        "source": f"{own}:1",
    }


def test_set_get_and_unset(fish, own, tmp_path):
    own.write_text("# mine\n[generate]\ntop_p = 0.5  # why\n")
    ran = fish("config", "set", "generate.top_p", "0.8")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == f"generate.top_p = 0.8 in {own}\n"
    assert own.read_text() == "# mine\n[generate]\ntop_p = 0.8  # why\n"
    assert fish("config", "get", "generate.top_p").out == "0.8\n"
    assert fish("config", "unset", "generate.top_p").code == 0
    assert fish("config", "get", "generate.top_p").code == 1
    assert fish("config", "set", "--local", "device", "cpu").code == 0
    assert (tmp_path / "fishcli.toml").read_text() == 'device = "cpu"\n'
    assert "device" not in own.read_text()
    assert fish("config", "unset", "device", "--local").code == 0
    assert json.loads(fish("config", "set", "threads", "3", "--json").out)["value"] == 3


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[generate]\ntop_p = 0.5\n", ""),
        ("device = 'cpu'\n\n[generate]\ntop_p = 0.5\n", "device = 'cpu'\n\n"),
        ("[generate]\n# mine\ntop_p = 0.5\n", "[generate]\n# mine\n"),
        ("[generate]\ntop_p = 0.5\nseed = 1\n", "[generate]\nseed = 1\n"),
    ],
)
def test_unset_leaves_no_empty_table(fish, own, before, after):
    own.write_text(before)
    assert fish("config", "unset", "generate.top_p").code == 0
    assert own.read_text() == after


def test_set_warns_where_it_is_overridden(fish, own, tmp_path, monkeypatch):
    fish("config", "set", "--local", "device", "cpu")
    assert f"also set by {tmp_path / 'fishcli.toml'}:1" in fish("config", "set", "device", "auto").err
    monkeypatch.setenv("FISHCLI_DEVICE", "mps")
    assert "also set by environment FISHCLI_DEVICE" in fish("config", "set", "--local", "device", "auto").err


def test_init_writes_the_template_once(fish, own):
    assert fish("config", "init").code == 0
    assert own.read_text() == template()
    ran = fish("config", "init")
    assert ran.code == 2
    assert ran.err == f"error: {own} exists already; change it with `fish config set KEY VALUE`.\n"
    assert fish("config", "init", "--local").code == 0
    assert fish("config", "init", "--local").err.endswith("`fish config set KEY VALUE --local`.\n")


@pytest.mark.parametrize(
    ("content", "line"),
    [("[generate]\ntop_p = 5\n", 2), ("device = 'cpu'\n\ndevise = 'cpu'\n", 3), ("device = \n", 1), ("[generate\n", 1)],
)
def test_a_broken_file_is_one_error_and_can_be_repaired(fish, own, content, line):
    own.write_text(content)
    for command in (["show"], ["show", "--json"], ["get", "device"]):
        ran = fish("config", *command)
        assert ran.code == 2
        assert ran.out == "" or json.loads(ran.out)["exit"] == 2
        assert ran.err.startswith(f"error: {own}, line {line}")
        assert ran.err.count("\n") == 1
    assert fish("config", "path").code == 0
    assert fish("config", "init", "--local").code == 0


def test_set_repairs_an_invalid_value_but_not_invalid_toml(fish, own):
    own.write_text("[generate]\ntop_p = 5\nsede = 3\n")
    ran = fish("config", "set", "generate.top_p", "0.5")
    assert ran.code == 0
    assert "did you mean generate.seed" in ran.err  # of the next thing that is wrong
    assert fish("config", "unset", "generate.sede").code == 0
    assert read_file(own)["generate.top_p"].value == 0.5
    own.write_text("device = \n")
    for command in (["set", "device", "cpu"], ["unset", "device"]):
        ran = fish("config", *command)
        assert ran.code == 2
        assert f"{own}, line 1" in ran.err
        assert own.read_text() == "device = \n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["get", "generate.top_q"], "did you mean generate.top_p?"),
        (["set", "generate.top_p", "2"], "generate.top_p must be a number above 0 and at most 1, not 2.0."),
        (["set", "device", "gpu"], "device must be one of auto, cpu, cuda, mps"),
        (["set", "device"], "Missing argument VALUE"),
        (["unset", "device"], "is not set in"),
        (["shwo"], "Did you mean `fish config show`?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(fish, own, arguments, message):
    ran = fish("config", *arguments)
    assert ran.code == 2
    assert message in ran.err
    assert not own.exists()
