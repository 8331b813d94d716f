"""Mistakes on the command line: what was meant, texts that start with a dash, and errors as JSON."""

import json
import os
import subprocess
import sys

import pytest

COMMANDS = {
    "speak": "Did you mean `fish say`?",
    "tts": "Did you mean `fish say`?",
    "clone": "Did you mean `fish say`?",
    "synthesize": "Did you mean `fish say`?",
    "sya": "Did you mean `fish say`?",
    "infer": "Did you mean `fish generate`?",
    "vqgan": "Did you mean `fish encode`?",
    "vocode": "Did you mean `fish decode`?",
    "install": "Did you mean `fish download`?",
    "settings": "Did you mean `fish config`?",
    "check": "Did you mean `fish doctor`?",
    "benchmark": "Did you mean `fish bench`?",
    "completions": "Did you mean `fish completion`?",
    "help": "Did you mean `fish -h`?",
    "help say": "Did you mean `fish say -h`?",
    "config shwo": "Did you mean `fish config show`?",
    "config list": "it has show, path, get, set, unset, init.",
    "hello": 'Did you mean `fish say "hello"`?',
    "story.txt": "Did you mean `fish say --file story.txt`?",
    "codes_0.npy": "Did you mean `fish decode codes_0.npy`?",
    "paimon.wav": "Did you mean `fish encode paimon.wav`?",
    "api_server": "Did you mean `fish serve`?",
    "api-client": "Did you mean `fish client`?",
    "gradio": "Did you mean `fish webui`?",
    "speakers": "Did you mean `fish voices`?",
    "voices remove": "Did you mean `fish voices rm`?",
    "voices ls": "Did you mean `fish voices list`?",
    "voices freez": "Did you mean `fish voices freeze`?",
    "audiobook": "Did you mean `fish batch`?",
}


@pytest.mark.parametrize("words", COMMANDS)
def test_an_unknown_command_names_what_was_meant(fish, words):
    ran = fish(*words.split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
    assert COMMANDS[words] in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["hello world"], 'fish say "hello world"'),
        (["hello", "world", "-o", "x.wav"], 'fish say "hello world"'),
        (["-5 degrees"], 'fish say "-5 degrees"'),
        (['She said "hi"'], "fish say 'She said \"hi\"'"),
        (["It costs $5"], "fish say 'It costs $5'"),
        (["word " * 30], "..."),
    ],
)
def test_a_text_without_a_command(fish, words, command):
    ran = fish(*words)
    assert ran.code == 2
    assert command in ran.err
    assert len(ran.err) < 200


OPTIONS = {
    "say --model x": "--checkpoint-path",
    "say --model=x": "--checkpoint-path",
    "say --voice-id x": "--voice",
    "say --speaker x": "--ref",
    "voices add --transcript x": "--text",
    "say --reference_audio x": "--ref",
    "say --reference-text x": "--ref-text",
    "say --temp 1": "--temperature",
    "say --tempreature 1": "--temperature",
    "say -temperature 1": "--temperature",
    "say --top_p 1": "--top-p",
    "say --stream": "--play",
    "say --out x.wav": "--output",
    "say --gpu": "--device cuda",
    "say --fp16": "--half",
    "say --int8": "--quantize int8",
    "say --lang en": "--language",
    "say --samples 2": "--num-samples",
    "say --max-tokens 9": "--max-new-tokens",
    "say --normalise": "--normalize",
    "say --input-file x": "--file",
    "generate -o x": "--output-dir",
    "generate --output x": "--output-dir",
    "download --dir x": "--local-dir",
    "encode --dtyp x": None,
    "say --bogus": None,
    "completion --json": None,
    "config get --json --local": None,
}


@pytest.mark.parametrize("words", OPTIONS)
def test_an_unknown_option_names_what_was_meant(fish, words):
    ran = fish(*words.split())
    assert ran.code == 2
    meant = OPTIONS[words]
    assert "error: There is no option -" in ran.err
    assert (f"did you mean {meant}?" in ran.err) if meant else ("did you mean" not in ran.err)
    assert f"See `fish {words.split()[0]} " in ran.err or f"See `fish {words.split()[0]}" in ran.err


def test_an_option_before_its_command(fish):
    assert "type it behind: `fish say --seed`" in fish("--seed", 3, "say", "Hi.").err
    assert "There is no option --bogus" in fish("--bogus", "say", "Hi.").err


VALUES = {
    "say Hi. --temperature abc": "--temperature must be a number from 0 to 2, not abc.",
    "say Hi. --temperature nan": "--temperature must be a number from 0 to 2, not nan.",
    "say Hi. --num-samples x": "--num-samples must be a whole number from 1 to 64, not x.",
    "say Hi. --num-samples 0": "--num-samples must be a whole number from 1 to 64, not 0.",
    "say Hi. --num-samples 1.5": "--num-samples must be a whole number from 1 to 64, not 1.5.",
    "say Hi. --top-p ''": '--top-p must be a number above 0 and at most 1, not "".',
    "say Hi. --device tpu": "--device must be one of auto, cpu, cuda, mps, not tpu.",
    "bench --repeat 0": "--repeat must be a whole number from 1 up, not 0.",
    "bench --streams 65": "--streams must be a whole number from 1 to 64, not 65.",
    "bench --size huge": "--size must be one of full, micro, not huge.",
    "completion tcsh": "SHELL must be one of bash, zsh, fish, not tcsh.",
    "completion": "Missing argument SHELL: one of bash, zsh, fish.",
    "completion bash zsh": "There is an argument too many: zsh.",
    "encode": "Missing argument AUDIO: a file.",
    "config set device": "Missing argument VALUE",
    "say Hi. --seed": "--seed needs a value: a whole number from 0 to",
    "say Hi. -o": "-o needs a value: a file.",
    "say Hi. --json=yes": "--json takes no value.",
    "say Hi. --subtype ''": "--subtype must not be empty.",
    "say Hi. -o ''": "--output must name a file.",
    "say Hi. --ref ''": "--ref must name a file.",
    "say --file ''": "--file must name a file.",
    "say hello world": 'There is more than one text; put it in quotes: `fish say "hello world"`.',
    "generate hello big world": 'put it in quotes: `fish generate "hello big world"`.',
}


