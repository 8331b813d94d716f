"""The loudness of a sound by EBU R128 (ITU-R BS.1770-4), measured block by block, and the gain to a target."""

from __future__ import annotations

import math

import numpy as np

from fishcli.errors import FishError
from fishcli.request import Samples

LOUDEST, QUIETEST = -5.0, -50.0  # LUFS of a target; audiobooks have -23 to -18
PEAK = -1.0  # dBTP that no gain exceeds
_HOP = 0.1  # seconds; a block that is measured has four
_ABSOLUTE, _RELATIVE = -70.0, -10.0  # LUFS and LU, below which a block does not count
_OVERSAMPLING = 4
_SHELF = (3.99984385397, 0.7071752369554193, 1681.9744509555319, "high_shelf_DeMan")
_HIGH_PASS = (0.0, 0.5003270373253953, 38.13547087613982, "high_pass_DeMan")


class Meter:
    """Measures the loudness and the true peak of mono sound at `rate` Hz, in memory of 80 bytes a second.

    Raises FishError if pyloudnorm, which has the filters, is not installed.
    """

    def __init__(self, rate: int) -> None:
        try:
            from pyloudnorm.iirfilter import IIRfilter
        except ImportError:
            message = "Loudness needs further packages; run `pip install 'fishcli[books]'`."
            raise FishError(message) from None
        import soxr

        self._hop = round(rate * _HOP)
        made = [IIRfilter(gain, q, centre, rate, kind) for gain, q, centre, kind in (_SHELF, _HIGH_PASS)]
        self._filters = [(each.b, each.a) for each in made]
        self._states = [np.zeros(2), np.zeros(2)]
        self._oversample = soxr.ResampleStream(rate, _OVERSAMPLING * rate, 1, dtype="float32", quality="HQ")
        self._powers: list[np.ndarray] = []  # mean squares of hops
        self._left = np.zeros(0)
        self._peak = 0.0

    def add(self, samples: Samples) -> None:
        """Measure the next samples (n,) float32."""
        from scipy.signal import lfilter

        if not len(samples):  # lfilter would return a state that it never set
            return
        self._look(self._oversample.resample_chunk(np.ascontiguousarray(samples, np.float32)))
        filtered = samples.astype(np.float64)
        for index, (b, a) in enumerate(self._filters):
            filtered, self._states[index] = lfilter(b, a, filtered, zi=self._states[index])
        filtered = np.concatenate([self._left, filtered])
        whole = len(filtered) // self._hop * self._hop
        self._powers.append(np.square(filtered[:whole].reshape(-1, self._hop)).mean(axis=1))
        self._left = filtered[whole:]

    def _look(self, samples: Samples) -> None:
        self._peak = max(self._peak, float(np.abs(samples).max(initial=0)))

    @property
    def loudness(self) -> float:
        """The integrated loudness in LUFS; minus infinity for silence and for less than 0.4 s of sound."""
        hops = np.concatenate(self._powers) if self._powers else np.zeros(0)
        if len(hops) < 4:
            return -math.inf
        blocks = np.convolve(hops, np.full(4, 0.25), "valid")
        loud = blocks[blocks >= _power(_ABSOLUTE)]
        if not len(loud):
            return -math.inf
        loud = loud[loud > loud.mean() * 10 ** (_RELATIVE / 10)]
        return -0.691 + 10 * math.log10(loud.mean())

    def gain(self, target: float) -> float:
        """Return the gain in dB to a target in LUFS, at most to a true peak of -1 dBTP. Silence gets none.

        Call it last: it ends the sound.
        """
        self._look(self._oversample.resample_chunk(np.zeros(0, np.float32), last=True))
        if self.loudness == -math.inf or not self._peak:
            return 0.0
        return min(target - self.loudness, PEAK - 20 * math.log10(self._peak))


def _power(loudness: float) -> float:
    return float(10 ** ((loudness + 0.691) / 10))
