"""Audio files: every format read and written, and hostile files."""

import io
import json
import os
import signal
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from sounds import encoded

from fishcli import audio
from fishcli.audio import Encoder, output_format
from fishcli.errors import FishError, InputError, SettingError


def tone(seconds: float, rate: int, hertz: float = 440) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the correlation of two sounds over the length of the shorter one, without the edges."""
    length = min(len(a), len(b))
    middle = slice(length // 10, length - length // 10)
    return float(np.corrcoef(a[middle], b[middle])[0, 1])


# Reading


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
@pytest.mark.parametrize(
    ("source_rate", "format", "subtype"),
    [
        (44_100, "WAV", "PCM_16"),
        (96_000, "WAV", "PCM_24"),
        (16_000, "WAV", "PCM_U8"),
        (22_050, "WAV", "FLOAT"),
        (32_000, "WAV", "DOUBLE"),
        (44_100, "WAVEX", "PCM_32"),
        (44_100, "RF64", "PCM_16"),
        (48_000, "FLAC", "PCM_16"),
        (96_000, "FLAC", "PCM_24"),
        (8_000, "OGG", "VORBIS"),
        (48_000, "OGG", "OPUS"),
        (8_000, "MP3", "MPEG_LAYER_III"),
        (44_100, "MP3", "MPEG_LAYER_III"),
        (11_025, "AIFF", "PCM_16"),
    ],
)
def test_every_format_is_read_at_any_rate(source_rate, format, subtype, rate):
    samples = audio.read(encoded(tone(1.5, source_rate), source_rate, format, subtype), rate)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(1.5 * rate, abs=4)
    assert correlation(samples, tone(1.5, rate)) > 0.995


def test_a_stereo_8_khz_mp3_and_a_48_khz_flac(tmp_path):
    left, right = tone(2, 8_000, 300), tone(2, 8_000, 500)
    (tmp_path / "a.mp3").write_bytes(encoded(np.stack([left, right], 1), 8_000, "MP3"))
    (tmp_path / "b.flac").write_bytes(encoded(tone(2, 48_000), 48_000, "FLAC"))
    mixed = (tone(2, 44_100, 300) + tone(2, 44_100, 500)) / 2
    assert correlation(audio.read(tmp_path / "a.mp3", 44_100), mixed) > 0.995
    assert correlation(audio.read(tmp_path / "b.flac", 44_100), tone(2, 44_100)) > 0.999


def test_samples_of_the_same_rate_are_exact():
    samples = tone(4, 44_100) * 3  # floats may exceed 1
    assert np.array_equal(audio.read(encoded(samples, 44_100, subtype="FLOAT"), 44_100), samples)


def test_stereo_is_averaged():
    both = np.stack([tone(1, 16_000), -0.5 * tone(1, 16_000)], 1)
    assert np.allclose(audio.read(encoded(both, 16_000, subtype="FLOAT"), 16_000), both.mean(1), atol=1e-7)


def test_block_wise_resampling_joins_without_a_seam():
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 4 * 44_100).astype(np.float32)
    whole = soxr.resample(samples, 44_100, 22_050, quality="HQ")
    assert np.allclose(audio.read(encoded(samples, 44_100, subtype="FLOAT"), 22_050), whole, atol=1e-6)


def test_a_path_bytes_and_a_stream_give_the_same(tmp_path):
    data = encoded(tone(1, 22_050), 22_050)
    (tmp_path / "speech.wav").write_bytes(data)
    samples = audio.read(tmp_path / "speech.wav", 22_050)
    assert np.array_equal(audio.read(data, 22_050), samples)
    assert np.array_equal(audio.read(io.BytesIO(data), 22_050), samples)


@pytest.mark.parametrize("name", ["speech.raw", "speech.mp3", "speech", "-.txt"])
def test_the_content_decides_and_not_the_suffix(tmp_path, name):
    (tmp_path / name).write_bytes(encoded(tone(1, 22_050), 22_050))
    assert len(audio.read(tmp_path / name, 22_050)) == 22_050


def test_a_flac_without_a_length_is_read():
    samples = audio.read(flac_claiming(encoded(tone(2, 22_050), 22_050, "FLAC"), length=0), 22_050)
    assert len(samples) == 2 * 22_050


def test_the_limit_is_exact():
    data = encoded(tone(1, 8_000), 8_000)
    assert len(audio.read(data, 8_000, max_seconds=1)) == 8_000
    with pytest.raises(InputError, match=r"the audio is longer than 0\.999 s"):
        audio.read(data, 8_000, max_seconds=0.999)


SECOND = encoded(tone(1, 8_000), 8_000)
NOT_FINITE = tone(1, 8_000)
NOT_FINITE[4_000] = np.nan
INFINITE = np.where(NOT_FINITE == NOT_FINITE, NOT_FINITE, np.inf)
REFUSED = {
    "nothing": (b"", "is empty"),
    "text": (b"Hello, world! This is no sound.", "is not WAV, FLAC"),
    "a header alone": (SECOND[:44], "contains no audio"),
    "half a header": (SECOND[:30], "cannot be decoded"),
    "an MP3 of nothing": (b"ID3" + bytes(200), "cannot be decoded"),
    "a broken FLAC": (encoded(tone(1, 8_000), 8_000, "FLAC")[:60] + bytes(2000), "cannot be decoded"),
    "an Ogg of noise": (b"OggS" + bytes(300), "cannot be decoded"),
    "7,999 Hz": (encoded(tone(1, 7_999), 7_999), "sample rate of 7999 Hz; resample"),
    "96,001 Hz": (encoded(tone(1, 96_001), 96_001), "sample rate of 96001 Hz; resample"),
    "three channels": (encoded(np.zeros((100, 3)), 8_000), "has 3 channels"),
    "not a number": (encoded(NOT_FINITE, 8_000, subtype="FLOAT"), "NaN or infinite"),
    "an infinite one": (encoded(INFINITE, 8_000, subtype="FLOAT"), "NaN or infinite"),
    "301 s": (encoded(np.zeros(8_000 * 301), 8_000, subtype="PCM_U8"), "longer than 300 s; cut"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_unusable_file_is_one_sentence_with_the_name(tmp_path, kind):
    data, sentence = REFUSED[kind]
    (tmp_path / "paimon.wav").write_bytes(data)
    with pytest.raises(InputError, match=sentence) as named:
        audio.read(tmp_path / "paimon.wav", 44_100)
    with pytest.raises(InputError, match=sentence) as nameless:
        audio.read(data, 44_100)
    assert str(named.value).replace(str(tmp_path / "paimon.wav"), "the audio") == str(nameless.value)
    assert "\n" not in str(nameless.value)


def test_other_than_a_regular_file_is_rejected_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for name, reason in [("missing.wav", "No such file"), ("", "Is a directory"), ("pipe.wav", "pipe or a device")]:
        with pytest.raises(InputError, match=reason):
            audio.read(tmp_path / name, 44_100)


def test_an_endless_stream_is_not_read_for_ever():
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            assert 0 < size < 2**29
            return encoded(tone(0.1, 8_000), 8_000) + bytes(size - 1_644)

    with pytest.raises(InputError, match="larger than 1 MiB"):
        audio.read(Endless(), 44_100, max_bytes=2**20)


# Bombs


def flac_claiming(data: bytes, **claims: int | None) -> bytes:
    """A FLAC file with another rate, channels or length (in samples) in its STREAMINFO; None leaves one."""
    facts = int.from_bytes(data[18:26], "big")
    fields = {"rate": (44, 20, 0), "channels": (41, 3, 1), "length": (0, 36, 0)}  # shift, bits, counted from
    for name, value in claims.items():
        shift, bits, first = fields[name]
        if value is not None:
            facts = facts & ~((2**bits - 1) << shift) | (value - first) << shift
    return data[:18] + facts.to_bytes(8, "big") + data[26:]


def wav_claiming(rate: int, channels: int, width: int, size: int, tag: int = 1, data: bytes = bytes(1000)) -> bytes:
    frame = channels * width // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * frame % 2**32, frame % 2**16, width)
    return b"RIFF" + struct.pack("<I", size) + b"WAVEfmt \x10\0\0\0" + form + b"data" + struct.pack("<I", size) + data


def aiff_claiming(rate: bytes, channels: int, frames: int) -> bytes:
    common = struct.pack(">hIh", channels, frames, 16) + rate
    chunks = b"AIFFCOMM" + struct.pack(">I", 18) + common + b"SSND" + struct.pack(">III", 1008, 0, 0) + bytes(1000)
    return b"FORM" + struct.pack(">I", len(chunks)) + chunks


def make_bombs(folder: Path) -> None:
    """Forty files, each of a few kB or MB on disk, that claim or unpack to far more."""
    silence = {channels: np.zeros((400 * 8_000, channels), np.float32) for channels in (1, 2, 8)}
    flac = {channels: encoded(samples, 8_000, "FLAC") for channels, samples in silence.items()}
    fast = encoded(np.zeros((301 * 96_000, 2), np.float32), 96_000, "FLAC")
    bombs = [
        *(flac_claiming(flac[8], rate=rate) for rate in (655_350, 96_000, 48_000, 1)),
        *(flac_claiming(flac[2], length=length) for length in (0, 2**36 - 1, None)),
        *(flac_claiming(flac[2], rate=9_000, length=length) for length in (0, 2**36 - 1, None)),
        *(flac_claiming(flac[1], channels=channels) for channels in (3, 8)),
        *(flac_claiming(fast, length=length) for length in (0, None)),
    ]
    for rate, channels in [(16_000, 1), (16_000, 2), (24_000, 1), (44_100, 2), (48_000, 1), (48_000, 2)]:
        options = dict(bitrate_mode="CONSTANT", compression_level=0.9)
        frames = encoded(np.zeros((5 * rate, channels), np.float32), rate, "MP3", **options)
        bombs += [frames * 100] if rate < 48_000 else [frames * 1000]
    bombs += [encoded(silence[channels], 8_000, "OGG", "VORBIS") for channels in (1, 2)]
    bombs += [encoded(silence[1], 8_000, "OGG", "OPUS"), flac_claiming(flac[2], rate=96_001, length=0)]
    bombs += [wav_claiming(rate, 1, 16, 2**32 - 1) for rate in (0, 1, 655_350, 2**31 - 1, 2**32 - 1)]
    bombs += [wav_claiming(44_100, channels, 16, 2**32 - 1) for channels in (0, 3, 1024, 65_535)]
    bombs += [wav_claiming(8_000, 1, width, 2**31, tag) for width, tag in ((0, 1), (64, 1), (4, 2), (1, 0x31))]
    bombs += [wav_claiming(8_000, 1, 8, 2**27, data=bytes(2**27)), encoded(silence[1], 8_000, "RF64", "PCM_U8")]
    bombs += [aiff_claiming(rate, 1, 2**31 - 1) for rate in (b"\x7f\xff" * 5, bytes(10))]
    for number, data in enumerate(bombs):
        (folder / f"{number}.bomb").write_bytes(data)
    with (folder / f"{len(bombs)}.bomb").open("wb") as sparse:  # 1 TB of silence that takes no room
        sparse.write(wav_claiming(8_000, 1, 8, 2**32 - 1))
        sparse.truncate(2**40)


READ_BOMBS = """
import json, pathlib, sys, time
from fishcli.audio import read
from fishcli.errors import InputError
results = {}
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    start = time.process_time()
    try:
        error = f"{read(path, 44_100).shape} samples"
    except InputError as caught:
        error = str(caught)
    status = pathlib.Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    results[path.name] = time.process_time() - start, peak, error
