"""Help and completion answer at once: what they import, and how long that takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench_startup import LIMIT, medians

HEAVY = {"torch", "numpy", "huggingface_hub", "soundfile", "soxr", "safetensors", "tiktoken", "regex", "sentencex"}
HEAVY |= {"tomlkit", "wetext", "httpx"}
PROGRAM = f"""
import atexit, sys
atexit.register(lambda: print("HEAVY", *sorted({HEAVY} & set(sys.modules)), file=sys.stderr))
sys.argv[0] = "fish"
from fishcli.cli.main import main
main()
"""


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["--version"],
        ["say", "-h"],
        ["generate", "-h"],
        ["encode", "-h"],
        ["decode", "-h"],
        ["client", "-h"],
        ["download", "-h"],
        ["doctor", "-h"],
        ["completion", "bash"],
        ["config", "show"],
        ["voices", "add", "-h"],
        ["voices", "list", "--json"],
        ["config", "set", "-h"],
        "fish ",
        "fish say --checkpoint-path ",
        "fish say --ref x.wav --device ",
        "fish say --voice ",
        "fish config set ",
    ],
    ids=str,
)
def test_nothing_heavy_is_imported(command):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    if isinstance(command, str):
        words = command.split(" ")
        asked = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
        environment |= {"_FISH_COMPLETE": "complete_bash", **asked}
        command = []
    ran = subprocess.run([sys.executable, "-c", PROGRAM, *command], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0
    assert ran.stdout
    assert ran.stderr == "HEAVY\n"


@pytest.mark.skipif(os.name == "nt", reason="the processor's time is not known")
def test_help_takes_less_than_1_5_times_an_empty_app():
    ours, empty = medians(5)
    assert ours[1] < LIMIT * empty[1]  # of the processor, which a busy machine does not stretch as it does the clock
