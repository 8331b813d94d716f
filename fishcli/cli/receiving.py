"""Receive audio from a server: write it to a file or stdout as it comes, and play it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from fishcli.cli import console
from fishcli.client.http import FishClient
from fishcli.client.sound import Layout, Pcm, Wav
from fishcli.errors import NetworkError
from fishcli.files import report_write_errors, writing

if TYPE_CHECKING:
    from fishcli.audio.playback import Player
    from fishcli.cli.outputs import Output
    from fishcli.client.http import Answer
    from fishcli.client.request import SpeechRequest

_STARTS = {"mp3": (b"ID3", b"\xff"), "opus": (b"OggS",), "flac": (b"fLaC",)}  # of encoded audio


class Receiver:
    """One answer in `format`. `rate` (Hz) and `channels` are those of pcm where the server does not tell."""

    def __init__(self, format: str, rate: int, channels: int) -> None:
        self.size = 0  # bytes
        self.first: float | None = None  # seconds from the request to the first audio
        self.elapsed = 0.0
        self._format, self._rate, self._channels = format, rate, channels
        self._parts: Wav | Pcm | None = Wav() if format == "wav" else None
        self._file: BinaryIO | None = None
        self._name = ""
        self._raw = False  # whether the file gets the bytes as they come
        self._players: contextlib.ExitStack | None = None
        self._player: Player | None = None
        self._samples = 0  # bytes of them

    @property
    def seconds(self) -> float | None:
        """Seconds of audio; None for a format that does not tell."""
        layout = self._parts.layout if self._parts else None
        return self._samples / layout.width / layout.rate if layout else None

    def open(self, sinks: contextlib.ExitStack, players: contextlib.ExitStack | None, files: Sequence[Output]) -> None:
        """Open the file, if there is one. `players` gets the player once the rate is known; None: nothing is played."""
        self._players = players
        for target in files:
            self._name = str(target)
            if self._name == "-":
                self._file, self._raw, self._name = sys.stdout.buffer, True, "stdout"
                return
            sinks.enter_context(report_write_errors(self._name))
            self._file = sinks.enter_context(writing(target))
            self._raw = self._format != "wav" or not self._file.seekable()

    def receive(self, url: str, key: str | None, request: SpeechRequest) -> None:
        """Ask the server, and take its answer to the end. Raises AuthError, InputError or NetworkError."""
        began = time.perf_counter()
        with FishClient(url, key) as http, console.status(f"Waiting for {http.url}"):
            if key and http.is_readable_by_others:
                console.warn(f"{http.url} is not encrypted: others on the network can read the API key; use https.")
            with http.speak(request) as answer:
                self._begin(answer)
                for block in answer:
                    self._take(block)
                    if self.first is None and (self._samples or not self._parts):
                        self.first = time.perf_counter() - began
                    self._show()
            self._end()
        self.elapsed = time.perf_counter() - began

    def report(self, files: Sequence[Output], request: SpeechRequest) -> None:
        """Show the result."""
        name = str(files[0]) if files else None
        if not console.flags.json:
            if self.seconds is not None:
                console.saved(name, self.seconds, request.seed)
            else:
                what = "Written to standard output" if name == "-" else f"Saved {name}"
                console.note(f"{what} ({self.size:,} bytes, seed {request.seed})")
        if console.flags.verbose and not console.flags.json:
            console.note(f"first audio after {self.first or 0.0:.2f} s, all after {self.elapsed:.2f} s")
        console.result(self._figures(name, request))

    def _figures(self, name: str | None, request: SpeechRequest) -> dict[str, Any]:
        return {
            "output": name,
            "format": self._format,
            "bytes": self.size,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "seed": request.seed,
            "time_to_first_audio": round(self.first or 0.0, 3),
            "elapsed": round(self.elapsed, 3),
        }

    def _begin(self, answer: Answer) -> None:
        if self._format == "pcm":
            given = answer.headers.get("X-Sample-Rate", "")
            rate = int(given) if given.isascii() and given.isdigit() and len(given) < 7 else self._rate
            self._parts = Pcm(Layout(rate or self._rate, self._channels))

    def _take(self, block: bytes) -> None:
        if not self.size and block and not block.startswith(_STARTS.get(self._format, (b"",))):
            raise NetworkError(f"The server sent something else than {self._format}.")
        self.size += len(block)
        is_first = not self._samples
        sound = self._parts.feed(block) if self._parts else b""
        layout = self._parts.layout if self._parts else None
        if self._raw:
            self._write(block)
        elif layout and sound:
            self._write(layout.header() + sound if is_first else sound)
        self._samples += len(sound)
        if layout and sound and self._players is not None:
            self._play(layout, sound)

    def _end(self) -> None:
        """Complete the header of a WAV. Raises NetworkError for an answer without sound, or one that was cut off."""
        if not self.size or (self._parts and not self._samples):
            raise NetworkError("The server sent no sound.")
        if self._parts:
            self._parts.end()
        layout = self._parts.layout if self._parts else None
        if self._file and layout and not self._raw:
            with report_write_errors(self._name):
                self._file.seek(0)
                self._file.write(layout.header(self._samples))

    def _write(self, data: bytes) -> None:
        if self._file:
            with report_write_errors(self._name):
                self._file.write(data)
                self._file.flush()

    def _play(self, layout: Layout, sound: bytes) -> None:
        from fishcli.audio.playback import Player

        if self._player is None and self._players is not None:
            self._player = self._players.enter_context(Player(layout.rate))
        if self._player is not None:
            self._player.write(layout.samples(sound))

    def _show(self) -> None:
        had = f"{self.size / 1000:,.0f} kB" if self.seconds is None else f"{self.seconds:.1f} s"
        after = "" if self.first is None else f", first audio after {self.first:.2f} s"
        console.update(f"Receiving: {had}{after}")
