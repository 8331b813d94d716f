"""The condition of a recording, on sounds whose faults are known: a voice made of harmonics, and what is done to it."""

from __future__ import annotations

import numpy as np
import pytest
import sounds
from conftest import TINY

from fishcli import audio
from fishcli.audio import condition, pitch

RATE = 22_050
REAL = audio.read(TINY / "reference.wav", RATE)


def voice(hertz: float, seconds: float, seed: int = 0, glide: float = 0.15) -> np.ndarray:
    """Syllables of a fifth of a second with harmonics that fall off, their pitch gliding around `hertz`, and a pause
    every second: (n,) at `RATE`."""
    draw, time = np.random.default_rng(seed), np.arange(int(seconds * RATE)) / RATE
    height = hertz * (1 + glide * np.sin(2 * np.pi * 0.4 * time + draw.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(height) / RATE
    tone = sum(np.sin(k * phase + draw.uniform(0, 6)) / k**1.3 for k in range(1, int(4000 / hertz)))
    syllables = np.abs(np.sin(np.pi * 5 * time)) * draw.uniform(0.4, 1, int(seconds * 5) + 1)[(time * 5).astype(int)]
    sound = tone * syllables * (time % 1 < 0.8)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def noise(like: np.ndarray, below: float) -> np.ndarray:
    """White noise (n,) that lies `below` dB below a sound."""
    white = np.random.default_rng(1).standard_normal(len(like)).astype(np.float32)
    return white * float(np.sqrt(np.mean(like**2))) * 10 ** (-below / 20)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE), np.float32)


def clipped(sound: np.ndarray, gain: float) -> np.ndarray:
    return np.clip(sound / np.abs(sound).max() * gain, -1, 1)


def as_file(sound: np.ndarray, rate: int, format: str, peak: float) -> np.ndarray:
    """A sound that went through a file of another rate and format, at another level."""
    import soxr

    resampled = clipped(soxr.resample(sound, RATE, rate), 2.5) * peak
    return audio.read(sounds.encoded(resampled, rate, format), RATE)


def in_turn(*speakers: np.ndarray) -> np.ndarray:
    return np.concatenate(
        [part for parts in zip(*[np.split(each, 4) for each in speakers], strict=True) for part in parts]
    )


MAN, WOMAN = voice(110, 8), voice(215, 8)

# A sound, and the words that its complaints have, in order.
CASES: dict[str, tuple[np.ndarray, list[str]]] = {
    "a man": (MAN, []),
    "a woman": (WOMAN, []),
    "a real recording": (REAL, []),
    "a lively voice": (voice(180, 8, glide=0.35), []),
    "a child": (voice(320, 8), []),
    "short": (MAN[: 2 * RATE], ["lasts 1.9 s; 5 to 15 s are best"]),
    "long": (voice(110, 17), ["lasts 16.9 s; 5 to 15 s are best, more takes time"]),
    "short, and the rest silence": (np.concatenate([MAN[: 2 * RATE], silence(9)]), ["lasts 1.9 s"]),
    "clipped": (clipped(REAL, 1.7), ["is clipped"]),
    "clipped hard": (clipped(REAL, 6), ["is clipped"]),
    "clipped, then made quieter": (clipped(REAL, 1.7) * 0.3, ["is clipped"]),
    "clipped at another rate": (as_file(REAL, 16_000, "WAV", 1.0), ["is clipped"]),
    "clipped, then MP3": (as_file(REAL, 24_000, "MP3", 0.5), ["is clipped"]),
    "loud, but not clipped": (REAL / np.abs(REAL).max(), []),
    "noise 10 dB below": (REAL + noise(REAL, 10), ["is noisy: the background lies only 11 dB below the speech"]),
    "noise 40 dB below": (REAL + noise(REAL, 40), []),
    "quiet": (REAL * 0.1, ["is quiet (-42 dBFS)"]),
    "a long pause": (np.concatenate([MAN, silence(4), MAN[: 2 * RATE]]), ["has a pause of 4.2 s; cut it out"]),
    "two speakers": (in_turn(MAN, WOMAN), ["lasts 15.9 s", "may have two speakers, at 1"]),
    "two halves": (np.concatenate([MAN[: 4 * RATE], WOMAN[: 4 * RATE]]), ["may have two speakers"]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_with_a_recording(name):
    sound, expected = CASES[name]
    said = condition.complaints(condition.measure(sound, RATE))
    assert len(said) == len(expected), said
    assert all(words in each for words, each in zip(expected, said, strict=True)), said


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_figures_do_not_depend_on_the_rate(rate):
    here, there = (condition.measure(audio.read(TINY / "reference.wav", each), each) for each in (RATE, rate))
    assert there.seconds == pytest.approx(here.seconds, abs=0.05)
    assert there.level == pytest.approx(here.level, abs=1)
    assert there.pitch == pytest.approx(here.pitch, rel=0.02)


@pytest.mark.parametrize("below", [100, 50, 30], ids=lambda below: f"noise {below} dB below")
def test_silence_is_cut_off_at_both_ends_and_half_a_second_of_it_appended(below):
    sound = np.concatenate([silence(2), MAN, silence(2)])
    sound = sound + noise(sound, below)
    made = condition.prepared(sound, RATE)
    spoken = len(np.trim_zeros(MAN)) / RATE
    assert len(made) / RATE == pytest.approx(spoken + condition.PAUSE, abs=0.5)
    assert not made[-RATE // 2 :].any()
    assert np.abs(made).max() == np.abs(sound).max()
    again = condition.prepared(made, RATE)
    assert len(again) == pytest.approx(len(made), abs=RATE * 0.15)


def test_no_sample_of_the_speech_is_lost():
    start, end = condition.bounds(np.concatenate([silence(1), REAL, silence(1)]), RATE)
    loud = np.flatnonzero(np.abs(REAL) > 0.02) + RATE
    assert start < loud[0]
    assert loud[-1] < end


@pytest.mark.parametrize("sound", [np.ones(1, np.float32), silence(1) + 1e-6, noise(MAN, 0), np.eye(1, RATE)[0]])
def test_any_sound_has_a_condition(sound):
    sound = sound.astype(np.float32)
    assert condition.prepared(sound, RATE).size
    assert isinstance(condition.complaints(condition.measure(sound, RATE)), list)


# Pitch


@pytest.mark.parametrize("hertz", [65, 90, 120, 180, 250, 350, 480])
@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_the_pitch_of_a_tone(hertz, rate):
    time = np.arange(rate) / rate
    tone = sum(np.sin(2 * np.pi * k * hertz * time) / k for k in range(1, int(3900 / hertz)))
    heights = pitch.track((tone * 0.1).astype(np.float32), rate)
    assert len(heights) == 100
    assert np.nanmedian(heights) == pytest.approx(hertz, rel=0.01)
    assert np.mean(np.abs(heights[5:-5] / hertz - 1) < 0.02) > 0.98


def test_noise_and_silence_have_no_pitch():
    assert np.isnan(pitch.track(silence(1), RATE)).all()
    assert np.mean(~np.isnan(pitch.track(noise(MAN, 0), RATE))) < 0.05


def test_the_pitch_follows_a_glide():
    time = np.arange(2 * RATE) / RATE
    height = 100 * 2 ** (time / 2)
    tone = np.sin(2 * np.pi * np.cumsum(height) / RATE).astype(np.float32)
    heights = pitch.track(tone, RATE)[10:-10]
    assert np.abs(heights / height[:: RATE // 100][10 : 10 + len(heights)] - 1).max() < 0.03
