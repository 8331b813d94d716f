"""Sound as bytes, as it is made: every format, its bitrates, its delay, and many streams at once."""

import contextlib
import gc
import io
import os
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from fishcli import audio
from fishcli.audio import SoundFormat, StreamEncoder, requested
from fishcli.audio.formats import FORMATS
from fishcli.engine import load
from fishcli.errors import FishError, SettingError
from fishcli.request import Request, SamplingParams

RATE = 44_100


def noise(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)


def tone(seconds: float, rate: int = RATE, hertz: float = 440) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def stream(
    format: SoundFormat, samples: np.ndarray, rate: int = RATE, *, size: int = 2_048, live: bool = True
) -> bytes:
    """Encode `samples` in blocks of `size`."""
    encoder = StreamEncoder(format, rate, live=live)
    pieces = [encoder.encode(samples[start : start + size]) for start in range(0, len(samples), size)]
    return b"".join([*pieces, encoder.finish()])


def decodable(data: bytes) -> np.ndarray:
    """Return the samples of the beginning of a stream, as far as libsndfile decodes it."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            sound.seekable = lambda: False
            blocks = [np.zeros(0, np.float32)]
            while (block := sound.read(1_024, "float32")).size:
                blocks.append(block)
            return np.concatenate(blocks)
    except soundfile.SoundFileError:
        return np.zeros(0, np.float32)


@pytest.fixture(scope="module")
def speech() -> tuple[np.ndarray, int]:
    """Six seconds of the built-in voice, and their rate."""
    text = "Thank you for coming to see us today. The weather was kind, and the train arrived on time."
    request = Request(text, sampling=SamplingParams(seed=1))
    with contextlib.closing(load()) as engine:
        return np.concatenate([chunk.samples for chunk in engine.speak(request)]), engine.sample_rate


# Formats


@pytest.mark.parametrize(
    ("asked", "rate", "bitrate"),
    [
        (dict(), 44_100, None),
        (dict(format="pcm", sample_rate=8_000), 8_000, None),
        (dict(format="wav", sample_rate=22_050), 22_050, None),  # the codec's own
        (dict(format="flac", sample_rate=24_000), 24_000, None),
        (dict(format="mp3"), 44_100, 128),
        (dict(format="mp3", sample_rate=32_000, mp3_bitrate=192), 32_000, 192),
        (dict(format="opus"), 48_000, 32),
        (dict(format="opus", opus_bitrate=24_000), 48_000, 24),
        (dict(format="opus", opus_bitrate=64), 48_000, 64),
        (dict(format="opus", opus_bitrate=-1_000), 48_000, None),
    ],
)
def test_a_request_has_the_defaults_of_the_api(asked, rate, bitrate):
    format = requested(codec_rate=22_050, **asked)
    assert (format.sample_rate, format.bitrate) == (rate, bitrate)


@pytest.mark.parametrize(
    ("asked", "field", "sentence"),
    [
        (dict(format="aac"), "format", "no format aac; use wav, pcm, flac, mp3 or opus"),
        (dict(format="ogg"), "format", "no format ogg"),
        (
            dict(sample_rate=22_050),
            "sample_rate",
            "made at 22050 Hz; use 8000, 16000, 24000, 32000 or 44100",
        ),
        (dict(sample_rate=0), "sample_rate", "at 0 Hz"),
        (dict(format="mp3", sample_rate=24_000), "sample_rate", "use 32000 or 44100"),
        (dict(format="opus", sample_rate=44_100), "sample_rate", "use 48000"),
        (dict(mp3_bitrate=100), "mp3_bitrate", "bitrate of 100; use 64, 128 or 192 kbit/s"),
        (dict(format="mp3", mp3_bitrate=0), "mp3_bitrate", "bitrate of 0"),
        (dict(format="opus", opus_bitrate=128), "opus_bitrate", "use 24, 32, 48 or 64 kbit/s"),
        (dict(format="opus", opus_bitrate=0), "opus_bitrate", "bitrate of 0"),
        (dict(format="mp3", subtype="FLOAT"), "subtype", "mp3 does not support the subtype FLOAT"),
        (dict(format="wav", subtype="loud"), "subtype", "it has PCM_16, PCM_24, FLOAT"),
    ],
)
def test_a_value_that_the_api_does_not_have_is_named(asked, field, sentence):
    with pytest.raises(SettingError, match=sentence) as caught:
        requested(codec_rate=44_100, **asked)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("values", "field"),
    [
        (("aac",), "format"),
        (("mp3", 9_600), "sample_rate"),
        (("wav", -1), "sample_rate"),
        (("wav", None, 64), "wav_bitrate"),
        (("ogg", None, None, "PCM_16"), "subtype"),
    ],
)
def test_a_format_checks_itself(values, field):
    with pytest.raises(SettingError) as caught:
        SoundFormat(*values)
    assert caught.value.field == field


def test_a_bitrate_of_zero_or_a_subtype_in_small_letters():
    assert SoundFormat("wav", subtype="float") == SoundFormat("wav", subtype="FLOAT")
    with pytest.raises(SettingError):
        SoundFormat("mp3", bitrate=0)


# Streams


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rate", [22_050, 44_100])
def test_every_format_holds_what_was_encoded(name, rate):
    format = requested(name, codec_rate=rate) if name != "ogg" else SoundFormat(name)
    encoder = StreamEncoder(format, rate)
    data = encoder.encode(tone(2, rate)) + encoder.finish()
    if name == "pcm":
        samples = np.frombuffer(data, "<i2") / 2**15
    else:
        samples = audio.read(encoder.whole(data), encoder.rate)
        assert encoder.rate == soundfile.info(io.BytesIO(data)).samplerate
    expected = soxr.resample(tone(2, rate), rate, encoder.rate)
    assert len(samples) == pytest.approx(2 * encoder.rate, abs=1)
    middle = slice(2_000, -2_000)
    assert np.corrcoef(samples[middle], expected[: len(samples)][middle])[0, 1] > 0.998


@pytest.mark.parametrize("format", [SoundFormat("wav"), SoundFormat("wav", subtype="PCM_24"), SoundFormat("flac")])
def test_the_whole_stream_is_a_file_with_its_length(format):
    for count in (1, 999):
        encoder = StreamEncoder(format, RATE)
        streamed = encoder.encode(noise(1)[:count]) + encoder.finish()
        data = encoder.whole(streamed)
        assert len(data) == len(streamed)
        assert soundfile.info(io.BytesIO(data)).frames == count
        if format.name == "wav":
            (riff,), (size,) = struct.unpack("<I", data[4:8]), struct.unpack("<I", data[40:44])
            assert (riff + 8, size) == (len(data), count * (3 if format.subtype == "PCM_24" else 2))


def test_a_wav_starts_with_a_header_without_a_length():
    encoder = StreamEncoder(SoundFormat("wav", 24_000, subtype="FLOAT"), 24_000)
    header = encoder.encode(np.zeros(0, np.float32))
    form = struct.pack("<IHHIIHH", 16, 3, 1, 24_000, 96_000, 4, 32)
    assert header == b"RIFF" + struct.pack("<I", 4_294_967_076) + b"WAVEfmt " + form + b"data" + struct.pack(
        "<I", 4_294_967_040
    )
    samples = 3 * noise(1, 24_000)  # not clipped
    assert encoder.encode(samples) + encoder.finish() == samples.astype("<f4").tobytes()


def test_pcm_is_the_samples_alone():
    samples = noise(1)
    assert stream(SoundFormat("pcm", subtype="FLOAT"), samples) == samples.astype("<f4").tobytes()
    assert stream(SoundFormat("pcm"), samples) == stream(SoundFormat("wav"), samples)[44:]
    assert len(stream(SoundFormat("pcm", subtype="PCM_24"), samples)) == 3 * len(samples)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=6), st.sampled_from(["wav", "pcm", "flac", "mp3"]))
def test_the_blocks_do_not_matter(sizes, name):
    samples = noise(0.5)[: sum(sizes)]
    encoder = StreamEncoder(SoundFormat(name, 32_000), RATE)
    pieces = [encoder.encode(block) for block in np.split(samples, np.cumsum(sizes)[:-1])]
    assert b"".join([*pieces, encoder.finish()]) == stream(SoundFormat(name, 32_000), samples, size=20_000)


def test_samples_are_clipped_before_the_cast():
    loud = np.array([0, 1, 1.5, 40_000, -1, -1.5, -40_000], np.float32)
    values = np.frombuffer(stream(SoundFormat("pcm"), loud), "<i2")
    assert values.tolist() == [0, 32_767, 32_767, 32_767, -32_768, -32_768, -32_768]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_never_reaches_the_encoder(value):
    samples = noise(0.1)
    samples[100] = value
    with pytest.raises(FishError, match="not numbers"):
        StreamEncoder(SoundFormat("wav", subtype="FLOAT"), RATE).encode(samples)


@pytest.mark.parametrize("rate", [32_000, 44_100])
@pytest.mark.parametrize("bitrate", [64, 128, 192])
def test_bitrates_of_mp3(rate, bitrate):
    data = stream(requested("mp3", rate, mp3_bitrate=bitrate, codec_rate=RATE), tone(10))
    assert 8 * len(data) / 10 == pytest.approx(1_000 * bitrate, rel=0.02)


@pytest.mark.parametrize("bitrate", [24, 32, 48, 64])
def test_bitrates_of_opus(speech, bitrate):
    samples, rate = speech
    format = requested("opus", opus_bitrate=bitrate, codec_rate=rate)
    kept, live = (8 * len(stream(format, samples, rate, live=live)) * rate / len(samples) for live in (False, True))
    assert kept == pytest.approx(1_000 * bitrate, rel=0.1)
    assert live - kept < 4_500  # the headers of 17 pages each second


def test_short_blocks_of_flac_cost_little(speech):
    samples, rate = speech
    kept, live = (len(stream(SoundFormat("flac"), samples, rate, live=live)) for live in (False, True))
    assert live < 1.05 * kept


@pytest.mark.parametrize(
    ("format", "first", "behind"),  # ms
    [
        (SoundFormat("wav"), 10, 0),
        (SoundFormat("wav", 24_000), 40, 40),
        (SoundFormat("wav", 8_000), 90, 90),
        (SoundFormat("flac"), 100, 100),
        (SoundFormat("flac", 32_000), 60, 60),
        (SoundFormat("flac", 24_000), 90, 90),
        (SoundFormat("mp3", bitrate=64), 60, 90),
        (SoundFormat("mp3", bitrate=128), 60, 70),
        (SoundFormat("mp3", 32_000, 192), 80, 70),
        (SoundFormat("opus"), 100, 120),
        (SoundFormat("opus", bitrate=24), 100, 120),
    ],
    ids=str,
)
def test_what_an_encoder_holds_back(format, first, behind):
    """Bytes so far can be decoded after `first` ms of sound, and up to `behind` ms before its end."""
    encoder, data, heard, held = StreamEncoder(format, RATE), b"", None, 0.0
    for step in range(1, 101):
        data += encoder.encode(noise(0.01))
        if seconds := len(decodable(data)) / encoder.rate:
            heard = heard or 10 * step
            held = max(held, 10 * step - 1_000 * seconds)
    assert heard <= first
    assert held <= behind + 0.1


OFFERED = [
    *(requested(name, rate, codec_rate=RATE) for name in ("wav", "flac") for rate in FORMATS[name].offered),
    *(requested("mp3", rate, codec_rate=RATE, mp3_bitrate=bits) for rate in (32_000, 44_100) for bits in (64, 192)),
    requested("opus", codec_rate=RATE),
]


@pytest.mark.parametrize("rate", [22_050, 44_100])
@pytest.mark.parametrize("format", OFFERED, ids=str)
def test_the_latency_is_an_upper_bound(speech, format, rate):
    """Of speech that ends in silence too, when an MP3 fills the frames before."""
    spoken = soxr.resample(speech[0], speech[1], rate)[: rate // 2]
    samples = np.concatenate([spoken, np.zeros(rate // 2, np.float32)])
    encoder, data, step = StreamEncoder(format, rate), b"", rate // 50
    for start in range(0, len(samples), step):
        data += encoder.encode(samples[start : start + step])
        came = min(start + step, len(samples)) / rate
        if came > encoder.latency + 0.05:  # libsndfile takes an MP3 for broken before its second frame
            assert came - len(decodable(data)) / encoder.rate <= encoder.latency


# Many


def test_many_streams_at_once_are_those_of_one():
    """Two hundred threads; of an Ogg the samples count, for its streams have random numbers."""
    formats = [SoundFormat(name, 48_000 if name == "opus" else 32_000) for name in FORMATS]
    many, samples = (formats * 40)[:200], noise(0.3)
    together = threading.Barrier(len(many), timeout=60)

    def content(format: SoundFormat) -> bytes:
        data = stream(format, samples)
        return decodable(data).tobytes() if format.kind.container == "OGG" else data

    def run(format: SoundFormat) -> bytes:
        together.wait()
        return content(format)

    alone = {format: content(format) for format in formats}
    with ThreadPoolExecutor(len(many)) as pool:
        assert all(data == alone[format] for format, data in zip(many, pool.map(run, many), strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("name", FORMATS)
def test_a_dropped_encoder_leaves_nothing(name):
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4_096

    def drop(count: int) -> None:
        for _ in range(count):
            StreamEncoder(SoundFormat(name), RATE).encode(noise(0.05))

    gc.collect()
    drop(50)
    files, threads, before = len(os.listdir("/proc/self/fd")), threading.active_count(), resident()
    gc.disable()  # reference counts alone
    drop(100)
    gc.enable()
    assert len(os.listdir("/proc/self/fd")) == files
    assert threading.active_count() == threads
    assert resident() - before < 10_000_000


def test_an_encoder_can_be_closed_in_the_middle():
    encoder = StreamEncoder(SoundFormat("flac"), RATE)
    encoder.encode(noise(0.2))
    encoder.close()
    encoder.close()
