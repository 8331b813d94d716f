"""`fish voices`, and --voice: what is kept, said, shown and refused, and that nothing is computed twice."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import sounds
from conftest import TESTS, TINY
from rich.console import Console

from fishcli import audio
from fishcli.audio import recogniser
from fishcli.bench import listening
from fishcli.cli import console, pictures
from fishcli.voices import Library

RATE = 22_050
SPEECH = audio.read(TINY / "reference.wav", RATE)
TEXT = (TINY / "reference.lab").read_text(encoding="utf-8").strip()
THANKS = "Thank you for coming."


@pytest.fixture(autouse=True)
def library(tmp_path, monkeypatch) -> Library:
    """An empty library of this test; its recordings lie in the working folder, which `fish` enters."""
    monkeypatch.setenv("FISHCLI_DATA_DIR", str(tmp_path / "data"))
    soundfile.write(tmp_path / "ref.wav", SPEECH, RATE)
    (tmp_path / "ref.lab").write_text(TEXT, encoding="utf-8")
    soundfile.write(tmp_path / "mute.wav", SPEECH, RATE)
    (tmp_path / "silent.wav").write_bytes(sounds.encoded(np.zeros(RATE), RATE))
    (tmp_path / "note.txt").write_text("no audio")
    return Library(tmp_path / "data" / "voices")


@pytest.fixture
def anna(fish, library):
    """A voice of the real recording."""
    assert fish("voices", "add", "anna", "ref.wav").code == 0
    return library.find("anna")


# Adding


def test_a_recording_is_added_with_the_text_beside_it(fish, library):
    ran = fish("voices", "add", "anna", "ref.wav")
    assert (ran.code, ran.out) == (0, "")
    first, text, last = ran.err.splitlines()
    assert first == "ref.wav: 5.8 s, -22 dBFS, background -72 dBFS, pitch 155 Hz, 0.5 s of silence cut off"
    assert text == f'ref.wav: "{TEXT}" (the text beside it)'
    assert last == "Added anna; speak with it: --voice anna"
    (voice,) = library.list()
    ((recording, data),) = library.contents(voice)
    assert (voice.id, voice.title, recording.name, recording.text) == ("anna", "anna", "00.wav", TEXT)
    assert voice.languages == ("en",)
    kept, rate = sounds.decoded(data)
    assert rate == 44_100
    assert len(kept) / rate == pytest.approx(5.82 + 0.5, abs=0.05)
    assert not kept[-rate // 2 :].any()
    assert soundfile.info(io.BytesIO(data)).subtype == "PCM_16"


def test_several_recordings_with_their_texts(fish, library):
    ran = fish("voices", "add", "Paimon 派蒙", "ref.wav", "mute.wav", "--text", "One.", "--text", "Two.", "--json")
    (voice,) = library.list()
    assert [each.text for each in voice.recordings] == ["One.", "Two."]
    assert (voice.title, len(voice.id)) == ("Paimon 派蒙", 32)
    told = json.loads(ran.out)
    assert (told["id"], told["title"], told["path"]) == (voice.id, voice.title, str(voice.folder))
    one = told["recordings"][0]
    assert (one["input"], one["text"], one["text_from"], one["warnings"]) == ("ref.wav", "One.", "typed", [])
    assert one["seconds"] == pytest.approx(5.8, abs=0.1)
    assert "--voice 'Paimon 派蒙'" in ran.err
    assert fish("voices", "show", "Paimon 派蒙").code == 0


def test_a_file_is_kept_as_it_is(fish, library, tmp_path):
    fish("voices", "add", "anna", "ref.wav", "--no-trim")
    assert library.contents(library.find("anna"))[0][1] == (tmp_path / "ref.wav").read_bytes()


def test_what_is_wrong_with_a_recording_is_said_and_it_is_added(fish, library, tmp_path):
    noise = np.random.default_rng(0).standard_normal(RATE * 3) * 0.05
    loud = np.clip(np.pad(SPEECH[: 3 * RATE], 0) * 8, -1, 1) + noise
    soundfile.write(tmp_path / "bad.wav", np.clip(loud, -1, 1), RATE)
    ran = fish("voices", "add", "bad", "bad.wav", "--language", "zh")
    assert re.search(r"warning: bad.wav lasts \d\.\d s; 5 to 15 s are best", ran.err)
    assert "warning: bad.wav is noisy: the background lies only" in ran.err
    assert "warning: bad.wav has no transcript, which makes the voice less similar; pass --text" in ran.err
    assert library.find("bad").recordings[0].text == ""
    assert library.find("bad").languages == ("zh",)
    assert "1 recording, 1 without a text" in fish("voices", "list").out


@pytest.mark.skipif(not listening.is_installed(), reason="needs the extra `listen`")
def test_a_recogniser_writes_a_text_that_is_missing_where_it_is_sure(fish, library, tmp_path):
    ran = fish("voices", "add", "anna", "mute.wav")
    said = library.find("anna").recordings[0].text
    assert listening.word_errors(TEXT, said) <= 1
    assert f'mute.wav: "{said}" (heard by a recogniser of English; check it)' in ran.err
    soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).standard_normal(RATE * 6) * 0.05, RATE)
    ran = fish("voices", "add", "noise", "noise.wav")
    assert "noise.wav has no transcript, which makes the voice less similar; pass --text." in ran.err


def test_without_the_recogniser_the_extra_is_named(fish, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    monkeypatch.setattr(recogniser, "find_spec", lambda name: None)
    assert "pass --text, or run `pip install 'fishcli[listen]'`" in fish("voices", "add", "anna", "mute.wav").err


# Mistakes

MISTAKES = {
    "add anna absent.wav": (1, "absent.wav cannot be read (No such file or directory)."),
    "add anna note.txt": (1, "note.txt is not WAV, FLAC, Ogg, MP3 or AIFF audio;"),
    "add anna silent.wav": (1, "silent.wav contains only silence; use another file."),
    "add anna ref.wav --text a --text b": (2, "Give one --text for each AUDIO, not 2 for 1."),
    "add anna": (2, "Missing argument AUDIO"),
    "add kept ref.wav": (1, "There is a voice kept already; choose another name, or remove it first."),
    "show kepd": (3, "There is no voice 'kepd'; did you mean kept?"),
    "play zzz": (3, "There is no voice 'zzz'; add it to the library first. `fish voices list` shows them."),
    "rm kept zzz": (3, "There is no voice 'zzz'"),
    "rm ../data": (3, "There is no voice '../data'"),
    "rename kept kept": (1, "There is a voice kept already"),
    "rename fox bear": (1, "The voice fox lies in references, which is only read; change it there."),
    "rm fox": (1, "The voice fox lies in references, which is only read; change it there."),
    "export zzz": (3, "There is no voice 'zzz'"),
    "import ref.wav": (1, "ref.wav is no export of a voice, or damaged (it is no ZIP, or cut off)"),
    "import absent.zip": (1, "absent.zip cannot be read"),
    "freeze anna mute.wav": (2, "mute.wav has no text beside it; pass --text, what is said in it."),
    "freeze anna absent.wav": (1, "absent.wav cannot be read"),
    "audition": (2, "There is no text to speak"),
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_clear_sentence_and_changes_nothing(fish, library, tmp_path, line):
    library.add([sounds.encoded(SPEECH, RATE)], ["x"], title="kept", id="kept")
    (tmp_path / "references" / "fox").mkdir(parents=True)
    (tmp_path / "references" / "fox" / "a.wav").write_bytes(sounds.encoded(SPEECH, RATE))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != ".lock"}
    code, message = MISTAKES[line]
    ran = fish("voices", *line.split())
    assert ran.code == code
    assert f"error: {message}" in ran.err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [voice.id for voice in library.list()] == ["kept"]


def test_an_empty_library_says_how_to_begin(fish):
    assert fish("voices", "list").err == "There are no voices yet; `fish voices add NAME AUDIO` adds one.\n"
    assert json.loads(fish("voices", "list", "--json").out) == {"voices": []}
    assert "There are no voices yet; `fish voices add NAME AUDIO` adds one." in fish("say", "Hi.", "--voice", "x").err


# What is shown


def test_list_and_show_tell_all_of_a_voice(fish, anna, tmp_path):
    (tmp_path / "references" / "fox").mkdir(parents=True)
    (tmp_path / "references" / "fox" / "a.wav").write_bytes(sounds.encoded(SPEECH, RATE))
    assert fish("voices", "list").out == "anna  1 recording\nfox   1 recording, 1 without a text, in references\n"
    told = json.loads(fish("voices", "list", "--json").out)["voices"]
    assert [(each["id"], each["writable"], len(each["recordings"])) for each in told] == [
        ("anna", True, 1),
        ("fox", False, 1),
    ]
    assert fish("voices", "show", "anna").out == (
        f"anna: 1 recording\n{anna.folder}\n\n00.wav: 5.8 s, -22 dBFS, background -72 dBFS, pitch 155 Hz\n{TEXT}\n"
    )
    (one,) = json.loads(fish("voices", "show", "anna", "--json").out)["recordings"]
    assert (one["name"], one["text"], one["warnings"]) == ("00.wav", TEXT, [])
    assert one["pitch"] == pytest.approx(155, abs=2)


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be")
def test_the_name_of_a_file_does_nothing_to_a_terminal(fish, tmp_path):
    folder = tmp_path / "references" / "a\x1b[2Jb"
    folder.mkdir(parents=True)
    (folder / "c\x1b]0;d.wav").write_bytes(sounds.encoded(SPEECH, RATE))
    (name,) = [voice.name for voice in Library.of_user().list()]
    for line in (["list"], ["show", name], ["rm", name], ["export", name]):
        ran = fish("voices", *line)
        assert "\x1b" not in ran.out + ran.err
    assert "\x1b" not in fish("say", "Hi.", "--voice", name, "--max-new-tokens", 5).err


@pytest.mark.parametrize(("width", "colour"), [(30, True), (40, False), (80, True), (120, False), (200, True)])
def test_a_terminal_gets_waveform_and_pitch(fish, anna, monkeypatch, width, colour):
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=width, no_color=not colour, highlight=False)
    monkeypatch.setattr(console, "stdout", terminal)
    assert fish("voices", "show", "anna").code == 0
    shown = screen.getvalue()
    assert ("\x1b[36m" in shown) is colour
    lines = re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()
    assert {len(line) for line in lines} == {max(40, min(width, 120))}
    assert len(lines) == 6 + 4 + 1
    labels = [line[:7].strip() for line in lines]
    assert labels == [*[""] * 6, "230 Hz", "", "", "110 Hz", ""]
    assert lines[-1].split() == ["0", "s", "6.3", "s"]
    assert all(set(line[8:]) <= {chr(0x2800 + bits) for bits in range(256)} for line in lines[:-1])


@pytest.mark.parametrize("stream", [{"force_terminal": False}, {"force_terminal": True, "_environ": {"TERM": "dumb"}}])
def test_no_terminal_gets_no_picture(fish, anna, monkeypatch, stream):
    screen = io.StringIO()
    monkeypatch.setattr(console, "stdout", Console(file=screen, **stream))
    assert fish("voices", "show", "anna").code == 0
    assert screen.getvalue() == ""


def test_the_picture_of_a_waveform():
    ramp = np.linspace(0, 1, 800, dtype=np.float32) * np.tile([1, -1], 400).astype(np.float32)
    assert pictures.waveform(ramp, 8, 2) == ["⣀⣀⣤⣤⣴⣶⣾⣿", "⠉⠉⠛⠛⠻⠿⢿⣿"]
    assert pictures.waveform(np.zeros(3, np.float32), 2, 1) == ["⠤⠤"]


def test_the_picture_of_a_curve():
    values = np.array([100, 100, np.nan, 400, 800, 1], np.float32)
    assert pictures.curve(values, 3, 1, 100, 400) == ["⣀⠈⠀"]
    assert pictures.curve(np.full(4, np.nan), 3, 1, 100, 400) == ["⠀⠀⠀"]


def test_a_voice_is_played(fish, anna, heard):
    assert fish("voices", "play", "anna").err == "Played (6.3 s)\n"
    played = audio.read(heard.read_bytes(), 44_100)
    np.testing.assert_allclose(played, audio.read(anna.folder / "00.wav", 44_100), atol=2 / 32768)


# Names, files


def test_a_voice_is_renamed_and_removed(fish, anna, library):
    assert fish("voices", "rename", "anna", "anne").err == "anna is anne now.\n"
    voice = library.find("anne")
    assert (voice.id, voice.title, voice.created_at) == ("anne", "anne", anna.created_at)
    assert [each.text for each in voice.recordings] == [TEXT]
    assert fish("voices", "rename", "anne", "Paimon 派蒙").code == 0  # which cannot be an id
    assert library.find("Paimon 派蒙").id == "anne"
    assert fish("voices", "rm", "anne").code == 0
    assert library.list() == ()


@pytest.mark.parametrize(
    "line",
    [
        "add b ref.wav",
        "rename anna b",
        "rm anna",
        "export anna",
        "import anna.zip --name b",
        "freeze b ref.wav",
        "audition Hi.",
    ],
)
def test_a_dry_run_writes_nothing(fish, anna, library, tmp_path, line):
    if "import" in line:
        fish("voices", "export", "anna")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    ran = fish("voices", *line.split(), "-n")
    assert ran.code == 0, ran.err
    assert ran.err + ran.out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_voice_goes_to_another_machine_as_one_file(fish, anna, tmp_path, monkeypatch):
    ran = fish("voices", "export", "anna", "--json")
    assert json.loads(ran.out) == {"output": "anna.zip", "bytes": Path("anna.zip").stat().st_size}
    assert fish("voices", "export", "anna").err.startswith("Saved anna-1.zip (")
    assert Path("anna.zip").read_bytes() == Path("anna-1.zip").read_bytes()
    assert "There is a voice anna already" in fish("voices", "import", "anna.zip").err
    assert fish("voices", "import", "anna.zip", "--name", "anne").err == "Added anne; speak with it: --voice anne\n"
    monkeypatch.setenv("FISHCLI_DATA_DIR", str(tmp_path / "other"))
    there = Library.of_user()
    assert fish("voices", "import", "-", stdin=Path("anna.zip").read_bytes()).code == 0
    assert there.contents(there.find("anna")) == Library(anna.folder.parent).contents(anna)


def test_an_export_to_stdout():
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    command = [sys.executable, "-m", "fishcli", "voices"]
    Library.of_user().add([sounds.encoded(SPEECH, RATE)], ["x"], title="a", id="a")
    out = subprocess.run([*command, "export", "a", "-o", "-"], env=environment, check=True, capture_output=True)
    assert out.stdout.startswith(b"PK")
    assert b"Saved" in out.stderr


# Audition


def test_a_voice_is_found_without_a_recording_and_kept(fish, library, tmp_path):
    words = ("voices", "audition", "It costs $5.", "--num-samples", 2, "--seed", 7)
    ran = fish(*words)
    assert re.search(r"Saved audition-1.wav \(\d\.\d s, seed 7\)\nSaved audition-2.wav \(\d\.\d s, seed 8\)", ran.err)
    assert "Keep the one you like: fish voices freeze NAME audition-1.wav" in ran.err
    assert Path("audition-2.lab").read_text() == "It costs five dollars.\n"
    again = json.loads(fish(*words, "--json").out)
    assert again["outputs"] == ["audition-3.wav", "audition-4.wav"]
    assert Path("audition-1.wav").read_bytes() == Path("audition-3.wav").read_bytes()
    assert Path("audition-1.wav").read_bytes() != Path("audition-2.wav").read_bytes()
    assert fish("voices", "freeze", "anna", "audition-2.wav").code == 0
    voice = library.find("anna")
    assert [each.text for each in voice.recordings] == ["It costs five dollars."]
    # The sound itself is kept, whatever model speaks later.
    heard, kept = audio.read(Path("audition-2.wav"), 44_100), audio.read(voice.folder / "00.wav", 44_100)
    start = int(np.argmax(np.abs(heard)) - np.argmax(np.abs(kept)))
    spoken = len(kept) - 22_050
    np.testing.assert_allclose(kept[:spoken], heard[start : start + spoken], atol=2 / 32768)


def test_six_voices_by_default(fish):
    told = json.loads(fish("voices", "audition", "A long text that nobody hears.", "-n", "--json").out)
    assert told["outputs"] == [f"audition-{number}.wav" for number in range(1, 7)]


# --voice


def test_voice_is_the_recordings_of_that_voice(fish, anna):
    words = ("say", THANKS, "--seed", 3, "--subtype", "FLOAT", "--max-new-tokens", 20)
    assert fish(*words, "--voice", "anna", "-o", "a.wav").code == 0
    kept = anna.folder / "00.wav"
    assert fish(*words, "--ref", kept, "--ref-text", TEXT, "-o", "b.wav").code == 0
    assert fish(*words, "-o", "c.wav").code == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes() != Path("c.wav").read_bytes()
    words = ("generate", THANKS, "--seed", 3, "--max-new-tokens", 20)
    assert fish(*words, "--voice", "anna").code == 0
    assert fish(*words, "--ref", kept, "--ref-text", TEXT, "--output-dir", "ref").code == 0
    assert np.array_equal(np.load("codes_0.npy"), np.load("ref/codes_0.npy"))


def test_the_settings_name_a_voice_which_a_typed_recording_overrides(fish, anna):
    Path("fishcli.toml").write_text('[generate]\nvoice = "anna"\n')
    words = ("say", THANKS, "--seed", 3, "--max-new-tokens", 20)
    fish(*words, "-o", "a.wav")
    fish(*words, "-o", "b.wav", "--voice", "anna")
    ran = fish(*words, "-o", "c.wav", "--ref", "mute.wav", "--ref-text", "Something else.")
    assert ran.code == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes() != Path("c.wav").read_bytes()
    ran = fish(*words, "--voice", "anna", "--ref", "ref.wav")
    assert (ran.code, ran.err) == (2, "error: --voice and --ref are both given; pass one of them.\n")
    assert fish(*words, "--voice", "").code == 2


COUNTED = """
import atexit, json, sys
from fishcli.engine.engine import Engine
from fishcli.engine.executor import Executor

