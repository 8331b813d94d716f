"""Playback through a player program, here a small script on the PATH, and through a fake sound device."""

import io
import json
import re
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fishcli.audio import playback
from fishcli.audio.playback import Player, require_player
from fishcli.errors import FishError, SettingError

LISTEN = "import shutil; shutil.copyfileobj(sys.stdin.buffer, here('heard').open('wb'))"
LISTEN_TO_FILE = "import shutil; shutil.copy(sys.argv[-1], here('heard'))"
WAIT_TO_GO = """
for _ in range(6_000):
    if here('go').exists(): break
    time.sleep(0.01)
else: sys.exit('no go file')
"""
TAKE_FOR_EVER = "here('started').touch(); time.sleep(600)"
PATIENCE = 60  # s, for a slow machine
DIE = "sys.stderr.write('first\\ncannot open the sound card\\n\\n'); sys.exit(3)"
LEAVE = "sys.stdin.buffer.read(100)"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The only folder on the PATH. There is a sound server, and no sound device of PortAudio."""
    monkeypatch.setenv("PULSE_SERVER", "elsewhere")
    (tmp_path / "sounddevice.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def add_program(folder: Path, name: str, does: str) -> None:
    path = folder / name
    lines = ["#!" + sys.executable, "import pathlib, sys, time", f"here = pathlib.Path({str(folder)!r}).joinpath"]
    path.write_text("\n".join([*lines, "here('arguments').write_text(' '.join(sys.argv[1:]))", does]))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def sound(seconds: float, rate: int = 22_050) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, int(seconds * rate)).astype(np.float32)


def test_the_first_available_player_is_used(folder):
    for name in ("afplay", "aplay", "paplay", "ffplay"):
        add_program(folder, name, LISTEN)
        assert require_player() == str(folder / name)


def test_without_a_player_the_error_says_what_to_install(folder):
    with pytest.raises(SettingError, match=r"fishcli\[play\].*ffmpeg.*paplay.*aplay"):
        Player(22_050)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("ffplay", "-nodisp -autoexit -loglevel error -i -"), ("paplay", ""), ("aplay", "-q -"), ("afplay", None)],
)
def test_a_program_receives_all_of_it(folder, name, arguments):
    add_program(folder, name, LISTEN_TO_FILE if name == "afplay" else LISTEN)
    samples = sound(2)
    with Player(22_050) as player:
        for start in range(0, len(samples), 3_000):
            player.write(samples[start : start + 3_000])
    heard, rate = soundfile.read(io.BytesIO((folder / "heard").read_bytes()), dtype="float32")
    assert rate == 22_050
    assert np.allclose(heard, samples, atol=1e-4)
    assert (folder / "arguments").read_text() == arguments or name == "afplay"
    assert not list(folder.glob("**/sound.wav"))


def test_writing_does_not_wait_for_the_player(folder):
    add_program(folder, "aplay", f"{WAIT_TO_GO}\n{LISTEN}")
    with Player(44_100) as player:
        player.write(sound(20, 44_100))  # more than a pipe holds
        (folder / "go").touch()
    assert len((folder / "heard").read_bytes()) == 44 + 2 * 20 * 44_100  # the end does wait


@pytest.fixture
def ctrl_c_when() -> Iterator[Callable[[Callable[[], bool]], None]]:
    """ctrl_c_when(happened): send Ctrl-C when `happened()` is true, or fail after a minute."""

    def watch(happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE

        def look(*_):
            if happened():
                signal.setitimer(signal.ITIMER_REAL, 0)
                raise KeyboardInterrupt
            if time.monotonic() > deadline:
                signal.setitimer(signal.ITIMER_REAL, 0)
                raise TimeoutError("what was waited for did not happen")

        signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)

    before = signal.getsignal(signal.SIGALRM)
    yield watch
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", ["aplay", "afplay"])
def test_ctrl_c_stops_at_once(folder, name):
    add_program(folder, name, TAKE_FOR_EVER)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Player(22_050) as player:  # noqa: PT012
        player.write(sound(30))
        raise KeyboardInterrupt
    assert time.monotonic() - start < PATIENCE


@pytest.mark.parametrize("name", ["aplay", "afplay"])
def test_ctrl_c_while_waiting_for_the_end_stops_at_once(folder, name, ctrl_c_when):
    add_program(folder, name, TAKE_FOR_EVER)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Player(22_050) as player:  # noqa: PT012
        player.write(sound(1))
        ctrl_c_when((folder / "started").exists)
    assert time.monotonic() - start < 2 * PATIENCE  # the program would take longer


def test_a_full_queue_blocks_the_writer_until_ctrl_c(folder, ctrl_c_when):
    add_program(folder, "aplay", TAKE_FOR_EVER)
    block, ends = sound(1, 8_000), []
    with pytest.raises(KeyboardInterrupt), Player(8_000) as player:  # noqa: PT012
        ctrl_c_when(lambda: len(ends) > 55 and time.monotonic() - ends[-1] > 1)
        while len(ends) < 100:
            player.write(block)
            ends.append(time.monotonic())
    assert 55 < len(ends) < 75  # seconds: a minute in the queue, some in the pipe


@pytest.mark.parametrize("name", ["ffplay", "afplay"])
def test_a_failure_is_one_sentence_with_the_last_line_of_the_player(folder, name):
    add_program(folder, name, DIE)
    with pytest.raises(FishError, match=rf"^{name} stopped before.*\(cannot open the sound card\)\."):  # noqa: SIM117
        with Player(22_050) as player:
            player.write(sound(3))


def test_a_dead_player_is_an_error_while_writing(folder):
    add_program(folder, "paplay", DIE)
    with pytest.raises(FishError, match="cannot open the sound card"), Player(22_050) as player:  # noqa: PT012
        for _ in range(100):
            player.write(sound(1))
            time.sleep(0.1)
        pytest.fail("nothing was noticed")


def test_a_player_that_exits_early_is_an_error(folder):
    add_program(folder, "paplay", LEAVE)
    with pytest.raises(FishError, match=r"paplay stopped before the end of the audio \(exit status 0\)"):  # noqa: SIM117
        with Player(22_050) as player:
            player.write(sound(30))


SOUND_DEVICE = """
import os, time
class PortAudioError(Exception): pass
def query_devices():
    if os.environ.get("NO_DRIVER"):
        raise PortAudioError("no driver")
    return [{"max_output_channels": int(os.environ.get("CHANNELS", 2))}]
