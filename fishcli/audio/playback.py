"""Play audio while it is generated, through the sound device or a player program."""

import logging
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, cast

import numpy as np

from fishcli.audio import Encoder
from fishcli.errors import FishError, SettingError
from fishcli.threads import Worker

_log = logging.getLogger(__name__)

_PROGRAMS = {  # arguments to play a WAV stream from stdin; afplay needs a file
    "ffplay": ["-nodisp", "-autoexit", "-loglevel", "error", "-i", "-"],
    "paplay": [],
    "aplay": ["-q", "-"],
    "afplay": [],
}
_DEVICE = "sounddevice"
_INSTALL_PORTAUDIO = "brew install portaudio" if sys.platform == "darwin" else "apt install libportaudio2"
_PIECE = 0.1  # s; the sound device stops within this time after a Ctrl-C
_AHEAD = 60.0  # s of audio in the queue at most: a faster model waits, so memory stays bounded


_NO_PLAYER = (
    "No player was found; run `pip install 'fishcli[play]'`, or install ffmpeg (ffplay), pulseaudio-utils (paplay) or "
    "alsa-utils (aplay)"
)
_HARMLESS = re.compile(r"underrun|xrun", re.IGNORECASE)  # a gap; the player goes on
# What tells a player program where to send the audio.
_SOUND_VARIABLES = ("PULSE_SERVER", "PIPEWIRE_REMOTE", "SDL_AUDIODRIVER", "AUDIODEV", "JACK_DEFAULT_SERVER")


def require_player() -> str:
    """Return `sounddevice`, or the path of ffplay, paplay, aplay or afplay.

    Raises SettingError if audio cannot be played here. Call it before any work starts.
    """
    silent = otherwise = "There is no sound device here"
    try:
        if _has_sound_device():
            return _DEVICE
    except ImportError:
        otherwise = _NO_PLAYER
    except OSError:  # sounddevice is installed, and its library is not
        silent += f", and PortAudio is missing (`{_INSTALL_PORTAUDIO}`)"
        otherwise = f"No player was found, and PortAudio is missing; run `{_INSTALL_PORTAUDIO}`"
    if not _has_sound_output():
        raise SettingError(f"{silent}.", field="play")
    if program := next((path for program in _PROGRAMS if (path := shutil.which(program))), None):
        return program
    raise SettingError(f"{otherwise}.", field="play")


def _has_sound_device() -> bool:
    """Return whether PortAudio has an output. Raises ImportError or OSError if it is not installed."""
    import sounddevice

    try:
        return any(device["max_output_channels"] > 0 for device in sounddevice.query_devices())
    except Exception as error:  # an error of a driver: a program may play
        _log.debug("no sound device: %s", error)
        return False


def _has_sound_output() -> bool:
    """Return whether a player program would find a sound card or a sound server. Unknown, and so true, off Linux."""
    if sys.platform != "linux" or any(os.environ.get(name) for name in _SOUND_VARIABLES):
        return True
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    servers = (runtime / "pulse/native", runtime / "pipewire-0", Path("/var/run/pulse/native"), Path("/dev/dsp"))
    settings = (Path.home() / ".asoundrc", Path("/etc/asound.conf"))  # which may name a server elsewhere
    return any(map(os.path.lexists, (*servers, *settings))) or any(Path("/dev/snd").glob("pcm*p"))


