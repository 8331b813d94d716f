"""`fish client`, and `fish say` through a server: what they write, and what they do when a server does not answer."""

import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scripted import answer, chunked, scripted
from serving import serving
from test_serve import serving as serving_process

from fishcli import audio
from fishcli.checkpoints import local
from fishcli.cli import client_spellings
from fishcli.client import discovery
from fishcli.client.http import FishClient
from fishcli.client.sound import Layout
from fishcli.engine import load
from fishcli.errors import NetworkError, SettingError
from fishcli.server.settings import ServerSettings

LOCAL_KEY = "5a" * 32
SOUND = np.linspace(-0.5, 0.5, 2205, dtype=np.float32)
PCM = (SOUND * 32767).astype("<i2").tobytes()
STREAM = Layout(22_050).header() + PCM
HI = "Thank you for coming."


@pytest.fixture(scope="module")
def server(micro, tmp_path_factory):
    """A real server of the micro checkpoint, with a key for local programs."""
    settings = ServerSettings(local_key=LOCAL_KEY)
    with serving(load(micro), tmp_path_factory.mktemp("voices"), settings) as running:
        logging.getLogger("fishcli.server").setLevel(logging.CRITICAL)  # the commands of this process would show it
        yield running
        logging.getLogger("fishcli.server").setLevel(logging.NOTSET)


@pytest.fixture
def found(server, announced):
    """The server, announced to the programs of this user."""
    with announced(int(server.url.rpartition(":")[2])):
        yield server


@pytest.fixture
def announced(micro, tmp_path, monkeypatch):
    """Announce a server of the micro checkpoint on a port."""
    (tmp_path / "runtime").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    model = dataclasses.replace(discovery.identity(micro), native=load(micro).plan.native)
    return lambda port: discovery.announced(port, LOCAL_KEY, model)


@pytest.fixture
def say(fish, micro):
    """Say a text, of which the micro checkpoint speaks a few frames."""

    def run(text: str, *words: object):
        return fish("say", text, "--checkpoint-path", micro, "--seed", 3, "--max-new-tokens", 12, *words)

    return run