encode, prefill, counts = Engine._encode_pieces, Executor.prefill, {"encoded": 0, "computed": 0, "prefix": 0}

def encode_counted(self, samples):
    counts["encoded"] += 1
    return encode(self, samples)

def prefill_counted(self, sequence, most):
    if sequence.prepared.request.references:
        counts["prefix"] = sequence.prepared.prefix.shape[1]
    before = sequence.computed
    width = prefill(self, sequence, most)
    counts["computed"] += width if sequence.prepared.request.references else 0
    return width

Engine._encode_pieces, Executor.prefill = encode_counted, prefill_counted
target = sys.argv.pop(1)
atexit.register(lambda: open(target, "w").write(json.dumps(counts)))
sys.argv[0] = "fish"
from fishcli.cli.main import main
main()
"""


@pytest.fixture
def counted(tmp_path):
    """Run a command in a process of its own; what it computed."""
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}

    def start(*words: object) -> subprocess.Popen:
        command = [sys.executable, "-c", COUNTED, tmp_path / "counts", *map(str, words)]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)

    def run(*words: object) -> dict[str, int]:
        running = start(*words)
        running.communicate(timeout=120)
        assert running.returncode == 0
        return json.loads((tmp_path / "counts").read_text())

    run.start = start
    return run


def test_a_voice_is_encoded_and_prefilled_once_for_all_processes(library, counted, tmp_path):
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("uvicorn")
    library.add([sounds.encoded(SPEECH[: 3 * RATE] * 0.7, RATE)], [TEXT], title="anna", id="anna")  # a new one
    words = ("--voice", "anna", "--seed", 3, "--max-new-tokens", 8, "--no-server")
    first = counted("say", "Hello.", *words)
    assert first["encoded"] == 1
    assert first["computed"] > first["prefix"] > 32
    server = counted.start("serve", "--listen", "127.0.0.1:0", "--json")
    try:
        url = json.loads(server.stdout.readline())["url"]
        asked = {"text": "Hello.", "reference_id": "anna", "seed": 3, "max_new_tokens": 8, "format": "wav"}
        assert httpx.post(f"{url}/v1/tts", json=asked, timeout=60).status_code == 200
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    served = json.loads((tmp_path / "counts").read_text())
    assert served["encoded"] == 0
    assert 0 < served["computed"] < served["prefix"] == first["prefix"]
