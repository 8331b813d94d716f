"""Show a recording of a voice: its condition, its text, and on a terminal its waveform and pitch."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.text import Text

from fishcli import audio
from fishcli.audio import condition, pitch
from fishcli.cli import adding, console, pictures
from fishcli.errors import InputError
from fishcli.voices import Recording, printable

_WIDEST, _NARROWEST = 120, 40  # columns
_MARGIN = 7  # columns, for labels such as "500 Hz"
_ROWS = 6  # of the waveform; of the pitch two fewer


class Shown:
    """A recording, measured."""

    def __init__(self, recording: Recording, data: bytes) -> None:
        self._name, self._text = printable(recording.name), recording.text
        self._samples = audio.read(data, adding.RATE, name=self._name)
        if not self._samples.any():
            raise InputError(f"{self._name} contains only silence; replace it.")
        self._condition = condition.measure(self._samples, adding.RATE)

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of the recording for --json."""
        checked = adding.Checked(self._name, b"", self._text, "", self._condition)
        entry = checked.as_dict()
        del entry["text_from"]
        return {"name": entry.pop("input"), **entry}

    def draw(self) -> None:
        """Print the recording; where stdout shows no pictures, its figures and text alone."""
        had = self._condition
        console.listing(f"\n{self._name}: {adding.described(had)}\n{self._text or 'no text'}")
        for each in condition.complaints(had):
            console.listing(f"It {each}.")
        if console.draws():
            console.stdout.print(self._picture(), soft_wrap=True)

    def _picture(self) -> Text:
        columns = max(_NARROWEST, min(console.stdout.width, _WIDEST)) - _MARGIN - 1
        seconds = len(self._samples) / adding.RATE
        heights = pitch.track(self._samples, adding.RATE)
        low, high = _range(heights)
        waves = pictures.with_margin(pictures.waveform(self._samples, columns, _ROWS), [], _MARGIN)
        labels = [f"{high:.0f} Hz", *[""] * (_ROWS - 4), f"{low:.0f} Hz"]
        tones = pictures.with_margin(pictures.curve(heights, columns, _ROWS - 2, low, high), labels, _MARGIN)
        picture = Text()
        for style, lines in (("cyan", waves), ("green", tones)):
            for label, line in lines:
                picture.append(label, "dim").append(f"{line}\n", style)
        return picture.append(f"{'':{_MARGIN}} {pictures.time_axis(seconds, columns)}", "dim")


def _range(heights: np.ndarray) -> tuple[float, float]:
    """Return the pitch (Hz) at the lower and upper edge of the picture, in tens: an octave or more."""
    known = heights[~np.isnan(heights)]
    if not known.size:
        return 60.0, 500.0
    low, high = np.percentile(known, [2, 98])
    middle = float(np.sqrt(low * high))
    return min(low, middle / 1.42) // 10 * 10, -(-max(high, middle * 1.42) // 10) * 10