def process(*arguments: object, **settings) -> subprocess.Popen:
    """Run the command line in a process of its own, which tells of torch at its end."""
    program = (
        "import atexit, sys; sys.argv[0] = 'fish'\n"
        "atexit.register(lambda: print('TORCH' if 'torch' in sys.modules else 'LIGHT', file=sys.stderr))\n"
        "from fishcli.cli.main import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)


# fish client


def test_the_client_saves_what_it_receives(fish, server):
    for stream in ((), ("--stream",)):
        ran = fish("client", HI, "--url", server.url, "--seed", 3, "--max-new-tokens", 12, *stream)
        assert (ran.code, ran.out) == (0, ""), ran.err
    assert re.fullmatch(r"Saved out-1.wav \(0.\d s, seed 3\)\n", ran.err)
    assert Path("out.wav").read_bytes() == Path("out-1.wav").read_bytes()
    assert soundfile.info("out.wav").samplerate == 44_100
    assert sorted(os.listdir()) == ["out-1.wav", "out.wav"]


@pytest.mark.parametrize("name", ["x.wav", "x.pcm", "x.mp3", "x.opus", "x.ogg", "x.flac"])
def test_the_suffix_decides_the_format(fish, server, name):
    ran = fish("client", "Hi.", "--url", server.url, "--seed", 3, "--max-new-tokens", 12, "-o", name, "--json")
    assert ran.code == 0, ran.err
    fields = json.loads(ran.out)
    assert (fields["output"], fields["bytes"], fields["seed"]) == (name, Path(name).stat().st_size, 3)
    data = Path(name).read_bytes()
    assert len(audio.read(Layout(44_100).header(len(data)) + data if name == "x.pcm" else data, 44_100)) > 10_000
    assert 0 < fields["time_to_first_audio"] <= fields["elapsed"]


def test_the_documentation_s_command(fish, server):
    old = f"--url {server.url}/v1/tts --streaming True --output said --format wav --max_new_tokens 12 --top_p 0.7"
    more = "--use_memory_cache on --latency normal --chunk_length 150 --channels 1 --rate 44100 --no-play"
    ran = fish("client", "--text", HI, "--seed", 3, *old.split(), *more.split())
    assert ran.code == 0
    assert re.fullmatch(r"Saved said.wav \(0.\d s, seed 3\)\n", ran.err)


SPELLINGS = [
    (
        "--reference_audio a.wav b.wav --reference_text A B --text x",
        "--ref a.wav --ref b.wav --ref-text A --ref-text B",
    ),
    ("--reference_id anna", "--voice anna"),
    ("--streaming False", "--no-stream"),
    ("--streaming=true", "--stream"),
    ("--api_key=k --top_p 1", "--api-key k --top-p 1"),
    ("--seed 3 -o x_y.wav -- --top_p", "--seed 3 -o x_y.wav -- --top_p"),
]


@pytest.mark.parametrize(("old", "new"), SPELLINGS)
def test_old_spellings(old, new):
    assert client_spellings.modern(old.split())[: len(new.split())] == new.split()


def test_streaming_is_true_or_false():
    with pytest.raises(SettingError, match="must be True or False"):
        client_spellings.modern(["--streaming", "maybe"])


def test_a_recording_is_sent_with_its_transcript(fish):
    with scripted(chunked(STREAM)) as server:
        soundfile.write("voice.wav", SOUND, 22_050)
        Path("voice.lab").write_text("What is said.")
        ran = fish("client", "Hi.", "--url", server.url, "--ref", "voice.wav", "-q")
        assert (ran.code, ran.err) == (0, "")
    import ormsgpack

    [sent] = ormsgpack.unpackb(server.asked[0].body)["references"]
    assert sent == {"audio": Path("voice.wav").read_bytes(), "text": "What is said."}


def test_codes_are_not_sent(fish):
    np.save("voice.npy", np.zeros((8, 4), np.int16))
    ran = fish("client", "Hi.", "--ref", "voice.npy", "--ref-text", "x")
    assert ran.code == 1
    assert "holds codes, which a server does not take; pass another recording with --ref AUDIO." in ran.err


def test_stdout_gets_the_bytes_as_they_come():
    with scripted(chunked(*(STREAM[at : at + 100] for at in range(0, len(STREAM), 100)))) as server:
        out, err = process("client", "Hi.", "--url", server.url, "-o", "-", "--seed", 1).communicate()
        assert out == STREAM
        assert err == b"Written to standard output (0.1 s, seed 1)\nLIGHT\n"


def test_a_file_has_true_sizes_whatever_the_stream_said(fish):
    with scripted(chunked(STREAM)) as server:
        assert fish("client", "Hi.", "--url", server.url, "-o", "x.wav").code == 0
    assert Path("x.wav").read_bytes() == Layout(22_050).header(len(PCM)) + PCM


@pytest.mark.parametrize("words", [["--format", "wav"], ["--format", "pcm"], ["-o", "x.wav"]])
def test_it_plays_what_it_receives(fish, heard, words):
    sent = chunked(PCM, kind="audio/pcm", X_Sample_Rate="22050") if "pcm" in words else chunked(STREAM)
    with scripted(sent) as server:
        ran = fish("client", "Hi.", "--url", server.url, "--play", "--seed", 1, *words)
    assert ran.err == f"{'Saved x.wav' if '-o' in words else 'Played'} (0.1 s, seed 1)\n"
    np.testing.assert_allclose(audio.read(heard.read_bytes(), 22_050), SOUND, atol=2 / 32768)
    assert Path("x.wav").exists() is ("-o" in words)


KEYS = {
    "file": (["--api-key-file", "key"], {}, "from-file"),
    "environment": ([], {"FISHCLI_API_KEY": "from-environment"}, "from-environment"),
    "both": (["--api-key-file", "key"], {"FISHCLI_API_KEY": "from-environment"}, "from-file"),
    "typed": (["--api_key", "typed"], {}, "typed"),
}


@pytest.mark.parametrize("name", KEYS)
def test_the_key(fish, monkeypatch, name):
    words, environment, expected = KEYS[name]
    Path("key").write_text("from-file\n")
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    with scripted(chunked(STREAM)) as server:
        ran = fish("client", "Hi.", "--url", server.url, *words)
        assert ran.code == 0
        assert server.asked[0].headers["authorization"] == f"Bearer {expected}"
    assert ("read a key on the command line" in ran.err) is (name == "typed")
    assert expected not in ran.err


@pytest.mark.parametrize("text", ["", "two words", "two\nlines", "é", "x" * 5000])
def test_a_key_file_that_holds_no_key(fish, text):
    Path("key").write_text(text, encoding="utf-8")
    ran = fish("client", "Hi.", "--api-key-file", "key")
    assert ran.code == 1
    assert "key must hold an API key alone" in ran.err


def test_a_key_of_the_environment_that_no_header_can_hold(fish, monkeypatch):
    monkeypatch.setenv("FISHCLI_API_KEY", "two words")
    ran = fish("client", "Hi.")
    assert ran.code == 1
    assert "FISHCLI_API_KEY must hold an API key" in ran.err


JSON = "application/json"
FAILURES = {
    "no key": (
        answer(b'{"message": "A key is needed."}', "401 X", JSON),
        4,
        "A key is needed; pass a file with the key",
    ),
    "no voice": (answer(b'{"message": "No voice."}', "404 X", JSON), 1, "No voice."),
    "broken": (answer(b"", "500 X"), 5, "answered 500"),
    "cut": (chunked(STREAM, complete=False), 5, "cut off"),
    "another format": (chunked(b"ID3" + bytes(99)), 5, "sent something else than a WAV"),
    "silent": (chunked(Layout(22_050).header()), 5, "sent no sound"),
    "empty": (answer(b""), 5, "sent no sound"),
    "short": (answer(Layout(22_050).header(10**6) + PCM), 5, "cut off"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_leaves_no_file(fish, name):
    data, code, said = FAILURES[name]
    Path("x.wav").write_bytes(b"before")
    with scripted(lambda asked, connection: connection.sendall(data)) as server:
        ran = fish("client", "Hi.", "--url", server.url, "-o", "x.wav")
        assert fish("client", "Hi.", "--url", server.url).code == code
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert Path("x.wav").read_bytes() == b"before"
    assert os.listdir() == ["x.wav"]


@pytest.mark.parametrize("kind", ["mp3", "opus", "flac"])
def test_encoded_sound_that_is_none(fish, kind):
    with scripted(answer(b"<html>", kind="audio/x")) as server:
        ran = fish("client", "Hi.", "--url", server.url, "--format", kind)
    assert (ran.code, os.listdir()) == (5, [])
    assert f"something else than {kind}" in ran.err


USAGE = {
    "-o x.xyz": "x.xyz has no known audio format",
    "-o x.wav --format mp3": "x.wav does not end as --format mp3 does",
    "--format aac": "--format must be one of wav, pcm, mp3, opus, flac, not 'aac'.",
    "-o x.mp3 --play": "--play plays wav and pcm while they come, not mp3",
    "--url ftp://x": "starts with http:// or https://, not ftp://x; choose another with --url.",
    "--ref-text x": "Give one --ref-text for each --ref",
    "--streaming maybe": "--streaming must be True or False",
}


@pytest.mark.parametrize("line", USAGE)
def test_a_wrong_command_line(fish, line):
    ran = fish("client", "Hi.", *line.split())
    assert ran.code == 2
    assert USAGE[line] in ran.err


def test_a_folder_does_not_choose_the_server(fish):
    Path("fishcli.toml").write_text('[client]\nurl = "http://127.0.0.1:1"')
    ran = fish("client", "Hi.")
    assert ran.code == 2
    assert "client.url cannot be set for a folder" in ran.err


def test_a_dry_run_asks_nobody(fish):
    ran = fish("client", "Hi.", "-n", "--url", "http://192.0.2.1")
    assert (ran.code, ran.err) == (0, "3 characters for http://192.0.2.1, for out.wav.\n")
    assert os.listdir() == []


def test_a_key_on_an_open_network_is_warned_of(fish, monkeypatch):
    monkeypatch.setenv("FISHCLI_API_KEY", "secret")
    assert "is not encrypted" in fish("client", "Hi.", "--url", "http://server.invalid").err
    assert "is not encrypted" not in fish("client", "Hi.", "--url", "http://127.0.0.1:1").err


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_stops_the_client_and_the_server(tmp_path):
    def slow(asked, connection):
        connection.sendall(chunked(STREAM, complete=False))
        (tmp_path / "started").touch()
        while True:
            connection.sendall(b"2\r\nxx\r\n")

    with scripted(slow) as server:
        running = process("client", "Hi.", "--url", server.url, cwd=tmp_path)
        while not (tmp_path / "started").exists() or not list(tmp_path.glob(".out*")):
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
        assert (running.returncode, err) == (130, b"Interrupted; nothing was saved.\nLIGHT\n")
        assert server.gone.wait(10)
    assert os.listdir(tmp_path) == ["started"]


# fish serve


@pytest.mark.skipif(os.name == "nt", reason="users and modes of files")
def test_a_server_announces_itself_and_proves_that_it_is_the_one(micro, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    with serving_process("--checkpoint-path", str(micro)) as process:
        found = discovery.find(discovery.identity(micro, compile=False))
        assert (found.pid, found.url) == (process.pid, process.url)
        with FishClient(found.url) as client:
            assert client.prove(found.key)["X-Sample-Rate"] == str(load(micro).sample_rate)
            with pytest.raises(NetworkError, match="is not the server that it should be"):
                client.prove("another key")
        process.send(signal.SIGTERM)
        assert process.end() == 0
    assert list((tmp_path / "fishcli").iterdir()) == []


# fish say


def test_say_finds_the_local_server_and_gives_the_same_samples(fish, say, found):
    words = ("Thank you for coming. It was a pleasure.", "--chunk-length", 30, "--subtype", "FLOAT", "-v")
    through, alone = say(*words, "-o", "a.wav"), say(*words, "-o", "b.wav", "--no-server")
    assert "a local server speaks" in through.err
    assert "local server" not in alone.err
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()
    words = ("--seed", 3, "--max-new-tokens", 12, *words[1:])
    named = fish("say", "Thank you for coming. It was a pleasure.", *words, "-o", "c.wav", "--server", found.url)
    assert named.code == 0
    assert Path("c.wav").read_bytes() == Path("b.wav").read_bytes()


def test_say_finds_the_server_of_the_same_files_by_other_names(say, found, micro, tmp_path):
    (tmp_path / "model").mkdir()
    for path in micro.iterdir():
        if path.name != local.CODEC:
            (tmp_path / "model" / path.name).symlink_to(path)
    ran = say("Hi.", "--checkpoint-path", tmp_path / "model", "--codec-path", micro / local.CODEC, "-v")
    assert ran.code == 0
    assert "a local server speaks" in ran.err
    assert "runs the model itself" not in ran.err


def test_say_through_a_server_reports_as_it_does_alone(say, found):
    words = ("Thank you for coming. Hello.", "--chunk-length", 20, "--json")
    through, alone = say(*words), say(*words, "--no-server")
    assert through.code == alone.code == 0
    assert through.err == alone.err
    assert "was truncated at 12 frames; raise --max-new-tokens" in through.err
    ours, theirs = json.loads(through.out), json.loads(alone.out)
    for name in ("model", "seconds", "retries", "faults", "seeds"):
        assert ours[name] == theirs[name]


def test_say_sends_recordings_to_the_local_server(say, found):
    soundfile.write("voice.wav", SOUND, 22_050)
    words = ("Hi.", "--ref", "voice.wav", "--ref-text", HI, "-v")
    assert "a local server speaks" in say(*words, "-o", "a.wav").err
    say(*words, "-o", "b.wav", "--no-server")
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_say_sends_a_voice_of_the_library_to_the_local_server(say, found):
    Path("references/anna").mkdir(parents=True)
    soundfile.write("references/anna/a.wav", SOUND, 22_050)
    Path("references/anna/a.lab").write_text(HI)
    words = ("Hi.", "--voice", "anna", "-v")
    assert "a local server speaks" in say(*words, "-o", "a.wav").err
    say(*words, "-o", "b.wav", "--no-server")
    say("Hi.", "--ref", "references/anna/a.wav", "-o", "d.wav", "--no-server")
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes() == Path("d.wav").read_bytes()
    Path("references/anna/a.lab").unlink()
    ran = say(*words, "-o", "a.wav")
    assert ran.err.count("has no transcript") == 1


def test_say_and_client_do_not_import_torch(found, micro, tmp_path):
    for words in (("say", "--checkpoint-path", micro), ("client", "--url", found.url)):
        running = process(words[0], "Hi.", *words[1:], "--max-new-tokens", 12, "-o", "x.wav", cwd=tmp_path)
        _, err = running.communicate(timeout=60)
        assert running.returncode == 0, err
        assert err.endswith(b"LIGHT\n")


OWN = {
    "--num-samples 2": "A server makes one sample at a time",
    "--ref codes.npy --ref-text x": "A server takes recordings that are files",
    "--device cpu": "--device is about a model in this command",
    "--threads 1": "--threads is about a model in this command",
}


@pytest.mark.parametrize("line", OWN)
def test_what_a_server_cannot_take_runs_in_the_command(fish, say, found, micro, line, monkeypatch):
    engine = load(micro)
    from fishcli.audio import codes

    codes.write(Path("codes.npy"), np.zeros((engine.codec_settings.codebooks, 30), np.int16), engine.codec_id)
    monkeypatch.setattr(discovery.Identity, "serves", lambda ours, wanted: True)  # whatever else is asked
    ran = say("Hi.", "-v", *line.split())
    assert ran.code == 0, ran.err
    assert f"{OWN[line]}" in ran.err
    assert "this command runs the model itself" in ran.err
    ran = fish("say", "Hi.", "--server", found.url, *line.split())
    assert ran.code == 2
    assert f"{OWN[line]}" in ran.err
    assert "leave out --server" in ran.err


DONE = b'data: {"type": "speech.audio.done"}\n\n'
IMPOSTORS = {
    "no proof": answer(b"{}", kind=JSON),
    "a wrong proof": answer(b"{}", kind=JSON, X_Fish_Proof="00" * 32),
    "busy": answer(b'{"message": "Busy."}', "429 X", JSON, Retry_After="0"),
    "a page": answer(b"<html>", kind="text/html"),
    "no HTTP": b"SSH-2.0\r\n",
}


@pytest.mark.parametrize("name", IMPOSTORS)
def test_another_program_on_the_port_gets_no_recording(fish, say, announced, name):
    soundfile.write("voice.wav", SOUND, 22_050)
    words = ("Hi.", "--ref", "voice.wav", "--ref-text", HI, "-v")
    say(*words, "-o", "b.wav", "--no-server")
    with scripted(lambda asked, connection: connection.sendall(IMPOSTORS[name])) as impostor:
        with announced(int(impostor.url.rpartition(":")[2])):
            ran = say(*words, "-o", "a.wav")
        assert fish("say", *words, "-o", "c.wav", "--server", impostor.url).code == 5
    assert ran.code == 0
    assert "The local server does not speak; this command runs the model itself" in ran.err
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()
    assert not Path("c.wav").exists()
    first = impostor.asked[0]
    assert (first.line.split("?")[0], first.body) == ("GET /v1/health", b"")
    assert "authorization" not in first.headers
    assert all(asked.line.startswith("GET") for asked in impostor.asked[:1])


HOSTILE = [
    b"data: {}\n\n",
    b"data: []\n\n" + DONE,
    b'data: {"type": "speech.audio.delta", "audio": 5}\n\n' + DONE,
    b'data: {"type": "speech.audio.delta", "audio": "AAA="}\n\n' + DONE,
    b'data: {"type": "speech.audio.delta", "audio": "AADAfw=="}\n\n' + DONE,  # NaN
    b'data: {"type": "speech.audio.delta", "audio": "", "codes": 3}\n\n' + DONE,
    b'data: {"type": "speech.audio.delta", "audio": "", "codes": [[1], [1, 2]]}\n\n' + DONE,
    b'data: {"type": "speech.audio.delta", "audio": "", "codes": [[99999]]}\n\n' + DONE,
    b'data: {"type": "speech.audio.delta", "audio": "", "fault": "x"}\n\n' + DONE,
    b'data: {"type": "speech.audio.delta", "audio": "", "text": ["x"]}\n\n' + DONE,
    b'data: {"type": "speech.audio.delta", "audio": "", "attempts": "x"}\n\n' + DONE,
]


@pytest.mark.parametrize("events", HOSTILE)
def test_say_refuses_events_that_are_none(fish, events):
    healthy = answer(b"{}", kind=JSON, X_Sample_Rate="22050")
    with scripted(healthy, chunked(events, kind="text/event-stream")) as server:
        ran = fish("say", "Hi.", "--server", server.url)
    assert (ran.code, os.listdir()) == (5, [])
    assert ran.err.startswith("error: The server ")


def test_say_needs_a_server_that_tells_of_its_chunks(fish):
    with scripted(answer(b"{}", kind=JSON), chunked(STREAM)) as server:
        ran = fish("say", "Hi.", "--server", server.url)
    assert ran.code == 5
    assert "not with a stream of events, as `fish serve` does" in ran.err


def test_an_address_that_is_none(fish):
    ran = fish("say", "Hi.", "--server", "x")
    assert (ran.code, ran.err) == (
        2,
        "error: --server x: A server's address starts with http:// or https://, not x.\n",
    )


def test_two_wishes_that_contradict_each_other(fish):
    assert "--server and --no-server contradict" in fish("say", "Hi.", "--server", "http://x", "--no-server").err
