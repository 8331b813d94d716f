"""The pitch of a voice over time, by the autocorrelation of short windows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fishcli.request import Samples

HOP = 0.01  # seconds between two values
LOWEST, HIGHEST = 60.0, 500.0  # Hz; speech of men, women and children
_RATE = 8_000  # Hz, to which a recording is resampled
_WINDOW = 0.05  # seconds: three periods of the lowest pitch
_VOICED = 0.55  # of the autocorrelation's peak; noise lies below 0.4
_OCTAVE = 0.9  # of the highest peak, above which the first one counts: the double period has a peak as high
_FLOOR = 30.0  # dB below the loudest windows, where what is left of a voice has no pitch worth showing
_BLOCK = 1000  # windows at a time


class _Grid(NamedTuple):
    window: int  # samples
    first: int  # of the lags, in samples
    last: int
    size: int  # of the Fourier transform


_GRID = _Grid(int(_RATE * _WINDOW), int(_RATE / HIGHEST), int(_RATE / LOWEST) + 1, 1024)


def track(samples: Samples, rate: int) -> npt.NDArray[np.float32]:
    """Return the pitch (n,) in Hz of samples (N,), one value each `HOP` seconds; NaN where there is no voice."""
    import soxr

    sound = soxr.resample(samples, rate, _RATE).astype(np.float32)
    hop = int(_RATE * HOP)
    sound = np.pad(sound, (_GRID.window // 2, _GRID.window))
    count = max(1, len(samples) * _RATE // rate // hop)
    starts = np.arange(count) * hop
    windows = np.lib.stride_tricks.sliding_window_view(sound, _GRID.window)
    blocks = [_of_windows(windows[starts[at : at + _BLOCK]]) for at in range(0, count, _BLOCK)]
    pitch, power = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    quiet = power < np.percentile(power, 95) * 10 ** (-_FLOOR / 10)
    return np.where(quiet, np.nan, pitch).astype(np.float32)


def _of_windows(windows: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Return the pitch (n,) in Hz and the power (n,) of windows (n, window)."""
    centred = windows - windows.mean(axis=1, keepdims=True)
    power = np.mean(centred**2, axis=1)
    spectrum = np.fft.rfft(centred, _GRID.size)
    products = np.fft.irfft(np.abs(spectrum) ** 2, _GRID.size)[:, : _GRID.last + 2]
    # Of the parts that overlap: without this, long periods would score less.
    energy = np.concatenate([np.zeros((len(centred), 1)), np.cumsum(centred.astype(np.float64) ** 2, axis=1)], axis=1)
    lags = np.arange(_GRID.last + 2)
    ahead, behind = energy[:, _GRID.window - lags], energy[:, -1:] - energy[:, lags]
    score = products / np.sqrt(np.maximum(ahead * behind, 1e-20))
    return _peaks(score), power


def _peaks(score: np.ndarray) -> np.ndarray:
    """Return the pitch (n,) in Hz of autocorrelations (n, lags); NaN without a clear peak."""
    inner = score[:, _GRID.first : _GRID.last + 1]
    is_peak = (inner >= score[:, _GRID.first - 1 : _GRID.last]) & (inner > score[:, _GRID.first + 1 : _GRID.last + 2])
    height = np.where(is_peak, inner, -1.0)
    highest = height.max(axis=1)
    lag = np.argmax(height >= np.maximum(_OCTAVE * highest, _VOICED)[:, None], axis=1) + _GRID.first
    rows = np.arange(len(score))
    left, middle, right = score[rows, lag - 1], score[rows, lag], score[rows, lag + 1]
    bend = left - 2 * middle + right
    exact = lag + np.where(bend < 0, (left - right) / (2 * np.where(bend < 0, bend, -1.0)), 0.0)  # of a parabola
    return np.where(highest >= _VOICED, _RATE / exact, np.nan)
