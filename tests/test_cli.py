"""The commands: results, errors and exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import TINY
from hub_server import Hub

from fishcli.checkpoints.local import REPO

REFERENCE = TINY / "reference.wav"
FISH = [sys.executable, "-m", "fishcli"]


@pytest.fixture
def brief(micro):
    """Options for a few frames of the micro checkpoint, in the reference's dtype."""
    return ["--checkpoint-path", micro, "--dtype", "float32", "--device", "cpu", "--max-new-tokens", 5]


def options(micro):
    return ["--checkpoint-path", micro, "--dtype", "float32", "--quantize", "none", "--device", "cpu"]


# Golden numbers of the reference implementation.


def test_golden_encode(fish, reference, tmp_path):
    golden = reference.golden
    soundfile.write(tmp_path / "in.wav", golden["audio"], 44_100, "FLOAT")
    assert fish("encode", "in.wav", "-o", "fake.npy", *options(reference.folder)).code == 0
    codes = np.load(tmp_path / "fake.npy")
    assert codes.dtype == np.int16
    np.testing.assert_array_equal(codes, golden["codes"])


@pytest.mark.parametrize(("key", "penalty"), [("greedy_frames", 1.0), ("greedy_frames_penalty_1_2", 1.2)])
def test_golden_generate(fish, reference, tmp_path, key, penalty):
    golden = reference.golden
    np.save(tmp_path / "fake.npy", golden["ref0_codes"].astype(np.int16))
    said = ["Real software speaks.", "--prompt-text", "This is the reference sentence.", "--prompt-tokens", "fake.npy"]
    greedy = ["--temperature", 0, "--repetition-penalty", penalty, "--max-new-tokens", golden[key].shape[1]]
    assert fish("generate", *said, *greedy, *options(reference.folder)).code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "codes_0.npy"), golden[key][1:])


def test_golden_decode(fish, reference, tmp_path):
    golden = reference.golden
    np.save(tmp_path / "codes_0.npy", golden["decode_codes"].astype(np.int16))
    assert fish("decode", "codes_0.npy", "-o", "exact.wav", "--subtype", "FLOAT", *options(reference.folder)).code == 0
    samples, rate = soundfile.read(tmp_path / "exact.wav", dtype="float32")
    assert rate == 44_100
    np.testing.assert_allclose(samples, golden["decode_audio"], atol=1e-4)


# Usage.


def test_say_with_the_built_in_voice(fish, tmp_path):
    ran = fish("say", "Hello, world!", "--seed", 0)
    assert ran.code == 0, ran.err
    assert re.search(r"^Saved out.wav \(\d\.\d s, seed 0\)$", ran.err, re.MULTILINE)
    assert ran.out == ""
    samples, rate = soundfile.read(tmp_path / "out.wav")
    assert rate == 22_050
    assert 0.5 < len(samples) / rate < 3


def test_say_is_generate_and_decode(fish, brief, tmp_path):
    fish("say", "The same speech.", "--seed", 7, "-o", "said.wav", *brief)
    fish("generate", "The same speech.", "--seed", 7, *brief)
    fish("decode", "codes_0.npy", "-o", "decoded.wav", *brief[:-2])
    said, decoded = (soundfile.read(tmp_path / name)[0] for name in ("said.wav", "decoded.wav"))
    np.testing.assert_allclose(said, decoded, atol=1e-4)  # chunks of other lengths round differently


def test_json_is_all_of_stdout(fish, brief):
    ran = fish("say", "Hi there.", "--seed", 3, "--num-samples", 2, "--json", *brief)
    result = json.loads(ran.out)
    assert result["seeds"] == [3, 4]
    assert result["outputs"] == ["out.wav", "out-1.wav"]
    assert [(each["output"], each["seed"]) for each in result["files"]] == [("out.wav", 3), ("out-1.wav", 4)]
    assert sum(each["seconds"] for each in result["files"]) == pytest.approx(result["seconds"], abs=0.002)
    assert result["model"] == str(brief[1])
    assert {"tokens_per_second", "time_to_first_frame", "real_time_factor"} <= result.keys()


def test_samples_of_a_batch_are_those_of_their_seeds(fish, brief, tmp_path):
    fish("generate", "Hi there.", "--seed", 11, "--num-samples", 3, "--output-dir", "many", *brief)
    fish("generate", "Hi there.", "--seed", 13, *brief)
    np.testing.assert_array_equal(np.load(tmp_path / "many" / "codes_2.npy"), np.load(tmp_path / "codes_0.npy"))
    assert not np.array_equal(np.load(tmp_path / "many" / "codes_0.npy"), np.load(tmp_path / "codes_0.npy"))


