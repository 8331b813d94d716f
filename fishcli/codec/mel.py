"""The log-mel spectrogram, the input of the codec's encoder."""

from functools import lru_cache
from math import log

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from fishcli.codec.settings import CodecSettings

# The Slaney mel scale (Auditory Toolbox, 1998): linear up to 1 kHz, logarithmic above.
_HZ_PER_MEL = 200 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _HZ_PER_MEL
_LOG_STEP = log(6.4) / 27


def padded(samples: Tensor, settings: CodecSettings) -> Tensor:
    """Return samples (N,) with n_fft - hop reflected samples around them, (M,).

    Recordings too short to reflect are padded with silence first.
    """
    margin = settings.n_fft - settings.hop_length
    left, right = margin // 2, (margin + 1) // 2
    shortest = max(right + 1, settings.hop_length)
    silence = max(0, shortest - len(samples))
    return F.pad(F.pad(samples, (0, silence))[None], (left, right), mode="reflect")[0]


def log_mel(samples: Tensor, settings: CodecSettings) -> Tensor:
    """Return the log-mel spectrogram (1 + (M - n_fft) // hop, n_mels) float32 of padded samples (M,) float32.

    Natural logarithm of the magnitude, not of the power.
    """
    window, filters = _tables(settings.n_fft, settings.n_mels, settings.sample_rate, samples.device)
    spectrum = torch.stft(
        samples, settings.n_fft, settings.hop_length, window=window, center=False, return_complex=True
    )
    power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    magnitude = power.add_(1e-6).sqrt_()
    return (filters @ magnitude).clamp(min=1e-5).log().T.contiguous()


@lru_cache(maxsize=8)
def _tables(n_fft: int, n_mels: int, sample_rate: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the periodic Hann window (n_fft,) and the mel filters (n_mels, n_fft // 2 + 1), in float32.

    Both are computed in float64: in a threaded run, torch's own float32 window was wrong by 8e-5.
    """
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    filters = mel_filters(n_fft, n_mels, sample_rate)
    return torch.from_numpy(window).float().to(device), torch.from_numpy(filters).float().to(device)


def mel_filters(n_fft: int, n_mels: int, sample_rate: int) -> npt.NDArray[np.float64]:
    """Return the mel filters (n_mels, n_fft // 2 + 1) over 0 Hz to half the sample rate.

    Triangles between neighbouring points of the Slaney mel scale, all of the same area (Slaney norm).
    """
    top = sample_rate // 2
    bins = np.linspace(0, top, n_fft // 2 + 1)  # Hz
    points = _to_hz(np.linspace(0, _to_mel(top), n_mels + 2))
    low, centre, high = points[:-2, None], points[1:-1, None], points[2:, None]
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    return np.clip(np.minimum(rising, falling), 0, None) * 2 / (high - low)


def _to_mel(hertz: float) -> float:
    if hertz < _BREAK_HZ:
        return hertz / _HZ_PER_MEL
    return _BREAK_MEL + log(hertz / _BREAK_HZ) / _LOG_STEP


def _to_hz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mels - _BREAK_MEL))
    return np.where(mels < _BREAK_MEL, mels * _HZ_PER_MEL, above)
