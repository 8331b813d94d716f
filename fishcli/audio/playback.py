"""Sound as it is made, through the sound device or through a program that plays what is piped to it."""

import contextlib
import logging
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, cast

import numpy as np

from fishcli.audio import Writer
from fishcli.errors import FishError, SettingError

_log = logging.getLogger(__name__)

_PROGRAMS = {  # each plays a WAV stream from its standard input, but afplay, which needs a file
    "ffplay": ["-nodisp", "-autoexit", "-loglevel", "error", "-i", "-"],
    "paplay": [],
    "aplay": ["-q", "-"],
    "afplay": [],
}
_DEVICE = "sounddevice"
_PIECE = 0.1  # s; how soon the sound device falls silent after a Ctrl-C
_AHEAD = 60.0  # s that may wait to be heard; a faster model is held back, so that memory stays bounded


def find_player() -> str | None:
    """What would play here: `sounddevice`, or the path of ffplay, paplay, aplay or afplay; None for nothing."""
    if _has_sound_device():
        return _DEVICE
    return next((path for program in _PROGRAMS if (path := shutil.which(program))), None)


def require_player() -> str:
    """The same, where something must. Raises SettingError: ask before the work."""
    if (found := find_player()) is None:
        raise SettingError(
            "Nothing here can play sound; run `pip install 'fishcli[play]'`, or install ffmpeg (ffplay), "
            "pulseaudio-utils (paplay) or alsa-utils (aplay)."
        )
    return found


def _has_sound_device() -> bool:
    try:
        import sounddevice

        return any(device["max_output_channels"] > 0 for device in sounddevice.query_devices())
    except Exception as error:  # no such package, no PortAudio, or whatever a driver raises: a program may play
        _log.debug("no sound device: %s", error)
        return False


class Player:
    """Plays blocks of mono samples at `rate` Hz while the next ones are made.

        with Player(44_100) as player:
            for block in blocks:
                player.write(block)

    Leaving the `with` block waits until all has been heard; leaving it by an exception, Ctrl-C included,
    stops at once. Raises SettingError where nothing can play, FishError when playing fails.
    """

    def __init__(self, rate: int) -> None:
        self._output = _output(require_player(), rate)
        self._piece = max(1, int(rate * _PIECE))  # samples
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(int(_AHEAD / _PIECE))
        self._stopping = threading.Event()

    def __enter__(self) -> "Player":
        self._worker = ThreadPoolExecutor(1)
        self._playing = self._worker.submit(self._output.play, self._blocks())
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
                while not self._playing.done():
                    wait([self._playing], timeout=0.1)  # briefly, since Windows cannot interrupt a wait
                self._playing.result()
        finally:
            self._stop()

    def _put(self, block: np.ndarray | None) -> None:
        while True:
            if self._playing.done():
                self._playing.result()
            try:
                return self._queue.put(block, timeout=0.1)
            except queue.Full:
                continue

    def _blocks(self) -> Iterator[np.ndarray]:
        """What was written, for the playing thread."""
        while True:
            block = self._queue.get()
            if self._stopping.is_set():
                raise _Stopped
            if block is None:
                return
            yield block

    def _stop(self) -> None:
        """Silence, now, unless all has been heard."""
        self._stopping.set()
        self._output.stop()
        while not self._playing.done():
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(None)  # wakes it up, should it wait for a block
            wait([self._playing], timeout=0.05)
        self._worker.shutdown()


class _Stopped(Exception):
    """Ends the playing thread; nobody sees it."""


class _Output(Protocol):
    def play(self, blocks: Iterable[np.ndarray]) -> None:
        """Play all of `blocks` to the end of the sound. Runs in a thread."""

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
            raise FishError(f"The sound device failed ({error}); write to a file with -o instead.") from error

    def stop(self) -> None:
        """`blocks` raises, and no more than a piece is still to be heard."""


class _Program:
    """A player in a process of its own, which a stop kills."""

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
            start_new_session=True,  # a terminal's Ctrl-C is ours to pass on
        )
        if self._stopped:  # between the last look and now
            self._process.kill()
        return self._process

    def _check(self, status: int, log: BinaryIO, cut: bool = False) -> None:
        if status == 0 and not cut:
            return
        log.seek(0)
        lines = log.read().decode(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), f"exit status {status}")
        name = Path(self._path).stem
        raise FishError(f"{name} stopped before the end of the sound ({said}); write to a file with -o instead.")


class _Pipe(_Program):
    """ffplay, paplay or aplay, fed with a WAV stream."""

    def play(self, blocks: Iterable[np.ndarray]) -> None:
        with tempfile.TemporaryFile() as log:
            arguments = _PROGRAMS[Path(self._path).stem]
            cut, started = False, time.monotonic()
            with self._start(log, *arguments) as process:  # on leaving, it is waited for
                stream = cast(BinaryIO, process.stdin)
                try:
                    with stream, Writer(stream, self._rate) as sound:
                        for block in blocks:
                            sound.write(block)
                except BrokenPipeError:
                    cut = True
            # ffplay says that it found no sound device, and ends as if all were well.
            hasty = time.monotonic() - started < sound.seconds / 2 and log.tell() > 0
            self._check(process.returncode, log, cut or hasty)


class _File(_Program):
    """afplay, which starts when all of the sound is there."""

    def play(self, blocks: Iterable[np.ndarray]) -> None:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
            path = Path(folder) / "sound.wav"
            with Writer(path, self._rate) as sound:
                for block in blocks:
                    sound.write(block)
            with self._start(log, str(path)) as process:
                pass  # until it has played
            self._check(process.returncode, log)
