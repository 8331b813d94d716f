"""Change the speed and the volume of speech, block by block. The pitch stays.

The method is WSOLA (Verhelst and Roelands 1993, "An overlap-add technique based on waveform similarity (WSOLA) for
high quality time-scale modification of speech"): the sound is cut into overlapping segments, which are laid closer
together or further apart, each from a place where its waveform continues the one before it.
"""

import math

import numpy as np

from fishcli.errors import SettingError
from fishcli.request import Samples

MIN_SPEED, MAX_SPEED = 0.25, 4.0
MAX_VOLUME = 20.0  # dB, louder or quieter
_HOP = 0.015  # seconds of sound that each segment adds; it overlaps the next one for as long
_SEARCH = 0.010  # seconds that a segment may start earlier or later, half the period of the lowest voice (50 Hz)
_NEAREST = 1e-3  # what the farthest segment must be more similar than the nearest: matters in silence
_FLOOR = 1e-10  # power (-100 dBFS) below which two segments are no longer compared


class Prosody:
    """Changes the speed (0.25 to 4 times) and the volume (-20 to 20 dB) of a stream of samples at `rate` Hz.

        prosody = Prosody(44_100, speed=1.25)
        for block in blocks:
            play(prosody.process(block))
        play(prosody.finish())

    The result depends on the samples alone, not on the blocks; at speed 1 and 0 dB it is the same samples. It is not
    clipped. Raises SettingError for values out of range.
    """

    def __init__(self, rate: int, speed: float = 1.0, volume: float = 0.0) -> None:
        if not MIN_SPEED <= speed <= MAX_SPEED:
            raise SettingError(f"speed {speed:g} is outside {MIN_SPEED:g} to {MAX_SPEED:g}.", field="speed")
        if not -MAX_VOLUME <= volume <= MAX_VOLUME:
            raise SettingError(f"volume {volume:g} is outside {-MAX_VOLUME:g} to {MAX_VOLUME:g} dB.", field="volume")
        self._gain = np.float32(10 ** (volume / 20))
        self._stretch = _Stretch(rate, speed) if speed != 1 else None

    @property
    def latency(self) -> int:
        """The most samples of input that are held back: 40 ms, up to 60 ms above speed 2.6, and none at speed 1."""
        return self._stretch.latency if self._stretch else 0

    def process(self, samples: Samples) -> Samples:
        """Return the samples that are ready after `samples` (n,) float32."""
        return self._louder(self._stretch.process(samples) if self._stretch else samples)

    def finish(self) -> Samples:
        """Return the last samples. All together are as many as came in, divided by the speed."""
        return self._louder(self._stretch.finish() if self._stretch else np.zeros(0, np.float32))

    def _louder(self, samples: Samples) -> Samples:
        return samples if self._gain == 1 else samples * self._gain


class _Stretch:
    """Adds segment k, found near k * hop * speed in the input, at k * hop in the output."""

    def __init__(self, rate: int, speed: float) -> None:
        self._speed = speed
        self._hop = round(rate * _HOP)
        self._search = round(rate * _SEARCH)
        self.latency = max(self._search + 2 * self._hop, math.ceil(self._hop * speed) + 1)  # no output beyond the end
        self._fade_in = np.sin(np.pi / 2 * (np.arange(self._hop) + 0.5) / self._hop).astype(np.float32) ** 2
        self._input = np.zeros(0, np.float32)
        self._start = 0  # of the buffer, in the input
        self._count = 0  # samples that came in
        self._segments = 0
        self._next = np.zeros(0, np.float32)  # (hop,): how the last segment goes on

    def process(self, samples: Samples) -> Samples:
        self._count += len(samples)
        self._input = np.concatenate([self._input, np.asarray(samples, np.float32)])
        blocks = []
        while self._place + self.latency <= self._count:
            blocks.append(self._add_segment())
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)

    def finish(self) -> Samples:
        end, done = round(self._count / self._speed), self._segments * self._hop
        segments = math.ceil((end - done) / self._hop)
        silence = self._search + round(self._speed * self._hop * (segments + 2)) + self.latency
        return self.process(np.zeros(silence, np.float32))[: end - done]

    @property
    def _place(self) -> int:
        """Where in the input the next segment would start at a constant speed."""
        return round(self._segments * self._hop * self._speed)

    def _add_segment(self) -> Samples:
        first = max(self._place - self._search, 0) - self._start  # of those that it may start at, in the buffer
        last = self._place + self._search - self._start
        if self._segments:
            best = first + self._most_similar(self._input[first : last + self._hop], self._place - self._start - first)
        else:
            best, self._next = 0, self._input[: self._hop]
        segment = self._input[best : best + 2 * self._hop]
        block: Samples = self._next + self._fade_in * (segment[: self._hop] - self._next)
        self._next = segment[self._hop :].copy()
        self._segments += 1
        self._drop(self._place - self._search)
        return block

    def _most_similar(self, region: Samples, nearest: int) -> int:
        """Return where in `region` (hop + places,) the samples correlate most with the way the last segment goes on."""
        size = 1 << (len(region) - 1).bit_length()
        wanted = np.fft.rfft(self._next.astype(np.float64), size)
        places = len(region) - self._hop + 1
        similarity = np.fft.irfft(np.fft.rfft(region.astype(np.float64), size) * wanted.conj(), size)[:places]
        energies = np.cumsum(np.concatenate([[0.0], np.square(region, dtype=np.float64)]))
        energy = np.maximum(energies[self._hop :] - energies[: -self._hop], 0) + _FLOOR * self._hop
        own = np.sqrt(np.square(self._next, dtype=np.float64).sum() + _FLOOR * self._hop)
        far = np.abs(np.arange(places) - nearest) / self._search
        return int(np.argmax(similarity / np.sqrt(energy) / own - _NEAREST * far))

    def _drop(self, until: int) -> None:
        """Forget the input before a place that no segment can start before."""
        count = min(max(until - self._start, 0), len(self._input))
        self._input = self._input[count:]
        self._start += count