print(json.dumps(results))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory from /proc")
@pytest.mark.parametrize("limit", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_forty_bombs_are_refused_at_once(tmp_path, limit):
    """Each an error under 300 MB and in under 1 s of the processor's time; a busy machine may take ten times that."""
    make_bombs(tmp_path)
    command = [sys.executable, "-c", READ_BOMBS, tmp_path]
    results = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert len(results) >= 40
    for name, (seconds, megabytes, error) in results.items():
        assert name in error, error
        assert seconds < limit, (error, seconds)
        assert megabytes < 300, (error, megabytes)


# Writing


FORMATS = {"wav": "PCM_16", "flac": "PCM_16", "mp3": "MPEG_LAYER_III", "ogg": "VORBIS", "opus": "OPUS"}


class Stream(io.RawIOBase):
    """A stream that cannot seek, like a pipe."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


def in_blocks(out: Encoder, samples: np.ndarray, size: int) -> None:
    for start in range(0, len(samples), size):
        out.write(samples[start : start + size])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("rate", [22_050, 44_100])
def test_every_format_holds_what_was_written(tmp_path, format, rate):
    path = tmp_path / f"out.{format}"
    with Encoder(path, rate) as out:
        in_blocks(out, tone(3, rate), 1_024)
        assert out.seconds == pytest.approx(3)
    with soundfile.SoundFile(path) as sound:
        assert sound.subtype == FORMATS[format]
        assert sound.samplerate == (48_000 if format == "opus" else rate)
        assert sound.frames == pytest.approx(3 * sound.samplerate, abs=1)
    assert correlation(audio.read(path, rate), tone(3, rate)) > 0.999


@pytest.mark.parametrize("format", FORMATS)
def test_a_stream_holds_the_same_sound_as_a_file(tmp_path, format):
    stream, path = Stream(), tmp_path / f"out.{format}"
    for target in (stream, path):
        with Encoder(target, 22_050, format=format) as out:
            in_blocks(out, tone(3, 22_050), 5_000)
    streamed, written = audio.read(stream.data, 22_050), audio.read(path, 22_050)
    if format == "mp3":  # only a file's header can tell where the encoder's padding lies
        assert 0 < len(streamed) - len(written) < 4_000
        assert max(correlation(streamed[lag:40_000], written) for lag in range(4_000)) > 0.999
    else:
        assert np.array_equal(streamed, written)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [1, 777, 150_000])
def test_the_size_of_the_blocks_does_not_matter(tmp_path, format, size):
    """Nor does it crash: a minute of Vorbis at once is more than libsndfile can take."""
    samples = tone(0.2 if size == 1 else 4, 22_050)
    for name, step in (("whole", len(samples)), ("blocks", size)):
        with Encoder(tmp_path / f"{name}.{format}", 22_050) as out:
            in_blocks(out, samples, step)
    whole, blocks = (audio.read(tmp_path / f"{name}.{format}", 22_050) for name in ("whole", "blocks"))
    assert np.allclose(whole, blocks, atol=0.03 if format == "ogg" else 1e-3)  # Vorbis chooses by what it has seen


def test_a_minute_of_vorbis_at_once(tmp_path):
    with Encoder(tmp_path / "out.ogg", 44_100) as out:
        out.write(tone(61, 44_100))
    assert soundfile.info(str(tmp_path / "out.ogg")).frames == 61 * 44_100


@pytest.mark.parametrize(
    ("rate", "format", "out_rate"),
    [
        (9_600, "mp3", 16_000),
        (96_000, "mp3", 48_000),
        (24_000, "opus", 48_000),
        (96_000, "opus", 48_000),
        (9_600, "wav", 9_600),
    ],
)
def test_a_rate_that_the_format_cannot_take_is_resampled(tmp_path, rate, format, out_rate):
    with Encoder(tmp_path / f"out.{format}", rate) as out:
        in_blocks(out, tone(2, rate), 1_000)
    info = soundfile.info(str(tmp_path / f"out.{format}"))
    assert (info.samplerate, info.frames) == (out_rate, pytest.approx(2 * out_rate, abs=1))
    assert correlation(audio.read(tmp_path / f"out.{format}", 22_050), tone(2, 22_050)) > 0.999


@pytest.mark.parametrize(("subtype", "width"), [("PCM_16", 16), ("pcm_24", 24), ("FLOAT", 32)])
def test_subtypes_of_wav(tmp_path, subtype, width):
    samples = tone(1, 22_050)
    stream = Stream()
    for target in (stream, tmp_path / "out.wav"):
        with Encoder(target, 22_050, subtype=subtype) as out:
            out.write(samples)
    result = audio.read(tmp_path / "out.wav", 22_050)
    assert soundfile.info(str(tmp_path / "out.wav")).subtype == subtype.upper()
    assert np.abs(result - samples).max() <= (0 if subtype == "FLOAT" else 2.0 ** (1 - width))
    assert np.array_equal(audio.read(stream.data, 22_050), result)


def test_samples_out_of_range_are_clipped(tmp_path):
    loud = np.array([0, 1, 1.5, 40_000, -1, -1.5, -40_000], np.float32)
    for name, subtype in (("a.wav", "PCM_16"), ("b.wav", "PCM_24"), ("c.flac", "PCM_16"), ("d.wav", "FLOAT")):
        with Encoder(tmp_path / name, 22_050, subtype=subtype) as out:
            out.write(loud)
        result = audio.read(tmp_path / name, 22_050)
        assert np.allclose(result, loud if subtype == "FLOAT" else np.clip(loud, -1, 1), atol=1e-4)


def test_a_streamed_wav_has_the_known_header_and_arrives_block_by_block():
    stream = Stream()
    with Encoder(stream, 44_100) as out:
        riff, data = struct.pack("<I", 4_294_967_076), struct.pack("<I", 4_294_967_040)
        form = struct.pack("<IHHIIHH", 16, 1, 1, 44_100, 88_200, 2, 16)
        assert stream.data == b"RIFF" + riff + b"WAVEfmt " + form + b"data" + data
        for blocks in range(1, 4):
            out.write(tone(1, 44_100)[:2_048])
            assert len(stream.data) == 44 + blocks * 4_096
    assert len(stream.data) == 44 + 3 * 4_096


@pytest.mark.parametrize("format", ["mp3", "ogg", "opus", "flac"])
def test_a_compressed_stream_arrives_block_by_block(format):
    stream, lengths = Stream(), []
    with Encoder(stream, 44_100, format=format) as out:
        for _ in range(6):
            out.write(np.random.default_rng(0).uniform(-0.5, 0.5, 44_100).astype(np.float32))
            lengths.append(len(stream.data))
    assert lengths == sorted(set(lengths))


def test_a_streamed_mp3_has_a_constant_bit_rate():
    stream = Stream()
    with Encoder(stream, 44_100, format="mp3") as out:
        out.write(tone(10, 44_100))
    assert 8 * len(stream.data) / 10 == pytest.approx(128_000, rel=0.02)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("format", FORMATS)
def test_a_failure_leaves_the_old_file(tmp_path, format, error):
    path = tmp_path / f"out.{format}"
    path.write_bytes(b"before")
    with pytest.raises(error), Encoder(path, 22_050) as out:  # noqa: PT012
        out.write(tone(3, 22_050))
        raise error
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(path.name, b"before")]


def test_the_file_grows_while_it_is_written(tmp_path):
    with Encoder(tmp_path / "out.wav", 44_100) as out:
        out.write(tone(10, 44_100))
        (temporary,) = tmp_path.iterdir()
        assert temporary.stat().st_size > 800_000
    assert [file.name for file in tmp_path.iterdir()] == ["out.wav"]


@pytest.mark.parametrize("format", FORMATS)
def test_memory_does_not_grow_with_the_sound(tmp_path, format):
    block = tone(1, 22_050)
    with Encoder(tmp_path / f"out.{format}", 22_050) as out:
        out.write(block)
        tracemalloc.start()
        for _ in range(60):
            out.write(block)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert kept < 300_000


@pytest.mark.parametrize("format", ["wav", "flac", "mp3"])
def test_ctrl_c_while_encoding_is_never_lost(format, capfd):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    noise = np.random.default_rng(0).uniform(-1, 1, 44_100).astype(np.float32)
    try:
        for attempt in range(20):
            with pytest.raises(KeyboardInterrupt), Encoder(Stream(), 44_100, format=format) as out:  # noqa: PT012
                signal.setitimer(signal.ITIMER_REAL, 0.002 + attempt / 1_000)
                while True:
                    out.write(noise)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_one_sentence():
    with pytest.raises(FishError, match=r"/dev/full cannot be written \(No space left"):  # noqa: SIM117
        with Encoder(Path("/dev/full"), 22_050, format="wav") as out:
            out.write(tone(1, 22_050))


def test_a_folder_that_is_missing_or_the_target_itself(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    for target, reason in [("none/out.wav", "No such file"), ("folder.wav", "Is a directory")]:
        with pytest.raises(FishError, match=reason), Encoder(tmp_path / target, 22_050):
            pass


def test_a_closed_reader_is_a_broken_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError), open(writing, "wb", buffering=0) as stream, Encoder(stream, 22_050):
        pass


def test_a_named_pipe_gets_a_stream(tmp_path):
    os.mkfifo(tmp_path / "out.wav")
    reader = subprocess.Popen(["cat", tmp_path / "out.wav"], stdout=subprocess.PIPE)
    with Encoder(tmp_path / "out.wav", 22_050) as out:
        out.write(tone(1, 22_050))
    data, _ = reader.communicate()
    assert np.allclose(audio.read(data, 22_050), tone(1, 22_050), atol=1e-4)


@pytest.mark.parametrize("name", ["out.WAV", "out.flac", "a.b.mp3", "out.ogg", "out.opus"])
def test_the_suffix_names_the_format(name):
    assert output_format(Path(name)) == name.split(".")[-1].lower()


@pytest.mark.parametrize(
    ("name", "subtype", "sentence"),
    [
        ("out", None, r"out has no known audio format; use one of \.wav, \.flac, \.mp3, \.ogg, \.opus"),
        ("out.aac", None, "out.aac has no known audio format"),
        ("out.mp3", "FLOAT", "mp3 does not support the subtype FLOAT; it has MPEG_LAYER_III"),
        ("out.opus", "PCM_16", "opus does not support the subtype PCM_16; it has OPUS"),
        ("out.flac", "FLOAT", "flac does not support the subtype FLOAT; it has PCM_16, PCM_24"),
        ("out.wav", "loud", "wav does not support the subtype LOUD; it has PCM_16, PCM_24, FLOAT"),
    ],
)
def test_an_unknown_format_is_an_error_before_the_work(tmp_path, name, subtype, sentence):
    with pytest.raises(SettingError, match=sentence):
        output_format(Path(name), subtype)
    with pytest.raises(SettingError, match=sentence):
        Encoder(tmp_path / name, 22_050, subtype=subtype)
    assert list(tmp_path.iterdir()) == []
