"""Recordings as people have them: of phones, cut off on the way, very quiet, in antiphase, without speech."""

import io
import itertools
import logging
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import sounds
import soxr
from conftest import TINY

from fishcli import audio
from fishcli.audio import ffmpeg
from fishcli.audio.truncation import is_cut_off
from fishcli.errors import InputError

RATE = 24_000
SPEECH = audio.read(TINY / "reference.wav", RATE)[: 4 * RATE]


def encoded(samples: np.ndarray, format: str = "WAV", subtype: str | None = None, rate: int = RATE, **options) -> bytes:
    return sounds.encoded(samples, rate, format, subtype, **options)


@pytest.fixture
def logged(caplog):
    """Return what reading a recording logs, as lines of `LEVEL message`."""
    caplog.set_level(logging.INFO, logger="fishcli")

    def read(data: bytes, name: str = "me.wav") -> list[str]:
        caplog.clear()
        audio.read(data, RATE, name=name)
        return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]

    return read


# Cut off

KINDS = {
    "WAV": encoded(SPEECH),
    "WAV of floats": encoded(SPEECH, subtype="FLOAT"),
    "WAV with a long comment": encoded(SPEECH).replace(b"data", b"LIST" + struct.pack("<I", 3) + b"abc\0data", 1),
    "AIFF": encoded(SPEECH, "AIFF"),
    "MP3": encoded(SPEECH, "MP3"),
    "MP3 of a constant rate": encoded(SPEECH, "MP3", bitrate_mode="CONSTANT", compression_level=0.6),
    "MP3 with a picture": b"ID3\x04\0\0" + bytes([0, 0, 8, 0]) + bytes(1024) + encoded(SPEECH, "MP3"),
    "Ogg Opus": encoded(SPEECH, "OGG", "OPUS"),
    "Ogg Vorbis": encoded(SPEECH, "OGG", "VORBIS"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_recording_is_read_without_a_word(logged, kind):
    assert logged(KINDS[kind]) == []


@pytest.mark.parametrize("rate", [8_000, 48_000])
@pytest.mark.parametrize(
    ("format", "subtype"),
    [
        *(("WAV", kind) for kind in ("PCM_U8", "PCM_24", "PCM_32", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM")),
        *(("WAVEX", kind) for kind in ("PCM_16", "FLOAT")),
        *(("AIFF", kind) for kind in ("PCM_S8", "PCM_24", "FLOAT", "ULAW")),
        ("WAV", "GSM610"),
        ("RF64", "PCM_16"),
        ("FLAC", "PCM_24"),
    ],
)
def test_no_kind_of_file_looks_cut_off(logged, format, subtype, rate):
    for channels in (1, 2) if subtype != "GSM610" else (1,):
        samples = soxr.resample(SPEECH, RATE, rate)[:, None].repeat(channels, 1)
        assert logged(encoded(samples, format, subtype, rate)) == []


@pytest.mark.parametrize("part", [0.4, 0.7, 0.9])
@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_that_was_cut_off_is_a_warning(kind, part):
    data = KINDS[kind]
    assert is_cut_off(io.BytesIO(data[: int(len(data) * part)]))
    assert not is_cut_off(io.BytesIO(data))


def test_the_warning_names_the_recording(logged):
    said = logged(KINDS["WAV"][:100_000], "cut.wav")
    assert said == ["WARNING cut.wav is cut off: its header promises more sound than the file holds."]


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000, 4_294_967_040])
def test_a_streamed_wav_promises_nothing(logged, size):
    data = KINDS["WAV"]
    place = data.index(b"data") + 4
    assert not is_cut_off(io.BytesIO(data[:place] + struct.pack("<I", size) + data[place + 4 :]))


def test_any_start_of_a_file_can_be_asked_about():
    for data in KINDS.values():
        for length in [*range(200), *range(200, 3_000, 37)]:
            assert is_cut_off(io.BytesIO(data[:length])) in (True, False)


# Levels, and two channels


def decibels(level: float) -> float:
    return 10 ** (level / 20)


NOISE = np.random.default_rng(0).normal(0, 1, 3 * RATE).astype(np.float32)
LEVELS = {
    "speech": (SPEECH, ""),
    "speech at -20 dB": (SPEECH * decibels(-20), ""),
    "speech in noise as loud as itself": (SPEECH[: len(NOISE)] + NOISE * np.std(SPEECH), ""),
    "a short word": (SPEECH[RATE // 2 : RATE], ""),
    "a few samples": (SPEECH[RATE : RATE + 100], ""),
    "one sample": (np.full(1, 0.5, np.float32), ""),
    "speech at -55 dB": (SPEECH * decibels(-55), r"me\.wav is very quiet \(-\d\d dBFS at its loudest\)"),
    "a noise floor": (NOISE * decibels(-80), r"me\.wav is very quiet"),
    "noise": (NOISE * decibels(-20), r"me\.wav is as steady as noise"),
    "a tone": (np.sin(np.arange(2 * RATE, dtype=np.float32)) / 2, r"me\.wav is as steady as noise"),
    "silence, which the commands refuse": (np.zeros(RATE, np.float32), ""),
    "the largest floats": (np.sign(NOISE) * np.float32(3e38), r"me\.wav is as steady as noise"),
}


@pytest.mark.parametrize("kind", LEVELS)
def test_what_can_hardly_be_speech_is_a_warning(logged, kind):
    samples, expected = LEVELS[kind]
    said = logged(encoded(samples, subtype="FLOAT"))
    assert len(said) == bool(expected)
    assert re.match(f"WARNING {expected}" if said else "$", said[0] if said else "")


@pytest.mark.parametrize(("left", "right", "kept"), [(1, -1, "left"), (-0.5, 0.52, "right"), (-1, 0.95, "left")])
def test_of_channels_that_cancel_each_other_one_is_read(logged, left, right, kept):
    both = np.stack([left * SPEECH, right * SPEECH], 1)
    assert logged(encoded(both, subtype="FLOAT")) == [
        f"INFO The two channels of me.wav cancel each other; only the {kept} one is used."
    ]
    samples = audio.read(encoded(both, subtype="FLOAT"), RATE)
    assert np.array_equal(samples, both[:, 0] if kept == "left" else both[:, 1])


@pytest.mark.parametrize("right", [1, 0.1, 0, -0.1, -0.5])
def test_other_channels_are_averaged(logged, right):
    both = np.stack([SPEECH, np.float32(right) * SPEECH], 1)
    assert logged(encoded(both, subtype="FLOAT")) == []
    assert np.allclose(audio.read(encoded(both, subtype="FLOAT"), RATE), both.mean(1), atol=1e-6)


def test_two_channels_of_the_largest_floats_are_refused():
    with pytest.raises(InputError, match="NaN or infinite"):
        audio.read(encoded(np.full((RATE, 2), 3e38, np.float32), subtype="FLOAT"), RATE)


# What libsndfile does not decode

FOREIGN = {
    "note.m4a": b"\0\0\0\x1cftypM4A \0\0\0\0",
    "video.mp4": b"\0\0\0\x1cftypisom\0\0\0\0",
    "voice.webm": b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81",
    "old.wma": bytes.fromhex("3026b2758e66cf11a6d900aa"),
    "raw.aac": b"\xff\xf1\x50\x80\x02\x1f\xfc\xde\x02\0\x4c\x61",
    "call.amr": b"#!AMR\n" + bytes(6),
    "mac.caf": b"caff\0\x01\0\0desc",
    "sun.au": b".snd\0\0\0\x20\0\0\0\0",
    "long.w64": bytes.fromhex("726966662e91cf11a5d628db"),
    "pack.wv": b"wvpk" + bytes(8),
}


@pytest.fixture
def no_programs(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))


@pytest.mark.parametrize("name", FOREIGN)
def test_without_ffmpeg_the_error_has_the_command_to_type(no_programs, tmp_path, name):
    path = tmp_path / f"my {name}"
    path.write_bytes(FOREIGN[name] + bytes(100))
    with pytest.raises(InputError, match=r"audio, which needs ffmpeg; install it, or") as caught:
        audio.read(path, RATE)
    assert str(caught.value).endswith(f"elsewhere: `ffmpeg -i '{path}' '{path.with_suffix('.wav')}'`.")


def test_an_m4a_that_is_named_wav_is_not_converted_onto_itself(no_programs, tmp_path):
    (tmp_path / "note.wav").write_bytes(FOREIGN["note.m4a"])
    with pytest.raises(InputError, match=r"note\.wav \S*note-converted\.wav`\.$"):
        audio.read(tmp_path / "note.wav", RATE)


def test_bytes_without_a_name_have_no_command(no_programs):
    with pytest.raises(InputError, match=r"the audio is MP4 or M4A audio, which needs ffmpeg; install it\.$"):
        audio.read(FOREIGN["note.m4a"], RATE)


@pytest.mark.parametrize(
    "data", [b"#EXTM3U\nhttp://x/", b"ffconcat version 1.0", b"<?xml version='1.0'?>", b"\x89PNG\r\n\x1a\n" + bytes(9)]
)
def test_a_playlist_or_picture_never_reaches_ffmpeg(stand_in, data):
    arguments = stand_in("exit 0")
    with pytest.raises(InputError, match="is not WAV, FLAC"):
        audio.read(data, RATE)
    assert not arguments.exists()


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Put a shell script first in PATH as ffmpeg: stand_in(script) -> the file that its arguments are written to."""

    def install(script: str) -> Path:
        arguments, program = tmp_path / "arguments", tmp_path / "bin" / "ffmpeg"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{arguments}"\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        return arguments

    return install


def streamed(data: bytes) -> bytes:
    """The WAV as a program writes it to a pipe."""
    place = data.index(b"data") + 4
    return data[:4] + b"\xff" * 4 + data[8:place] + b"\xff" * 4 + data[place + 4 :]


def test_ffmpeg_reads_a_copy_with_one_demuxer_and_bounds(stand_in, tmp_path, logged):
    (tmp_path / "sound.wav").write_bytes(streamed(encoded(SPEECH, subtype="FLOAT")))
    arguments = stand_in(f'cat "{tmp_path}/sound.wav"')
    (tmp_path / "-i concat:a|b%d.m4a").write_bytes(FOREIGN["note.m4a"])
    samples = audio.read(tmp_path / "-i concat:a|b%d.m4a", RATE, max_seconds=5)
    assert np.array_equal(samples, SPEECH)
    given = arguments.read_text().splitlines()
    options = dict(itertools.pairwise(given))
    assert options["-protocol_whitelist"] == "file,pipe"
    assert (options["-f"], options["-t"], options["-fs"]) == ("wav", "6", str(6 * 96_000 * 8))
    assert given[given.index("-f") + 1] == "mov"
    assert re.fullmatch(r"file:/.*/input", options["-i"])
    assert not Path(options["-i"][5:]).exists()


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("exit 1", "ffmpeg finds no sound that it can decode in me"),
        ("exit 0", "me contains no audio|me cannot be decoded"),
        ("echo nonsense", "me cannot be decoded"),
        ("kill -9 $$", "ffmpeg finds no sound"),
        ("exec sleep 60", "ffmpeg was not done with me after 0.5 s"),
    ],
)
def test_whatever_ffmpeg_does_is_one_sentence(stand_in, monkeypatch, script, sentence):
    monkeypatch.setattr(ffmpeg, "_TIMEOUT", 0.5)
    stand_in(script)
    with pytest.raises(InputError, match=sentence):
        audio.read(FOREIGN["note.m4a"], RATE, name="me")


def test_faults_that_ffmpeg_finds_are_a_warning(stand_in, tmp_path, logged):
    (tmp_path / "sound.wav").write_bytes(streamed(encoded(SPEECH)))
    stand_in(f'cat "{tmp_path}/sound.wav"; echo "partial file" >&2')
    assert logged(FOREIGN["note.m4a"], "cut.m4a") == ["WARNING ffmpeg found faults in cut.m4a, which may be cut off."]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("suffix", ["m4a", "mp4", "webm", "wma", "aac", "caf", "au", "w64", "wv", "mkv", "mov"])
def test_the_real_ffmpeg(tmp_path, suffix, logged):
    (tmp_path / "note.wav").write_bytes(KINDS["WAV"])
    made = tmp_path / f"note.{suffix}"
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "note.wav", made], check=True)
    samples = audio.read(made, RATE, max_bytes=made.stat().st_size)  # which bounds the file, not the sound in it
    assert len(samples) / RATE == pytest.approx(4, abs=0.15)
    with pytest.raises(InputError, match="longer than 3 s"):
        audio.read(made, RATE, max_seconds=3)
    with pytest.raises(InputError, match="is larger than"):
        audio.read(made, RATE, max_bytes=1000)


def test_the_limits_are_the_callers():
    data = KINDS["WAV"]
    assert len(audio.read(data, RATE, max_seconds=4, max_bytes=len(data))) == 4 * RATE
    for limits in (dict(max_seconds=3.9), dict(max_bytes=len(data) - 1)):
        with pytest.raises(InputError, match="cut it down to the part you need"):
            audio.read(io.BytesIO(data), RATE, **limits)
