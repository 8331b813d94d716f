"""Encode mono float32 samples into the bytes of an audio stream, block by block, in constant memory.

An encoder has no thread, file or state outside itself: any number of them may run at once, each in one thread at a
time. Not in the main thread, where a Ctrl-C may arrive while libsndfile calls back into Python, and is lost there:
`Encoder` has a thread of its own for that.
"""

import io
import struct
from typing import Any

import numpy as np

from fishcli.audio.formats import SoundFormat
from fishcli.errors import FishError

WAV_HEADER = 44  # bytes
_MAX_WAV = 2**32 - 38  # bytes of samples, by the four bytes of the header's sizes
_PAGE = 50.0  # ms of Opus in a page, the least that libsndfile takes; it has 1000 by default
_SET_OGG_PAGE_LATENCY_MS = 0x1302  # libsndfile's command, which soundfile does not name
_SHORT_FLAC = 2 / 8  # the best level with blocks of 1152 samples; libsndfile's default has 4096
_LONG_FLAC_FROM = 40_000  # Hz: there 4096 samples are 100 ms at most
_RESAMPLER = 1_000  # samples of the lower rate that the resampler holds back at most


class StreamEncoder:
    """Encodes blocks of samples at `rate` Hz into bytes, each of which can be sent at once.

        encoder = StreamEncoder(SoundFormat("mp3"), 44_100)
        for block in blocks:
            send(encoder.encode(block))
        send(encoder.finish())

    The stream of a WAV begins with a header without a length. Samples are resampled if the format has another rate,
    and clipped to -1..1 except for the subtype FLOAT. With `live` less sound is held back, about 0.1 s; it costs a
    few percent of FLAC's size, and 4 kbit/s of Opus.
    """

    def __init__(self, format: SoundFormat, rate: int, *, live: bool = True) -> None:
        import soxr

        self.format = format
        self.rate = format.rate_for(rate)  # Hz of the stream
        self.media_type = format.kind.media_type
        self._resampling = _RESAMPLER / min(rate, self.rate) if self.rate != rate else 0.0
        self._resampler = soxr.ResampleStream(rate, self.rate, 1, dtype="float32", quality="HQ")
        self._head = wav_header(self.rate, self._subtype) if format.name == "wav" else b""
        self._begun = False
        self._sink = _Sink()
        self._sound = self._open(live)

    @property
    def _subtype(self) -> str:
        return self.format.subtype or self.format.kind.subtypes[0]

    @property
    def latency(self) -> float:
        """The most seconds of sound that a live stream holds back, resampling included; not known for Vorbis."""
        block = 4_096 if self.rate >= _LONG_FLAC_FROM else 1_152
        samples = {"flac": block, "mp3": 4 * 1_152, "opus": 0.09 * self.rate}  # MP3: four frames
        return self._resampling + samples.get(self.format.name, 0) / self.rate

    def encode(self, samples: np.ndarray) -> bytes:
        """Return the bytes that are ready after `samples` (n,) float32, which may be none; at first also the header.

        Raises FishError if a sample is not a finite number.
        """
        if not np.isfinite(samples).all():
            raise FishError("The sound has samples that are not numbers; the model or its device is faulty.")
        if len(samples):
            self._write(self._resampler.resample_chunk(np.ascontiguousarray(samples, np.float32)))
        return self._ready()

    def finish(self) -> bytes:
        """End the stream and return its last bytes."""
        self._write(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        self.close()
        odd = self._head and self._sink.end % 2  # chunks of a WAV have an even length
        return self._ready() + (b"\0" if odd else b"")

    def close(self) -> None:
        """Free the encoder, also in the middle of a stream. Nothing can be encoded after it."""
        self._sound.close()

    def rewrites(self) -> list[tuple[int, bytes]]:
        """Return what a complete file has in place of bytes of the stream: (position, bytes) of headers with lengths.

        There are none before `finish`, and none for a WAV that is too long for its header.
        """
        if not self._head:
            return self._sink.rewrites
        size = self._sink.end
        return [(0, wav_header(self.rate, self._subtype, size))] if size <= _MAX_WAV else []

    def whole(self, stream: bytes) -> bytes:
        """Return all bytes of a finished stream as a complete file has them, with the length in the header."""
        data = bytearray(stream)
        for position, header in self.rewrites():
            data[position : position + len(header)] = header
        return bytes(data)

    def _open(self, live: bool) -> Any:
        import soundfile

        raw = self.format.name in ("wav", "pcm")  # the header of a WAV is ours
        sound = soundfile.SoundFile(
            self._sink,
            "w",
            self.rate,
            1,
            subtype=self._subtype,
            endian="LITTLE" if raw else None,
            format="RAW" if raw else self.format.kind.container,
            compression_level=self._compression_level(live),
            bitrate_mode="CONSTANT" if self.format.name == "mp3" else None,  # players can tell the length of a stream
        )
        if live and self.format.name == "opus":
            _set_page_latency(sound)
        return sound

    def _compression_level(self, live: bool) -> float | None:
        """Return libsndfile's 0..1, which stands for the bitrate of MP3 and Opus; None is its default."""
        bitrate = self.format.bitrate
        if self.format.name == "mp3":
            return (320 - (bitrate or 128)) / 288  # from 32 kHz up; 128 is 56 below
        if self.format.name == "opus" and bitrate:
            return (256 - bitrate) / 250
        short = self.format.name == "flac" and live and self.rate < _LONG_FLAC_FROM
        return _SHORT_FLAC if short else None

    def _write(self, samples: np.ndarray) -> None:
        """Encode at most a second at a time: libsndfile 1.2.2 crashes on a minute of Vorbis."""
        if self._subtype != "FLOAT":
            samples = np.clip(samples, -1, 1)
        for start in range(0, len(samples), self.rate):
            self._sound.write(samples[start : start + self.rate])

    def _ready(self) -> bytes:
        head = b"" if self._begun else self._head
        self._begun = True
        return head + self._sink.take()


class _Sink:
    """A file object for libsndfile that keeps what is appended until it is taken, and what is rewritten for the end."""

    def __init__(self) -> None:
        self.end = 0  # bytes
        self.rewrites: list[tuple[int, bytes]] = []
        self._position = 0
        self._ready: list[bytes] = []

    def write(self, data: bytes) -> int:
        if self._position < self.end:
            self.rewrites.append((self._position, data))
        else:
            self._ready.append(data)
        self._position += len(data)
        self.end = max(self.end, self._position)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.end}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        ready, self._ready = b"".join(self._ready), []
        return ready


def _set_page_latency(sound: Any) -> None:
    from soundfile import _ffi, _snd

    value = _ffi.new("double[1]", [_PAGE])
    _snd.sf_command(sound._file, _SET_OGG_PAGE_LATENCY_MS, value, _ffi.sizeof(value))


def wav_header(rate: int, subtype: str, size: int | None = None) -> bytes:
    """Return a header (44 bytes) for mono audio of `size` bytes.

    For an unknown size it has the sizes that Fish Speech's server sends.
    """
    tag, width = {"PCM_16": (1, 2), "PCM_24": (1, 3), "FLOAT": (3, 4)}[subtype]
    form = struct.pack("<HHIIHH", tag, 1, rate, rate * width, width, 8 * width)
    data_size = 4_294_967_040 if size is None else size
    riff_size = 4_294_967_076 if size is None else 36 + size + size % 2
    return struct.pack("<4sI4s4sI16s4sI", b"RIFF", riff_size, b"WAVE", b"fmt ", len(form), form, b"data", data_size)
