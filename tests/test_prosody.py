"""Speed and volume: the length, the pitch, the words, and the same samples however they are cut into blocks."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fishcli import Request, SamplingParams, load
from fishcli.audio.prosody import Prosody
from fishcli.bench.listening import sentences, transcribe, word_error_rate
from fishcli.errors import SettingError

RATE = 22_050


def changed(samples: np.ndarray, speed: float, volume: float = 0.0, rate: int = RATE, sizes=(1_000_000,)) -> np.ndarray:
    """Return `samples` at another speed, pushed in blocks of `sizes` in turn."""
    prosody = Prosody(rate, speed, volume)
    blocks, start = [], 0
    while start < len(samples):
        size = sizes[len(blocks) % len(sizes)]
        blocks.append(prosody.process(samples[start : start + size]))
        start += size
    return np.concatenate([*blocks, prosody.finish()])


def voice(seconds: float, hertz: float, rate: int = RATE) -> np.ndarray:
    """A synthetic voice: the harmonics of a gliding pitch under three formants, in syllables."""
    time = np.arange(round(seconds * rate)) / rate
    pitch = hertz * (1 + 0.05 * np.sin(2 * np.pi * 0.7 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    sound = np.zeros_like(time)
    for number in range(1, int(0.4 * rate / hertz)):
        height = number * hertz
        strength = sum(1 / (1 + ((height - formant) / 120) ** 2) for formant in (600, 1_200, 2_600))
        sound += strength * np.sin(number * phase)
    syllables = np.clip(1.5 * np.sin(2 * np.pi * 2 * time) ** 2, 0, 1)
    return (0.3 * sound * syllables / np.abs(sound).max()).astype(np.float32)


def pitch(samples: np.ndarray, rate: int = RATE, size: int = 1_024) -> np.ndarray:
    """The pitch in Hz every 256 samples by autocorrelation, NaN where it is not sure."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), 2 * size)[::256]
    spectra = np.fft.rfft(frames[:, :size], 2 * size).conj() * np.fft.rfft(frames, 2 * size)
    energies = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    energy = energies[:, size:-1] - energies[:, :size]
    lags = (np.fft.irfft(spectra)[:, :size] / np.sqrt(energy[:, :1] * energy + 1e-9))[:, rate // 500 : rate // 60]
    middle, highest = lags[:, 1:-1], lags.max(1, keepdims=True)
    peaks = (middle > lags[:, :-2]) & (middle >= lags[:, 2:]) & (middle > 0.95 * highest)
    period = rate // 500 + 1 + peaks.argmax(1)  # the first peak; its multiples are as high
    return np.where(peaks.any(1) & (highest[:, 0] > 0.7), rate / period, np.nan)


def pitch_ratio(before: np.ndarray, after: np.ndarray, speed: float) -> float:
    """Return the median over time of the pitch after over the pitch before."""
    old, new = pitch(before), pitch(after)
    places = np.minimum(np.round(np.arange(len(old)) / speed).astype(int), len(new) - 1)
    ratios = new[places] / old
    assert np.isfinite(ratios).sum() > 50
    return float(np.nanmedian(ratios))


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Six seconds of the built-in voice, which has the rate RATE."""
    text = "Thank you for coming to see us today. The weather was kind, and the train arrived on time."
    with contextlib.closing(load()) as engine:
        assert engine.sample_rate == RATE
        return np.concatenate([chunk.samples for chunk in engine.speak(Request(text, sampling=SamplingParams(seed=1)))])


@pytest.mark.parametrize("sizes", [(1_000_000,), (1, 5_000, 0)])
def test_speed_1_and_0_db_are_the_same_bits(sizes):
    samples = np.random.default_rng(0).normal(0, 2, 20_000).astype(np.float32)
    assert changed(samples, 1, 0, sizes=sizes).tobytes() == samples.tobytes()
    assert Prosody(RATE).latency == 0


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
@pytest.mark.parametrize("speed", [0.25, 0.5, 0.99, 1.01, 1.5, 2.6, 2.7, 4])
@pytest.mark.parametrize("count", [0, 1, 999, 22_050])
def test_the_length_is_exact(rate, speed, count):
    assert len(changed(voice(1, 120)[:count], speed, rate=rate, sizes=(700,))) == round(count / speed)


@pytest.mark.parametrize("speed", [0.25, 0.5, 0.75, 1.5, 2])
@pytest.mark.parametrize("hertz", [80, 120, 220, 350])
def test_the_pitch_of_a_voice_stays(hertz, speed):
    samples = voice(3, hertz)
    assert pitch_ratio(samples, changed(samples, speed), speed) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("speed", [0.75, 1.5])
def test_the_pitch_of_the_built_in_voice_stays(speech, speed):
    assert pitch_ratio(speech, changed(speech, speed), speed) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("speed", [0.5, 0.75, 1.5, 2])
def test_a_steady_tone_stays_one_tone(speed):
    """Segments join in phase: the power outside the tone is 30 dB below it."""
    tone = (0.5 * np.sin(2 * np.pi * 200 * np.arange(2 * RATE) / RATE)).astype(np.float32)
    middle = changed(tone, speed)[2_000:-2_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))) ** 2
    peak = int(spectrum.argmax())
    assert peak * RATE / len(middle) == pytest.approx(200, rel=0.01)
    near = spectrum[max(peak - 20, 0) : peak + 21].sum()
    assert spectrum.sum() - near < 1e-3 * near


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 4_000), min_size=1, max_size=8).filter(any),
    st.floats(0.25, 4),
    st.sampled_from([8_000, 22_050, 44_100]),
)
def test_the_blocks_do_not_matter(sizes, speed, rate):
    samples = voice(0.5, 150, rate)
    assert np.array_equal(changed(samples, speed, 3, rate, sizes), changed(samples, speed, 3, rate))


@pytest.mark.parametrize("speed", [0.25, 0.75, 1.5, 4])
def test_no_more_than_the_latency_is_held_back(speed):
    prosody, samples, ready = Prosody(RATE, speed), voice(2, 120), 0
    assert prosody.latency <= RATE * (0.041 if speed <= 2.5 else 0.061)
    for start in range(0, len(samples), 100):
        ready += len(prosody.process(samples[start : start + 100]))
        came = min(start + 100, len(samples))
        assert came - prosody.latency - 1 <= ready * speed <= came


def test_memory_does_not_grow_with_the_sound():
    prosody = Prosody(RATE, 0.5)
    for _ in range(50):
        prosody.process(voice(0.2, 120))
    assert len(prosody._stretch._input) <= 2 * prosody.latency + RATE * 0.2


@pytest.mark.parametrize("speed", [0.5, 2])
def test_silence_stays_silent_and_nothing_becomes_louder(speed, speech):
    assert not changed(np.zeros(RATE, np.float32), speed).any()
    between = np.concatenate([speech[:RATE], np.zeros(RATE, np.float32), speech[:RATE]])
    after = changed(between, speed)
    pause = slice(round((RATE + 2_000) / speed), round((2 * RATE - 2_000) / speed))
    assert not after[pause].any()
    assert np.abs(after).max() <= np.abs(between).max() * 1.01


@pytest.mark.parametrize("volume", [-20, -6, 0.5, 20])
def test_volume_is_in_decibels(volume):
    samples = voice(1, 120)
    for speed in (1, 1.5):
        louder = changed(samples, speed, volume)
        assert louder.dtype == np.float32
        assert np.allclose(louder, changed(samples, speed) * 10 ** (volume / 20), rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        (dict(speed=0.2), "speed"),
        (dict(speed=4.01), "speed"),
        (dict(speed=float("nan")), "speed"),
        (dict(volume=21), "volume"),
        (dict(volume=float("-inf")), "volume"),
        (dict(volume=float("nan")), "volume"),
    ],
)
def test_values_out_of_range_are_named(values, field):
    with pytest.raises(SettingError, match=f"{field} .* is outside") as caught:
        Prosody(RATE, **values)
    assert caught.value.field == field


@pytest.mark.slow
def test_words_are_understood_faster_and_slower():
    """Sentences of the card at 0.75 and 1.5 times the speed, beside the same sounds unchanged."""
    with contextlib.closing(load("built-in", dtype="float32", threads=1)) as engine:
        spoken = [
            (sentence, np.concatenate([chunk.samples for chunk in engine.speak(Request(sentence))]))
            for sentence in sentences()[:24]
        ]
    rates = {
        speed: word_error_rate([(text, transcribe(changed(sound, speed), RATE)) for text, sound in spoken])
        for speed in (0.75, 1, 1.5)
    }
    assert max(rates.values()) <= rates[1] + 0.12, rates
