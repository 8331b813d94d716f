"""The help pages: examples first, two columns, and no line longer than the terminal is wide."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from fishcli.cli import console, help
from fishcli.cli.main import app

WIDTHS = [40, 60, 80, 120]


def commands() -> dict[str, object]:
    """Every command by its path, such as `fish config set`."""
    found, waiting = {}, {"fish": typer.main.get_command(app)}
    while waiting:
        path, command = waiting.popitem()
        found[path] = command
        waiting |= {f"{path} {name}": each for name, each in getattr(command, "commands", {}).items()}
    return found


COMMANDS = commands()


@pytest.fixture
def page(monkeypatch):
    """Return the page of a command at a width."""

    def make(path: str, width: int) -> str:
        monkeypatch.setattr(console, "stdout", type(console.stdout)(width=width, force_terminal=False))
        words = path.split()
        ctx = typer.Context(COMMANDS[words[0]], info_name=words[0], help_option_names=["-h", "--help"])
        for at in range(2, len(words) + 1):
            ctx = typer.Context(COMMANDS[" ".join(words[:at])], info_name=words[at - 1], parent=ctx)
        return help.page(COMMANDS[path], ctx)

    return make


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", COMMANDS)
def test_a_page_fits_the_terminal(page, path, width):
    lines = page(path, width).splitlines()
    assert max(map(len, lines)) <= width
    assert not any(line != line.rstrip() for line in lines)
    assert width < 80 or len(lines) <= 60


@pytest.mark.parametrize("path", COMMANDS)
def test_a_page_has_examples_and_every_option(page, path):
    text = page(path, 80)
    assert text.startswith(f"Usage: {path} [OPTIONS]")
    assert text.index("\nExamples:\n") < text.index("\nCommon:\n")
    named = {name.replace("[no-]", "") for name in re.findall(r"--[\w[\]-]+|-\w\b", text)}
    for each in COMMANDS[path].params:
        if each.param_type_name == "argument":
            assert each.metavar in text
        elif not each.hidden:
            assert {*each.opts, *each.secondary_opts} & named, each.name


@pytest.mark.parametrize("path", COMMANDS)
def test_a_page_has_no_python_in_it(page, path):
    """Type names, dashes between words of choices, and apostrophes, which end a string in a completion of zsh."""
    text = page(path, 80).split("\nArguments:\n")[-1]
    assert not re.search(r"<\w|\bbool\b|\bstr\b|\bPath\b|None|True|False|list\[|x>=|\w\|\w|\{\w", text)
    assert not any("'" in (each.help or "") for each in COMMANDS[path].params)


def test_defaults_are_words(page):
    text = re.sub(r"\s+", " ", page("fish say", 80))
    for words in (
        "-o, --output FILE .wav .flac .mp3 .ogg .opus; - is standard output [default: out.wav, then out-1.wav, ...]",
        "--no-normalize Speak numbers and markup",
        "--no-iterative-prompt Speak each chunk without",
        "--seed N Repeat a result [default: random, shown]",
        "--temperature X Randomness, 0 to 2; 0 is greedy [default: that of the model]",
        "--device NAME Device: auto, cpu, cuda or mps --dtype",
        "a folder, a name, or built-in",
    ):
        assert words in text
    assert "--normalize " not in text


def test_the_output_stands_first(page):
    text = page("fish say", 80)
    assert text.index("--output FILE") == min(
        text.index(f"--{name}") for name in ("output FILE", "file", "seed", "device")
    )


@pytest.mark.parametrize("path", ["fish encode", "fish decode"])
def test_the_codec_has_no_options_of_the_language_model(page, path):
    assert not re.search("--(dtype|quantize|half|kv-memory)", page(path, 80))


def test_completion_has_no_option_without_a_meaning(page):
    assert not re.search("--(json|quiet|verbose)", page("fish completion", 80))


def test_a_long_example_can_be_copied(page, tmp_path):
    """A backslash continues it; the shell sees the words of the docstring."""
    shown = page("fish say", 40)
    example = shown[shown.index('  fish say "See') : shown.index("  echo")]
    assert example.count("\\\n") >= 2
    words = subprocess.run(
        ["bash", "-c", example.replace("fish say", "printf '%s|'", 1)], capture_output=True, text=True
    )
    assert words.stdout == "See you soon.|--ref|thanks.wav|--ref-text|Thank you for coming.|"


def test_colours_are_for_terminals(monkeypatch):
    command = [sys.executable, "-m", "fishcli", "say", "-h"]
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "60"})
    assert "\x1b" not in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 60
    for no_color, painted in ((False, True), (True, False)):
        made = type(console.stdout)(force_terminal=True, no_color=no_color, _environ={"TERM": "xterm"})
        monkeypatch.setattr(console, "stdout", made)
        assert ("\x1b[1m" in help._heading("Output")) is painted


@pytest.mark.parametrize("arguments", [[], ["config"]])
def test_no_command_is_a_usage_error_that_shows_the_page(fish, arguments):
    ran = fish(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Usage: fish")
