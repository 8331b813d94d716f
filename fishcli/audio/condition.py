"""The condition of a recording: what makes it a good or a bad sample of a voice, as far as it can be measured.

Length, level, clipping, silence, noise, and two voices of clearly different pitch. Not told: echo, music, voices of
similar pitch, and whether it is speech at all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fishcli.audio import pitch
from fishcli.request import Samples

WANTED = (5.0, 15.0)  # seconds
PAUSE = 0.5  # seconds of silence that a reference ends with: the voice then ends its sentences, too
_WINDOW = 0.02  # seconds, of which levels are measured
_SILENT = -55.0  # dBFS, below which everything is silence
_BELOW = 40.0  # dB below the loud windows, where silence begins, unless noise lies higher
_ABOVE_NOISE = 6.0  # dB
_MARGIN = 0.1  # seconds that are kept around the sound: breath, and the ends of consonants
_CLIPPED = 5e-4  # of the samples; speech that is not clipped is as loud as its peaks for 1e-4 of the time
_HEIGHTS, _BUMP = 50, 2.0  # steps up to the highest peak, and how many times as many samples as on those below
_NOISY = 20.0  # dB between speech and noise; a quiet room has 30 to 50
_QUIET, _FAINT = -35.0, 0.05  # dBFS of the speech
_LONG_PAUSE = 2.0  # seconds
_APART = 7.0  # semitones between two voices
_SHARE = 0.2  # of the voiced time that each of them has at least
_BETWEEN = 0.06  # of it that may lie between them
_STEADY = 0.15  # seconds of one stretch of pitch


class Condition(NamedTuple):
    """The measurements of a recording, without the silence at its ends."""

    seconds: float
    trimmed: float  # seconds of silence at both ends
    level: float  # dBFS (RMS) of the speech
    noise: float  # dB that the background lies below the speech
    clipped: float  # share of the samples that lie at the height where peaks are cut off
    pause: float  # seconds of the longest silence
    pitch: float | None  # Hz, the median
    voices: tuple[float, float] | None  # Hz of two voices, where two are heard


def measure(samples: Samples, rate: int) -> Condition:
    """Return the condition of a recording (N,) that is not silent."""
    start, end = bounds(samples, rate)
    sound = samples[start:end]
    levels, silence = _levels(sound, rate), _silence(sound, rate)
    spoken = levels[levels > silence]
    level = _mean(spoken) if spoken.size else float(levels.max())
    heights = pitch.track(sound, rate)
    known = heights[~np.isnan(heights)]
    return Condition(
        seconds=len(sound) / rate,
        trimmed=(len(samples) - len(sound)) / rate,
        level=level,
        noise=level - max(-96.0, float(np.percentile(levels, 5))),
        clipped=_clipped(sound),
        pause=_longest(levels <= silence) * _WINDOW,
        pitch=float(np.median(known)) if known.size else None,
        voices=_two_voices(heights),
    )


def complaints(condition: Condition) -> list[str]:
    """Return what is wrong with a recording, a clause each; [] if it is good."""
    said = []
    shortest, longest = WANTED
    if condition.seconds < shortest:
        said.append(f"lasts {condition.seconds:.1f} s; {shortest:.0f} to {longest:.0f} s are best")
    if condition.seconds > longest:
        said.append(f"lasts {condition.seconds:.1f} s; {shortest:.0f} to {longest:.0f} s are best, more takes time")
    if condition.clipped >= _CLIPPED:
        said.append("is clipped; record it again, with less gain")
    if condition.level < _QUIET:
        said.append(f"is quiet ({condition.level:.0f} dBFS); record it again, closer to the microphone")
    if condition.noise < _NOISY:
        said.append(f"is noisy: the background lies only {condition.noise:.0f} dB below the speech")
    if condition.pause > _LONG_PAUSE:
        said.append(f"has a pause of {condition.pause:.1f} s; cut it out")
    if condition.voices:
        low, high = condition.voices
        said.append(f"may have two speakers, at {low:.0f} and {high:.0f} Hz; use the words of one")
    return said


def prepared(samples: Samples, rate: int) -> Samples:
    """Return a recording (N,) as a reference wants it: no silence at its ends, then half a second of it."""
    start, end = bounds(samples, rate)
    return np.concatenate([samples[start:end], np.zeros(int(PAUSE * rate), np.float32)])


def bounds(samples: Samples, rate: int) -> tuple[int, int]:
    """Return where the sound of a recording (N,) starts and ends, a tenth of a second before and after it."""
    loud = np.flatnonzero(_levels(samples, rate) > _silence(samples, rate))
    if not loud.size:
        return 0, len(samples)
    window, margin = _size(rate), int(_MARGIN * rate)
    return max(0, loud[0] * window - margin), min(len(samples), (loud[-1] + 1) * window + margin)


def _size(rate: int) -> int:
    return max(1, int(_WINDOW * rate))


def _levels(samples: Samples, rate: int) -> np.ndarray:
    """Return the level (n,) of each window in dBFS."""
    window = min(_size(rate), len(samples))
    whole = np.pad(samples, (0, -len(samples) % window)).reshape(-1, window)
    powers = np.einsum("ij,ij->i", whole, whole, dtype=np.float64) / window
    return 10 * np.log10(powers + 1e-12)


def _silence(samples: Samples, rate: int) -> float:
    """Return the level (dBFS) up to which a window is silent: far below the speech, or just above the noise."""
    levels = _levels(samples, rate)
    loud, floor = np.percentile(levels, [95, 5])
    noise = floor + _ABOVE_NOISE if loud - floor > 3 * _ABOVE_NOISE else -np.inf
    return float(max(_SILENT, loud - _BELOW, noise)) if loud > _SILENT else float(loud - _BELOW)


def _mean(levels: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(10 ** (levels / 10))))


def _clipped(samples: Samples) -> float:
    """Return the share of the samples that lie at a height where many more do than just below it.

    Of speech ever fewer samples lie at ever greater heights. Where peaks were cut off they gather at one height, also
    once the sound was resampled or compressed with loss, whatever was done to its level.
    """
    heights = np.abs(samples)
    counts, _ = np.histogram(heights, _HEIGHTS, (0.0, float(heights.max())))
    upper = np.arange(_HEIGHTS // 2, _HEIGHTS)
    below = (counts[upper - 1] + counts[upper - 2] + counts[upper - 3]) / 3
    bumps = counts[upper] * (counts[upper] > _BUMP * below)
    return float(bumps.max()) / len(samples)


def _longest(silent: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], silent, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _two_voices(heights: np.ndarray) -> tuple[float, float] | None:
    """Return the pitch of two voices where all speech lies around two pitches far apart, and hardly any between."""
    tones = _steady(12 * np.log2(heights / 100))
    if not tones.size:
        return None
    tones = np.sort(tones)
    for cut in np.linspace(tones[0], tones[-1], 25)[1:-1]:
        low, high = tones[tones < cut], tones[tones >= cut]
        if min(len(low), len(high)) < _SHARE * len(tones):
            continue
        below, above = float(np.median(low)), float(np.median(high))
        middle = (below + above) / 2
        between = np.count_nonzero(np.abs(tones - middle) < (above - below) / 6) / len(tones)
        if above - below >= _APART and between <= _BETWEEN:
            return 100 * 2 ** (below / 12), 100 * 2 ** (above / 12)
    return None


def _steady(tones: np.ndarray) -> np.ndarray:
    """Return the values of the stretches of voice that are long enough: short ones are errors of an octave."""
    voiced = ~np.isnan(tones)
    breaks = np.abs(np.diff(tones, prepend=tones[:1])) > 2  # semitones from one value to the next
    edges = np.flatnonzero(voiced & (~np.roll(voiced, 1) | breaks))
    stretches = [each[~np.isnan(each)] for each in np.split(tones, edges)]
    return np.concatenate([each for each in stretches if len(each) * pitch.HOP >= _STEADY] or [np.zeros(0)])