class Player:
    """Plays blocks of mono samples at `rate` Hz in a thread.

        with Player(44_100) as player:
            for block in blocks:
                player.write(block)

    Leaving the `with` block waits until everything has been played; an exception, such as Ctrl-C, stops at once.
    Raises SettingError if there is no player, and FishError if playback fails.
    """

    def __init__(self, rate: int) -> None:
        self._output = _output(require_player(), rate)
        self._piece = max(1, int(rate * _PIECE))  # samples
        self._queue: queue.SimpleQueue[np.ndarray | None] = queue.SimpleQueue()
        self._stopping = False

    def __enter__(self) -> "Player":
        self._worker = Worker()
        self._playing = self._worker.start(self._output.play, self._blocks())
        return self

    def write(self, samples: np.ndarray) -> None:
        """Queue `samples` (n,) float32. Raises FishError if the player has died."""
        for start in range(0, len(samples), self._piece):
            self._put(samples[start : start + self._piece])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._put(None)
                while not self._playing.wait(0.1):  # briefly, since Windows cannot interrupt a wait
                    pass
                self._playing.result()
        finally:
            self._stop()

    def _put(self, block: np.ndarray | None) -> None:
        while self._queue.qsize() >= _AHEAD / _PIECE and not self._playing.done:
            self._playing.wait(_PIECE / 2)
        if self._playing.done:
            self._playing.result()
        self._queue.put(block)

    def _blocks(self) -> Iterator[np.ndarray]:
        """Yield the written blocks, in the playing thread."""
        while True:
            block = self._queue.get()
            if self._stopping:
                raise _Stopped
            if block is None:
                return
            yield block

    def _stop(self) -> None:
        """Stop playing at once."""
        self._stopping = True
        self._output.stop()
        self._queue.put(None)  # wakes the thread if it waits for a block
        self._worker.close()


class _Stopped(Exception):
    """Ends the playing thread; it never leaves this module."""


class _Output(Protocol):
    def play(self, blocks: Iterable[np.ndarray]) -> None:
        """Play all of `blocks`, and return when they have been heard. Runs in a thread."""

    def stop(self) -> None:
        """Make `play` end soon. Called from another thread."""


def _output(found: str, rate: int) -> _Output:
    if found == _DEVICE:
        return _Device(rate)
    return _File(found, rate) if Path(found).stem == "afplay" else _Pipe(found, rate)


class _Device:
    """The default sound device, through PortAudio."""

    def __init__(self, rate: int) -> None:
        self._rate = rate

    def play(self, blocks: Iterable[np.ndarray]) -> None:
        import sounddevice

        try:
            with sounddevice.OutputStream(samplerate=self._rate, channels=1, dtype="float32") as stream:
                for block in blocks:
                    stream.write(np.ascontiguousarray(block, np.float32))
        except sounddevice.PortAudioError as error:
            raise FishError(f"The sound device failed ({error}).", field="play") from error

    def stop(self) -> None:
        """Do nothing: `blocks` raises, and at most one piece is still in the device."""


class _Program:
    """A player program; stopping kills its process."""

    def __init__(self, path: str, rate: int) -> None:
        self._path = path
        self._rate = rate
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True
        if self._process is not None:
            self._process.kill()

    def _start(self, log: BinaryIO, *arguments: str) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [self._path, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,  # the terminal sends Ctrl-C to this process alone
        )
        if self._stopped:  # while the process started
            self._process.kill()
        return self._process

    def _check(self, status: int, log: BinaryIO, truncated: bool = False) -> None:
        """Raise FishError if the player failed. Without a sound device ffplay prints errors, and exits with 0."""
        log.seek(0)
        lines = [line.strip() for line in log.read().decode(errors="replace").split("\n")]
        errors = [line for line in lines if line and not _HARMLESS.search(line)]
        if status == 0 and not truncated and not errors:
            return
        said = errors[-1] if errors else f"exit status {status}"
        problem = "stopped before the end of the audio" if status or truncated else "reported an error"
        raise FishError(f"{Path(self._path).stem} {problem} ({said}).", field="play")


class _Pipe(_Program):
    """ffplay, paplay or aplay, fed with a WAV stream."""

    def play(self, blocks: Iterable[np.ndarray]) -> None:
        with tempfile.TemporaryFile() as log:
            arguments = _PROGRAMS[Path(self._path).stem]
            truncated = False
            with self._start(log, *arguments) as process:  # leaving the block waits for it
                stream = cast(BinaryIO, process.stdin)
                try:
                    with stream, Encoder(stream, self._rate) as sound:
                        for block in blocks:
                            sound.write(block)
                except BrokenPipeError:
                    truncated = True
            self._check(process.returncode, log, truncated)


class _File(_Program):
    """afplay, which starts when the audio is complete."""

    def play(self, blocks: Iterable[np.ndarray]) -> None:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
            path = Path(folder) / "sound.wav"
            with Encoder(path, self._rate) as sound:
                for block in blocks:
                    sound.write(block)
            with self._start(log, str(path)) as process:
                pass  # leaving the block waits until it has played
            self._check(process.returncode, log)
