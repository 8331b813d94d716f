"""Playing through a program: what it hears, and how it ends. The program is a small script on the PATH."""

import io
import signal
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fishcli.errors import FishError, SettingError
from fishcli.playback import Player, find_player

LISTEN = "import shutil; shutil.copyfileobj(sys.stdin.buffer, here('heard').open('wb'))"
LISTEN_TO_FILE = "import shutil; shutil.copy(sys.argv[-1], here('heard'))"
TAKE_FOR_EVER = "here('started').touch(); time.sleep(60)"
DIE = "sys.stderr.write('first\\ncannot open the sound card\\n\\n'); sys.exit(3)"
LEAVE = "sys.stdin.buffer.read(100)"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A PATH of its own, and no sound device."""
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


def test_the_player_is_the_first_that_is_there(folder):
    assert find_player() is None
    for name in ("afplay", "aplay", "paplay", "ffplay"):
        add_program(folder, name, LISTEN)
        assert find_player() == str(folder / name)


def test_without_a_player_the_sentence_says_what_to_install(folder):
    with pytest.raises(SettingError, match=r"fishcli\[play\].*ffmpeg.*paplay.*aplay"):
        Player(22_050)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("ffplay", "-nodisp -autoexit -loglevel error -i -"), ("paplay", ""), ("aplay", "-q -"), ("afplay", None)],
)
def test_a_program_hears_all_of_it(folder, name, arguments):
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


def test_writing_does_not_wait_for_the_listener(folder):
    add_program(folder, "aplay", "time.sleep(1)\n" + LISTEN)
    start = time.monotonic()
    with Player(44_100) as player:
        player.write(sound(20, 44_100))  # more than a pipe holds
        assert time.monotonic() - start < 0.9
    assert time.monotonic() - start > 0.9  # but the end does
    assert len((folder / "heard").read_bytes()) == 44 + 2 * 20 * 44_100


@pytest.mark.parametrize("name", ["aplay", "afplay"])
def test_ctrl_c_stops_at_once(folder, name):
    add_program(folder, name, TAKE_FOR_EVER)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Player(22_050) as player:  # noqa: PT012
        player.write(sound(30))
        raise KeyboardInterrupt
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("name", ["aplay", "afplay"])
def test_ctrl_c_while_waiting_for_the_end_stops_at_once(folder, name):
    def interrupt(*_):
        raise KeyboardInterrupt

    add_program(folder, name, TAKE_FOR_EVER)
    before = signal.signal(signal.SIGALRM, interrupt)
    start = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt), Player(22_050) as player:  # noqa: PT012
            player.write(sound(1))
            signal.setitimer(signal.ITIMER_REAL, 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (folder / "started").exists()
    assert time.monotonic() - start < 6


def test_a_listener_that_is_too_slow_holds_the_writer_back_and_ctrl_c_ends_that(folder):
    def interrupt(*_):
        raise KeyboardInterrupt

    add_program(folder, "aplay", TAKE_FOR_EVER)
    before = signal.signal(signal.SIGALRM, interrupt)
    written = 0
    try:
        with pytest.raises(KeyboardInterrupt), Player(8_000) as player:  # noqa: PT012
            signal.setitimer(signal.ITIMER_REAL, 1.5)
            while True:
                player.write(sound(1, 8_000))
                written += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert 55 < written < 75  # seconds: a minute in the queue, some in the pipe


@pytest.mark.parametrize("name", ["ffplay", "afplay"])
def test_a_player_that_fails_is_one_sentence_with_its_last_words(folder, name):
    add_program(folder, name, DIE)
    with pytest.raises(FishError, match=rf"^{name} stopped before.*\(cannot open the sound card\); write to a file"):  # noqa: SIM117
        with Player(22_050) as player:
            player.write(sound(3))


def test_a_player_that_dies_is_noticed_while_writing(folder):
    add_program(folder, "paplay", DIE)
    with pytest.raises(FishError, match="cannot open the sound card"), Player(22_050) as player:  # noqa: PT012
        for _ in range(100):
            player.write(sound(1))
            time.sleep(0.1)
        pytest.fail("nothing was noticed")


def test_a_player_that_leaves_early_is_noticed(folder):
    add_program(folder, "paplay", LEAVE)
    with pytest.raises(FishError, match=r"paplay stopped before the end of the sound \(exit status 0\)"):  # noqa: SIM117
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


def test_the_sound_device_comes_first(device):
    add_program(device, "ffplay", LISTEN)
    assert find_player() == "sounddevice"
    with Player(22_050) as player:
        player.write(sound(1))
    import sounddevice

    settings, *blocks, last = sounddevice.OutputStream.heard
    assert (settings, last) == ((22_050, 1, "float32"), "stop")
    assert np.array_equal(np.concatenate(blocks), sound(1))


def test_the_sound_device_stops_at_once(device):
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Player(22_050) as player:  # noqa: PT012
        player.write(sound(50))
        raise KeyboardInterrupt
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("variable", ["NO_DRIVER", "CHANNELS"])
def test_a_machine_without_an_output_falls_back_to_a_program(device, monkeypatch, variable):
    monkeypatch.setenv(variable, "1" if variable == "NO_DRIVER" else "0")
    assert find_player() is None
    add_program(device, "ffplay", LISTEN)
    assert find_player() == str(device / "ffplay")


def test_a_sound_device_that_fails_is_one_sentence(device):
    with pytest.raises(FishError, match="The sound device failed \\(Invalid sample rate\\)"), Player(7) as player:
        player.write(sound(1, 7))
