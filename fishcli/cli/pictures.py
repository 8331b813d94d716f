"""Pictures of sound for a terminal, in braille characters: two dots to the right and four down in each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fishcli.request import Samples

_EMPTY = 0x2800
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])

Dots = npt.NDArray[np.bool_]  # (4 * rows, 2 * columns)


def waveform(samples: Samples, columns: int, rows: int) -> list[str]:
    """Return the waveform of samples (N,) as lines: from the lowest to the highest sample of each moment."""
    dots = _canvas(columns, rows)
    height, width = dots.shape
    edges = np.linspace(0, len(samples), width + 1).astype(int)
    scale = max(1e-6, float(np.abs(samples).max()))
    middle = (height - 1) / 2
    for at, (start, end) in enumerate(zip(edges, np.maximum(edges[1:], edges[:-1] + 1), strict=False)):
        piece = samples[start:end] if start < len(samples) else np.zeros(1, np.float32)
        top, bottom = (round(middle * (1 - float(each) / scale)) for each in (piece.max(), piece.min()))
        dots[top : bottom + 1, at] = True
    return _lines(dots)


def curve(values: npt.NDArray[np.floating], columns: int, rows: int, lowest: float, highest: float) -> list[str]:
    """Return values (n,) on a logarithmic scale as lines; NaN, and what is lower or higher, leaves a gap."""
    dots = _canvas(columns, rows)
    height, width = dots.shape
    known = np.flatnonzero((values >= lowest) & (values <= highest))
    share = np.log(values[known] / lowest) / np.log(highest / lowest)
    across = np.minimum(known * width // len(values), width - 1)
    dots[np.rint((height - 1) * (1 - share)).astype(int), across] = True
    return _lines(dots)


def with_margin(lines: Sequence[str], labels: Sequence[str], width: int) -> list[tuple[str, str]]:
    """Return each line with its label, right-aligned in `width` columns."""
    named = [*labels, *[""] * (len(lines) - len(labels))]
    return [(f"{label:>{width}} ", line) for label, line in zip(named, lines, strict=True)]


def time_axis(seconds: float, columns: int) -> str:
    """Return the axis below a picture: 0 s at the left, the length at the right."""
    end = f"{seconds:.1f} s"
    return f"0 s{end:>{columns - 3}}"


def _canvas(columns: int, rows: int) -> Dots:
    return np.zeros((4 * rows, 2 * columns), np.bool_)


def _lines(dots: Dots) -> list[str]:
    cells = dots.reshape(dots.shape[0] // 4, 4, dots.shape[1] // 2, 2)
    codes = np.einsum("rycx,yx->rc", cells, _DOTS) + _EMPTY
    return ["".join(map(chr, row)) for row in codes.tolist()]