def test_a_drawn_seed_is_shown_and_repeats(fish, brief, tmp_path):
    seed = json.loads(fish("say", "Once.", "--json", "-o", "first.wav", *brief).out)["seeds"][0]
    fish("say", "Once.", "--seed", seed, "-o", "again.wav", *brief)
    assert (tmp_path / "first.wav").read_bytes() == (tmp_path / "again.wav").read_bytes()


@pytest.mark.parametrize(("name", "rate", "channels"), [("ref.mp3", 8_000, 2), ("ref.flac", 48_000, 1)])
def test_references_of_any_kind(fish, brief, tmp_path, name, rate, channels):
    tone = np.sin(np.arange(2 * rate) / 20)[:, None].repeat(channels, 1) / 2
    soundfile.write(tmp_path / name, tone, rate)
    ran = fish("say", "Like this.", "--ref", name, "--ref-text", "A tone.", *brief)
    assert ran.code == 0, ran.err


def test_several_references(fish, brief, tmp_path):
    fish("encode", REFERENCE, *brief[:-2])
    ran = fish(
        "say", "Like both.", "--ref", REFERENCE, "--ref", "reference.npy", "--ref-text", "a", "--ref-text", "b", *brief
    )
    assert ran.code == 0, ran.err


def test_the_transcript_beside_a_recording(fish, brief, tmp_path):
    samples, rate = soundfile.read(REFERENCE)
    soundfile.write(tmp_path / "me.wav", samples[:rate], rate)
    assert "--ref-text" in fish("say", "Hello.", "--ref", "me.wav", *brief).err
    (tmp_path / "me.lab").write_text("What I say.")
    assert "--ref-text" not in fish("say", "Hello.", "--ref", "me.wav", *brief).err


