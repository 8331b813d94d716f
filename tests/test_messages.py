"""Messages: the library names fields, the command line adds the options, and one error reads well in both."""

import ast
import functools
import re
from pathlib import Path

import pytest
import torch
import typer

from fishcli.audio import output_format
from fishcli.checkpoints import convert, local
from fishcli.checkpoints.download import plan_download
from fishcli.cli import hints
from fishcli.cli.main import app
from fishcli.engine import load
from fishcli.errors import FishError, InputError
from fishcli.runners import plan

PACKAGE = Path(__file__).parent.parent / "fishcli"
CPU = torch.device("cpu")


@functools.cache
def options() -> set[str]:
    """Return every option of the app, such as `--seed` and `-o`."""
    found: set[str] = set()
    commands = [typer.main.get_command(app)]
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        for parameter in command.params:
            found |= {name for name in [*parameter.opts, *parameter.secondary_opts] if name.startswith("-")}
    return found


def library() -> list[Path]:
    """Return the modules that must not know an option: all but the command line and the doctor, whose hints are its."""
    return [
        path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] not in ("cli", "doctor")
    ]


def literals(path: Path) -> list[str]:
    """Return the strings in a module, docstrings included. A bare option is an argument of another program."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    strings = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in strings if re.search(r"\s", text)]


def named_options(text: str) -> set[str]:
    """Return the options of ours in a text."""
    return set(re.findall(r"(?<![\w-])--?\w[\w-]*", text)) & options()


def test_options_are_found_in_a_text():
    assert {"--seed", "-o", "--no-play", "--local-dir", "--kv-memory"} <= options()
    assert named_options("choose --device auto, or -o FILE; `pip install --upgrade x` has --no-deps") == {
        "--device",
        "-o",
    }
    assert named_options("a non--seed, text-only --seedling") == set()


@pytest.mark.parametrize("path", library(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_outside_the_command_line_names_an_option(path):
    assert [text for text in literals(path) if named_options(text)] == []


def fields() -> set[str]:
    """Return the fields that errors of the library are about; those of a server never come to the prompt."""
    modules = [path for path in library() if path.relative_to(PACKAGE).parts[0] != "server"]
    calls = [node for path in modules for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    keywords = [keyword for node in calls if isinstance(node, ast.Call) for keyword in node.keywords]
    return {
        keyword.value.value
        for keyword in keywords
        if keyword.arg == "field" and isinstance(keyword.value, ast.Constant)
    }


# Fields of the HTTP API without an option.
API_ONLY = {"text", "format", "sample_rate", "speed", "volume", "cover_image"}


def test_every_field_has_a_hint_and_every_hint_an_option():
    assert fields() - API_ONLY <= hints.OPTIONS.keys()
    for field, hint in hints.OPTIONS.items():
        assert named_options(hint), field


def named_file(folder: Path) -> object:
    (folder / "model").touch()
    return local.find(folder / "model")


def incomplete(folder: Path) -> object:
    (folder / "config.json").touch()
    return local.find(folder)


def float16_overflow(folder: Path) -> object:
    torch.save({"norm": torch.tensor([1e6])}, folder / "x.pth")
    return convert.load(folder / "x.pth", torch.float16, dict, {})


# An error: what raises it, the message of the library and of a server, and the addition at the prompt.
CASES = {
    "no codec": (
        lambda folder: load(codec=folder / "codec.pth"),
        "codec_path does not exist: {folder}/codec.pth.",
        "; pass --codec-path FILE.",
    ),
    "no model": (
        lambda folder: local.find("absent"),
        "There is no folder absent and no downloaded model of that name; there is built-in.",
        " Choose another model with --checkpoint-path.",
    ),
    "no such folder": (
        lambda folder: local.find("checkpoints/fish-speech-1.5"),
        "There is no folder checkpoints/fish-speech-1.5.",
        "; `fish download --local-dir checkpoints/fish-speech-1.5` fetches Fish Speech 1.5 into it.",
    ),
    "a folder with a space": (
        lambda folder: local.find("./my models"),
        "There is no folder ./my models.",
        "; `fish download --local-dir './my models'` fetches Fish Speech 1.5 into it.",
    ),
    "a file for a model": (
        named_file,
        "{folder}/model is a file, and a model is a folder.",
        "; choose another model with --checkpoint-path.",
    ),
    "an incomplete model": (
        incomplete,
        "{folder} cannot be used: it lacks model.pth, tokenizer.tiktoken, special_tokens.json, " + local.CODEC + ".",
        "; run `fish download --local-dir {folder}`.",
    ),
    "an unknown device": (
        lambda folder: plan.pick_device("tpu"),
        "device must be auto, cpu, cuda or mps, not 'tpu'.",
        "; choose another with --device.",
    ),
    "an unknown dtype": (
        lambda folder: plan.pick_dtype("int8", CPU, 0, False),
        "dtype must be auto, float32, bfloat16, float16, not 'int8'.",
        "; choose another with --dtype.",
    ),
    "an overflow of float16": (
        float16_overflow,
        "norm has values too large for float16; float32 can hold them.",
        " Choose another with --dtype.",
    ),
    "an unknown quantization": (
        lambda folder: plan.pick_quantize("int2", CPU, 0, True),
        "quantize must be auto, none, int8 or int4, not 'int2'.",
        "; choose another with --quantize.",
    ),
    "quantization without the native runner": (
        lambda folder: plan.pick_quantize("int8", CPU, 0, False),
        "int8 on a CPU needs compiled code, which is not available; `fish doctor` shows why.",
        " Choose another with --quantize.",
    ),
    "an unknown subtype": (
        lambda folder: output_format(Path("x.mp3"), "FLOAT"),
        "mp3 does not support the subtype FLOAT; it has MPEG_LAYER_III.",
        " Choose another with --subtype.",
    ),
    "no field": (
        lambda folder: plan_download("nobody"),
        "A repository is OWNER/NAME, such as fishaudio/fish-speech-1.5, not 'nobody'.",
        None,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_error_reads_well_in_the_library_and_at_the_prompt(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    action, expected, addition = CASES[case]
    with pytest.raises(FishError) as caught:
        action(tmp_path)
    expected = expected.format(folder=tmp_path)
    assert str(caught.value) == expected
    if addition is None:
        assert hints.message(caught.value) == expected
    else:
        at_prompt = expected[:-1] + addition if addition.startswith(";") else expected + addition
        assert hints.message(caught.value) == at_prompt.format(folder=tmp_path)


@pytest.mark.parametrize("error", [InputError("Too long.", field="text"), local.IncompleteModel("It lacks a file.")])
def test_an_error_survives_pickling(error):
    import pickle

    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.field) == (type(error), str(error), error.field)


def test_the_prompt_has_the_hint(fish):
    ran = fish("say", "Hi.", "--codec-path", "no.pth")
    assert (ran.code, ran.err) == (3, "error: codec_path does not exist: no.pth; pass --codec-path FILE.\n")