@pytest.mark.parametrize("line", VALUES)
def test_the_messages_are_ours(fish, line):
    """One line, in our words, and none of the parser's."""
    ran = fish(*["" if word == "''" else word for word in line.split()])
    assert (ran.code, ran.out) == (2, "")
    assert VALUES[line] in ran.err
    assert ran.err.count("\n") == 1
    assert "\t" not in ran.err
    assert "Input should" not in ran.err
    assert "Invalid value" not in ran.err


@pytest.mark.parametrize(
    ("words", "spoken"),
    [
        (["-5 degrees today"], "Minus five degrees today."),
        (["-5"], "Minus five."),
        (["- item one"], "item one."),
        (["-oh no, not again"], "oh no, not again."),
        (["--hello there"], "hello there."),
        (["-$5"], "dollars."),
        (["--", "-ouch"], "ouch."),
        (["-5 degrees", "--seed", "3", "-q"], "five degrees."),
        (["--seed", "3", "--", "--seed"], "seed."),
        (["--", "--json"], "json."),
        (["--text", "-5 degrees"], "five degrees."),
        (["--ref-text", "-5 degrees", "--ref", "x.wav", "Hi"], "Hi."),
    ],
)
def test_a_text_may_start_with_a_dash(fish, words, spoken):
    ran = fish("say", *words, "--dry-run") if "--" not in words else fish("say", "--dry-run", *words)
    assert ran.code == 0, ran.err
    assert ran.out.strip().endswith(spoken)


@pytest.mark.parametrize("word", ["-ouch", "-oh", "-hello", "-wow", "-ouch!"])
def test_a_text_that_looks_like_an_option_needs_two_dashes(fish, word):
    ran = fish("say", word)
    assert ran.code == 2
    assert "to speak it, type `fish say -- " in ran.err


def test_glued_options_are_options(fish):
    shown = json.loads(fish("say", "-nqomy file.wav", "Hi", "--json").out)
    assert shown["outputs"] == ["my file.wav"]
    assert json.loads(fish("say", "-nq", "-ox.flac", "--json", "Hi").out)["outputs"] == ["x.flac"]


def test_a_pipe_is_read_without_an_argument(fish):
    assert fish("say", "-n", stdin=b"From a pipe.").out.endswith("From a pipe.\n")
    assert fish("say", "-n", "Not the pipe.", stdin=b"From a pipe.").out.endswith("Not the pipe.\n")
    ran = fish("say", "-n", stdin=b" \n")
    assert (ran.code, ran.out) == (2, "")
    assert "pipe a text in" in ran.err


@pytest.mark.skipif(os.name == "nt", reason="a pseudo-terminal")
def test_a_terminal_is_told_how_to_end_the_text():
    main, terminal = os.openpty()
    os.write(main, b"Typed.\n\x04")
    command = [sys.executable, "-m", "fishcli", "say", "-n", "-"]
    ran = subprocess.run(command, stdin=terminal, capture_output=True, text=True, check=True)
    os.close(main)
    os.close(terminal)
    assert ran.stderr.startswith("Type the text; end with Ctrl-D.\n")
    assert ran.stdout.endswith("Typed.\n")


@pytest.mark.parametrize(
    "words", [["-q", "say"], ["--quiet", "say"], ["-v", "-q", "say"], ["-qv", "say"], ["--debug", "-q", "say"]]
)
def test_common_options_may_stand_before_the_command(fish, words):
    ran = fish(*words, "Hi.", "--dry-run")
    assert (ran.code, ran.err) == (0, "")


def test_options_before_the_command_have_an_effect(fish):
    assert json.loads(fish("--json", "say", "Hi.", "--dry-run").out)["outputs"] == ["out.wav"]
    assert "Traceback" in fish("--debug", "say", "").err
    assert fish("-V").out.startswith("fishcli 0.")


ERRORS = {
    "setting_error": (2, ["say", "Hi.", "--temperature", "3"]),
    "input_error": (1, ["say", "😀"]),
    "model_missing": (3, ["say", "Hi.", "--checkpoint-path", "nowhere"]),
    "usage_error": (2, ["say", "--bogus"]),
}


@pytest.mark.parametrize("before", [True, False], ids=["before the command", "behind it"])
@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_is_json_too(fish, kind, before):
    code, words = ERRORS[kind]
    ran = fish("--json", *words) if before else fish(*words, "--json")
    error = json.loads(ran.out)
    assert ran.code == code
    assert (error["code"], error["exit"]) == (kind, code)
    assert ran.err == f"error: {error['error']}\n"


def test_an_unknown_command_is_json_too(fish):
    assert json.loads(fish("--json", "speak").out)["code"] == "usage_error"