def test_several_recordings(fish, micro, tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.wav").write_bytes(REFERENCE.read_bytes())
    assert fish("encode", "a.wav", "b.wav", *options(micro)).code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_reconstruct(fish, micro, tmp_path):
    assert fish("encode", REFERENCE, "--reconstruct", "again.wav", *options(micro)).code == 0
    assert soundfile.info(tmp_path / "again.wav").duration == pytest.approx(
        soundfile.info(REFERENCE).duration, abs=0.05
    )


def test_text_from_stdin_and_file(fish, brief, tmp_path):
    (tmp_path / "text.txt").write_text("Hello.", encoding="utf-8-sig")
    fish("say", "Hello.", "--seed", 1, "-o", "a.wav", *brief)
    fish("say", "-", "--seed", 1, "-o", "b.wav", *brief, stdin=b"Hello.")
    fish("say", "--file", "text.txt", "--seed", 1, "-o", "c.wav", *brief)
    assert len({(tmp_path / name).read_bytes() for name in ("a.wav", "b.wav", "c.wav")}) == 1


def test_the_default_output_is_the_next_free_name(fish, brief, tmp_path):
    for _ in range(2):
        fish("say", "Hello.", *brief)
    assert {path.name for path in tmp_path.iterdir()} == {"out.wav", "out-1.wav"}
    before = (tmp_path / "out.wav").read_bytes()
    fish("say", "Hello.", "--seed", 5, "-o", "out.wav", *brief)
    assert (tmp_path / "out.wav").read_bytes() != before


def test_a_truncated_chunk_is_reported(fish, brief):
    ran = fish("say", "This will not end in five frames.", *brief)
    assert ran.code == 0
    assert 'warning: "This will not end' in ran.err


def test_settings_are_the_defaults(fish, brief, tmp_path, monkeypatch):
    (tmp_path / "fishcli.toml").write_text("[generate]\nseed = 21\ntop_p = 2\n")
    assert fish("say", "Hello.", *brief).code == 2
    (tmp_path / "fishcli.toml").write_text("[generate]\nseed = 21\n")
    assert json.loads(fish("say", "Hello.", "--json", *brief).out)["seeds"] == [21]
    monkeypatch.setenv("FISHCLI_GENERATE_SEED", "22")
    assert json.loads(fish("say", "Hello.", "--json", *brief).out)["seeds"] == [22]
    assert json.loads(fish("say", "Hello.", "--json", "--seed", 23, *brief).out)["seeds"] == [23]


def test_half_overrides_a_setting(fish, micro, monkeypatch):
    monkeypatch.setenv("FISHCLI_DTYPE", "bfloat16")
    assert fish("generate", "Hi.", "--half", "--max-new-tokens", 2, "--checkpoint-path", micro).code == 0


class Loaded(Exception):
    """Ends a command when it loads the engine."""


@pytest.mark.parametrize("source", ["option", "setting"])
def test_kv_memory_reaches_the_engine(fish, monkeypatch, source):
    passed = {}

    def load(model, **arguments):
        passed.update(arguments)
        raise Loaded

    monkeypatch.setattr("fishcli.engine.load", load)
    if source == "setting":
        monkeypatch.setenv("FISHCLI_KV_MEMORY", "500")
    ran = fish("say", "Hi.", *(["--kv-memory", 500] if source == "option" else []))
    assert "Loaded" in ran.err
    assert passed["kv_memory"] == 500


def test_pipes_in_and_out(micro, tmp_path):
    """`-` is stdin and stdout for every kind of file."""
    options = f"--checkpoint-path {micro} --dtype float32 -q"
    fish = f"{sys.executable} -m fishcli"
    line = f"{fish} encode - -o - {options} < {REFERENCE} | {fish} decode - -o - {options} > piped.wav"
    subprocess.run(["bash", "-euo", "pipefail", "-c", line], cwd=tmp_path, check=True)
    assert soundfile.info(tmp_path / "piped.wav").samplerate == 44_100
    assert {path.name for path in tmp_path.iterdir()} == {"piped.wav"}


def test_json_of_many(fish, micro, tmp_path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(REFERENCE.read_bytes())
    found = json.loads(fish("encode", "a.wav", "b.wav", "--json", *options(micro)).out)
    assert [file["output"] for file in found["files"]] == ["a.npy", "b.npy"]
    assert len(json.loads(fish("decode", "a.npy", "b.npy", "--json", *options(micro)).out)["files"]) == 2


def test_a_later_chunk_that_does_not_fit_is_an_error_before_the_first(fish, micro, tmp_path):
    words = "Short.\n\n" + "1 " * 190
    ran = fish("say", words, "--no-normalize", "--chunk-length", 400, "--max-new-tokens", 200, *options(micro))
    assert ran.code == 1, ran.err
    assert "chunk length" in ran.err
    assert not list(tmp_path.iterdir())


def test_an_internal_error_is_one_line(fish, monkeypatch):
    """A bug is reported without a traceback."""
    monkeypatch.setattr("fishcli.text.prepare", lambda *_: 1 / 0)
    ran = fish("say", "Hi.")
    assert ran.code == 1
    assert (
        "error: Internal error (ZeroDivisionError: division by zero). Run again with --debug and report it." in ran.err
    )
    assert "Traceback" not in ran.err


def test_verbose_prints_debug_messages(fish, brief):
    err = fish("say", "Hi.", "-v", *brief).err
    assert re.search(r"^model: .*, cpu, float32, .*, \d+ threads?$", err, re.MULTILINE)
    assert re.search(r"^\d+\.\d tokens/s, real-time factor ", err, re.MULTILINE)
    assert "prompt of" in err


def test_options_of_fish_speech(fish, micro, tmp_path):
    codec = micro / "firefly-gan-vq-fsq-8x1024-21hz-generator.pth"
    old = [
        "--llama-checkpoint-path",
        micro,
        "--decoder-checkpoint-path",
        codec,
        "--decoder-config-name",
        "firefly_gan_vq",
    ]
    assert fish("generate", "--text", "Hello.", "--max-new-tokens=3", *old).code == 0
    assert fish("decode", "-i", "codes_0.npy", "--output-path=old.wav", *old).code == 0
    assert (tmp_path / "old.wav").exists()
    assert fish("encode", "--input-path", REFERENCE, "--decoder-config-name", "other").code == 2
    assert fish("generate", "--text", "-5 degrees", "--max-new-tokens=3", *old).code == 0


def test_numbers_in_a_language_without_rules_are_a_warning(fish):
    ran = fish("say", "Wir haben 12 Katzen und das ist nicht viel.", "--dry-run")
    assert "12 Katzen" in ran.out
    assert "warning: Numbers in 'de' are not normalized" in ran.err


def test_dry_run_writes_nothing(fish, tmp_path):
    ran = fish("say", "First sentence. " * 20, "--dry-run")
    assert ran.code == 0
    assert ran.out.count("First sentence.") == 20
    assert not list(tmp_path.iterdir())
    assert fish("say", "Hi", "--dry-run").out.endswith("Hi.\n")  # as it will be spoken


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], "say"),
        (["-h"], "doctor"),
        (["say", "-h"], "--ref"),
        (["--version"], "fishcli 0."),
        ([], "download"),
    ],
)
def test_help(fish, arguments, shown):
    ran = fish(*arguments)
    assert ran.code == (0 if arguments else 2)
    assert shown in ran.out + ran.err
    assert "error: " not in ran.err