class OutputStream:
    heard = []
    def __init__(self, samplerate, channels, dtype):
        if samplerate == 7:
            raise PortAudioError("Invalid sample rate")
        self.heard.append((samplerate, channels, dtype))
    def __enter__(self): return self
    def __exit__(self, *_): self.heard.append("stop")
    def write(self, samples):
        time.sleep(len(samples) / 22_050 / 10)
        self.heard.append(samples)
"""


@pytest.fixture
def device(folder) -> Path:
    (folder / "sounddevice.py").write_text(SOUND_DEVICE)
    return folder


def test_the_sound_device_is_preferred(device):
    add_program(device, "ffplay", LISTEN)
    assert require_player() == "sounddevice"
    with Player(22_050) as player:
        player.write(sound(1))
    import sounddevice

    settings, *blocks, last = sounddevice.OutputStream.heard
    assert (settings, last) == ((22_050, 1, "float32"), "stop")
    assert np.array_equal(np.concatenate(blocks), sound(1))


def test_the_sound_device_stops_at_once(device):
    with pytest.raises(KeyboardInterrupt), Player(22_050) as player:  # noqa: PT012
        player.write(sound(50))
        raise KeyboardInterrupt
    import sounddevice

    _, *blocks, last = sounddevice.OutputStream.heard
    assert last == "stop"
    assert sum(map(len, blocks)) < 50 * 22_050


@pytest.mark.parametrize("variable", ["NO_DRIVER", "CHANNELS"])
def test_a_machine_without_an_output_falls_back_to_a_program(device, monkeypatch, variable):
    monkeypatch.setenv(variable, "1" if variable == "NO_DRIVER" else "0")
    with pytest.raises(SettingError, match=r"^There is no sound device here\.$"):
        require_player()
    add_program(device, "ffplay", LISTEN)
    assert require_player() == str(device / "ffplay")


def test_a_sound_device_that_fails_is_one_sentence(device):
    with pytest.raises(FishError, match="The sound device failed \\(Invalid sample rate\\)"), Player(7) as player:
        player.write(sound(1, 7))


@pytest.mark.parametrize("seconds", [0.1, 60])
def test_an_error_with_status_0_is_an_error(folder, seconds):
    """As of ffplay without a sound card, however long the sound is and however soon it ends."""
    add_program(folder, "ffplay", f"{LISTEN}; sys.stderr.write('audio open failed\\n')")
    with pytest.raises(FishError, match="ffplay reported an error \\(audio open failed\\)"), Player(22_050) as player:
        player.write(sound(seconds))


def test_a_gap_in_the_sound_is_no_error(folder):
    add_program(folder, "aplay", f"{LISTEN}; sys.stderr.write('underrun!!! (at least 5.200 ms long)\\n')")
    with Player(22_050) as player:
        player.write(sound(1))
    assert (folder / "heard").exists()


@pytest.fixture
def silent(folder, monkeypatch) -> Path:
    """A machine without a sound card or sound server."""
    for name in playback._SOUND_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("HOME", str(folder))
    if playback._has_sound_output():
        pytest.skip("this machine has a sound card")
    return folder


NO_PACKAGE, NO_LIBRARY = "raise ImportError", "raise OSError('PortAudio library not found')"
APT = re.escape(f"`{playback._INSTALL_PORTAUDIO}`")


@pytest.mark.parametrize(
    ("sounddevice", "program", "message"),
    [
        (NO_PACKAGE, "ffplay", r"^There is no sound device here\.$"),
        (NO_PACKAGE, None, r"^There is no sound device here\.$"),
        (NO_LIBRARY, None, rf"^There is no sound device here, and PortAudio is missing \({APT}\)\.$"),
        ("def query_devices(): return []", "ffplay", r"^There is no sound device here\.$"),
    ],
)
def test_without_a_sound_card_it_says_so(silent, sounddevice, program, message):
    (silent / "sounddevice.py").write_text(sounddevice)
    if program:
        add_program(silent, program, LISTEN)
    with pytest.raises(SettingError, match=message):
        require_player()


def test_portaudio_missing_beside_a_sound_server(folder):
    (folder / "sounddevice.py").write_text(NO_LIBRARY)
    with pytest.raises(SettingError, match=rf"^No player was found, and PortAudio is missing; run {APT}\.$"):
        require_player()


@pytest.mark.parametrize("path", ["pulse/native", "pipewire-0"])
def test_a_sound_server_is_found_by_its_socket(silent, path):
    (silent / path).parent.mkdir(exist_ok=True)
    (silent / path).touch()
    add_program(silent, "paplay", LISTEN)
    assert require_player() == str(silent / "paplay")


def test_play_without_a_sound_card_is_an_error_before_the_model_is_loaded(silent, fish):
    ran = fish("say", "Hi.", "--play", "--checkpoint-path", "nowhere")
    assert (ran.code, ran.err) == (2, "error: There is no sound device here; write to a file with -o.\n")


def test_doctor_agrees_with_play(silent, fish):
    checks = json.loads(fish("doctor", "--json").out)["checks"]
    [found] = [check for check in checks if check["name"] == "audio output"]
    assert found["value"] == "There is no sound device here"
    assert found["state"] == "warn"