# Errors: one line, the right exit code, no files.

WRONG = {
    "a missing model": (3, "nowhere", ["say", "Hi.", "--checkpoint-path", "nowhere"]),
    "a missing codec": (3, "no.pth; pass --codec-path FILE", ["decode", "good.npy", "--codec-path", "no.pth"]),
    "a silent recording": (1, "silence", ["encode", "silent.wav"]),
    "an unreadable recording": (1, "uniforms.wav", ["encode", "uniforms.wav"]),
    "a missing recording": (1, "gone.wav", ["say", "Hi.", "--ref", "gone.wav", "--ref-text", "x"]),
    "codes of a wrong shape": (1, "flat.npy", ["decode", "flat.npy"]),
    "codes of a thousand": (1, "1000", ["decode", "high.npy"]),
    "codes that are text": (1, "uniforms.wav", ["decode", "uniforms.wav"]),
    "no text": (2, "TEXT", ["say"]),
    "two texts": (2, "both", ["say", "a", "--file", "b"]),
    "empty text": (1, "speak", ["say", ""]),
    "only emoji": (1, "speak", ["say", "😀🎉"]),
    "text that is not UTF-8": (1, "UTF-8", ["say", "--file", "latin.txt"]),
    "a missing text": (1, "gone.txt", ["say", "--file", "gone.txt"]),
    "not a temperature": (2, "--temperature", ["say", "Hi.", "--temperature", "nan"]),
    "no probability": (2, "--top-p", ["say", "Hi.", "--top-p", "0"]),
    "a device that is not there": (
        2,
        "mps" if sys.platform != "darwin" else "cuda",
        ["say", "Hi.", "--device", "mps" if sys.platform != "darwin" else "cuda"],
    ),
    "no KV memory": (2, "--kv-memory", ["say", "Hi.", "--kv-memory", "0"]),
    "no such device": (2, "--device", ["say", "Hi.", "--device", "tpu"]),
    "two dtypes": (2, "--half", ["say", "Hi.", "--half", "--dtype", "float32"]),
    "a mistyped option": (2, "--temperature", ["say", "Hi.", "--tempreature", "1"]),
    "a mistyped command": (2, "say", ["sya", "Hi."]),
    "an unknown format": (2, ".wav", ["say", "Hi.", "-o", "out.doc"]),
    "an exact mp3": (2, "mp3", ["say", "Hi.", "-o", "out.mp3", "--subtype", "FLOAT"]),
    "the input as output": (2, "uniforms.npy is an input", ["encode", "uniforms.npy", "-o", "uniforms.npy"]),
    "codes without .npy": (2, "x.txt does not end in .npy", ["encode", "uniforms.wav", "-o", "x.txt"]),
    "JSON and sound": (2, "stdout", ["say", "Hi.", "-o", "-", "--json"]),
    "an unknown subtype on stdout": (2, "WRONG", ["say", "Hi.", "-o", "-", "--subtype", "WRONG"]),
    "two results of one name": (2, "two.npy", ["encode", "two.wav", "two.flac"]),
    "two results on stdout": (2, "--num-samples", ["say", "Hi.", "-o", "-", "--num-samples", "2"]),
    "texts without references": (2, "--ref-text", ["say", "Hi.", "--ref-text", "x"]),
    "a folder that cannot be made": (1, "uniforms.wav", ["generate", "Hi.", "--output-dir", "uniforms.wav/codes"]),
    "a folder that is not there": (1, "no-folder", ["say", "Hi.", "-o", "no-folder/out.wav", "--max-new-tokens", "3"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_error(fish, tmp_path, case):
    np.save(tmp_path / "good.npy", np.zeros((8, 4), np.int16))
    np.save(tmp_path / "codes_0.npy", np.zeros((8, 4), np.int16))
    np.save(tmp_path / "flat.npy", np.zeros(9, np.int16))
    np.save(tmp_path / "high.npy", np.full((8, 4), 1000, np.int16))
    soundfile.write(tmp_path / "silent.wav", np.zeros(8_000), 8_000)
    for name in ("uniforms.wav", "uniforms.npy"):
        (tmp_path / name).write_bytes(bytes(range(256)) * 9)
    (tmp_path / "latin.txt").write_bytes("Größe".encode("latin-1"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, named, arguments = WRONG[case]
    ran = fish(*arguments)
    assert ran.code == code, ran.err
    lines = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, ran.err
    assert ran.err.splitlines()[-1] == lines[0]
    assert named in lines[0]
    assert "Traceback" not in ran.err
    assert ran.out == "" or "--json" in arguments
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_reference_longer_than_the_context(fish, brief, tmp_path):
    np.save(tmp_path / "long.npy", np.zeros((8, 2000), np.int16))
    ran = fish("say", "Hi.", "--ref", "long.npy", "--ref-text", "x", *brief)
    assert ran.code == 1
    assert "93 s" in ran.err


def test_debug_prints_a_traceback(fish):
    assert "Traceback" in fish("say", "", "--debug").err


# In other processes.


def environment():
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("after", [0.4, 0.8, 1.2])
def test_interrupted_while_it_starts(tmp_path, after):
    """An exception raised during an import could be swallowed, and the command would continue."""
    with subprocess.Popen([*FISH, "say", "Long. " * 200], cwd=tmp_path, stderr=subprocess.PIPE) as process:
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        err = process.stderr.read().decode()
    assert process.returncode in (130, -signal.SIGINT), err  # the latter before main() runs
    assert not list(tmp_path.iterdir())


def test_download_and_say(micro, tmp_path):
    with Hub() as hub:
        hub.add(REPO, {path.name: path.read_bytes() for path in micro.iterdir()})
        env = {**environment(), "HF_ENDPOINT": hub.url, "FISHCLI_DATA_DIR": str(tmp_path / "data")}

        def run(*arguments):
            return subprocess.run([*FISH, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True)

        planned = run("download", "--dry-run")
        assert planned.returncode == 0, planned.stderr
        assert "model.pth" in planned.stdout
        fetched = run("download")
        assert fetched.returncode == 0, fetched.stderr
        assert "CC BY-NC-SA" in fetched.stderr
        asked = len(hub.requests)
        again = run("download", "--json")
        assert json.loads(again.stdout)["folder"].startswith(str(tmp_path / "data"))
        assert "CC BY-NC-SA" not in again.stderr
        assert len(hub.requests) == asked
    said = run("say", "Hi.", "--max-new-tokens", "3")
    assert said.returncode == 0, said.stderr
    assert "built-in" not in said.stderr
    assert soundfile.info(tmp_path / "out.wav").samplerate == 44_100  # the codec of the downloaded one
    missing = run("download", "nobody/nothing")
    assert missing.returncode == 5, "the hub is gone by now"
    assert missing.stderr.count("error: ") == 1


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads /proc")
def test_three_minutes_of_text(tmp_path):
    """Audio is written while it is generated, and memory does not grow after the first chunks."""
    sentences = "The train arrives at seven and leaves at nine. We should talk about the problem tomorrow. "
    (tmp_path / "page.txt").write_text(sentences * 40)
    command = [*FISH, "say", "--file", "page.txt", "-o", "page.wav", "--json", "--seed", "1"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, env=environment()) as process:
        seen = []  # (bytes written, resident KiB)
        while process.poll() is None:
            written = sum(path.stat().st_size for path in tmp_path.glob(".page.wav.*.tmp"))
            status = Path(f"/proc/{process.pid}/status").read_text()
            if written and (resident := re.search(r"VmRSS:\s+(\d+)", status)):
                seen.append((written, int(resident[1])))
            time.sleep(0.2)
        result = json.loads(process.stdout.read())
    assert result["seconds"] > 150
    assert len({written for written, _ in seen}) > 20
    early = max(resident for written, resident in seen if written < 1_000_000)
    assert max(resident for _, resident in seen) < early + 100 * 1024, seen[:: len(seen) // 20]


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(tmp_path, number, code):
    command = [*FISH, "say", "One sentence after another. " * 40, "-o", "long.wav", "--dtype", "float32"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, env=environment()) as process:
        deadline = time.monotonic() + 120
        while not any(path.stat().st_size > 20_000 for path in tmp_path.iterdir()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        err = process.stderr.read().decode()
        assert process.wait() == code, err
    assert "Traceback" not in err
    assert err.endswith("Interrupted; nothing was saved.\n") == (number == signal.SIGINT)
    assert not list(tmp_path.iterdir())


def test_a_closed_pipe(tmp_path):
    command = [*FISH, "say", "One sentence after another. " * 10, "-o", "-", "-q", "--dtype", "float32"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.read(4) == b"RIFF"
        process.stdout.close()
        err = process.stderr.read().decode()
    assert (process.returncode, err) == (141, "")  # as after SIGPIPE
