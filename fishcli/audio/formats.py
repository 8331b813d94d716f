"""The audio formats that are written: what each can hold, and what a request of the HTTP API may ask for."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from fishcli.errors import SettingError


class Kind(NamedTuple):
    """A format of `FORMATS`."""

    container: str  # libsndfile's name
    media_type: str
    subtypes: tuple[str, ...]  # sample encodings, the default first
    rates: tuple[int, ...] = ()  # Hz that it can hold; empty: any
    offered: tuple[int, ...] = ()  # Hz that a request may ask for, beside the codec's own if it can hold any
    bitrates: tuple[int, ...] = ()  # kbit/s that a request may ask for


_RATES = (8_000, 16_000, 24_000, 32_000, 44_100)
# Lower rates of MP3 have 24 kbit/s, and frames too small for the tag that holds the length.
_MP3_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)

FORMATS = {
    "wav": Kind("WAV", "audio/wav", ("PCM_16", "PCM_24", "FLOAT"), offered=_RATES),
    "pcm": Kind("RAW", "audio/pcm", ("PCM_16", "PCM_24", "FLOAT"), offered=_RATES),
    "flac": Kind("FLAC", "audio/flac", ("PCM_16", "PCM_24"), offered=_RATES),
    "mp3": Kind("MP3", "audio/mpeg", ("MPEG_LAYER_III",), _MP3_RATES, (32_000, 44_100), (64, 128, 192)),
    "ogg": Kind("OGG", "audio/ogg; codecs=vorbis", ("VORBIS",)),
    "opus": Kind("OGG", "audio/ogg; codecs=opus", ("OPUS",), (48_000,), (48_000,), (24, 32, 48, 64)),
}
_OPUS_AUTO = -1000  # libopus's own choice, as the API spells it


@dataclass(frozen=True)
class SoundFormat:
    """A format of `FORMATS` with its settings.

    `sample_rate` is in Hz; None is the rate of the samples, or the next one that the format can hold. `bitrate` is in
    kbit/s: of MP3 constant, and exact from 32 kHz up; None is 128 for MP3 and libopus's choice for Opus. `subtype` is
    the sample encoding: PCM_16, PCM_24 or FLOAT; None is the format's default. Raises SettingError.
    """

    name: str = "wav"
    sample_rate: int | None = None
    bitrate: int | None = None
    subtype: str | None = None

    def __post_init__(self) -> None:
        if self.name not in FORMATS:
            raise SettingError(f"There is no format {self.name}; use {_list(FORMATS)}.", field="format")
        kind, subtype = self.kind, self.subtype.upper() if self.subtype else self.kind.subtypes[0]
        if subtype not in kind.subtypes:
            known = ", ".join(kind.subtypes)
            raise SettingError(f"{self.name} does not support the subtype {subtype}; it has {known}.", field="subtype")
        object.__setattr__(self, "subtype", subtype)
        if self.sample_rate is not None:
            _check_rate(self.name, self.sample_rate, kind.rates)
        if self.bitrate is not None and self.bitrate not in kind.bitrates:
            raise _no_bitrate(self.name, self.bitrate)

    @property
    def kind(self) -> Kind:
        """The format's entry in `FORMATS`."""
        return FORMATS[self.name]

    def rate_for(self, rate: int) -> int:
        """Return the sample rate in which samples of `rate` Hz are encoded."""
        rates = self.kind.rates or (rate,)
        return self.sample_rate or next((known for known in rates if known >= rate), rates[-1])


def requested(
    format: str = "wav",
    sample_rate: int | None = None,
    *,
    codec_rate: int,
    mp3_bitrate: int | None = None,
    opus_bitrate: int | None = None,
    subtype: str | None = None,
) -> SoundFormat:
    """Return the format that a request of the HTTP API asks for, in the API's own fields and values.

    None is the API's default: 44.1 kHz (Opus 48), 128 kbit/s of MP3 and 32 of Opus. `opus_bitrate` may be in kbit/s or
    bit/s, and -1000 is libopus's choice. Raises SettingError for a value that the API does not have.
    """
    if format not in FORMATS or not FORMATS[format].offered:
        served = _list(name for name, kind in FORMATS.items() if kind.offered)
        raise SettingError(f"There is no format {format}; use {served}.", field="format")
    kind = FORMATS[format]
    if sample_rate is None:
        sample_rate = 44_100 if 44_100 in kind.offered else kind.offered[0]
    _check_rate(format, sample_rate, kind.offered if kind.rates else tuple(dict.fromkeys((*kind.offered, codec_rate))))
    bitrates = {"mp3": _mp3_bitrate(mp3_bitrate), "opus": _opus_bitrate(opus_bitrate)}
    return SoundFormat(format, sample_rate, bitrates.get(format), subtype)


def _mp3_bitrate(asked: int | None) -> int:
    if asked is not None and asked not in FORMATS["mp3"].bitrates:
        raise _no_bitrate("mp3", asked)
    return asked or 128


def _opus_bitrate(asked: int | None) -> int | None:
    if asked == _OPUS_AUTO:
        return None
    known = {spelled: rate for rate in FORMATS["opus"].bitrates for spelled in (rate, 1_000 * rate)}
    if asked is not None and asked not in known:
        raise _no_bitrate("opus", asked)
    return known[asked or 32]


def _check_rate(name: str, rate: int, known: tuple[int, ...]) -> None:
    if rate <= 0 or (known and rate not in known):
        choice = f"; use {_list(known)}" if known else ""
        raise SettingError(f"{name} is not made at {rate} Hz{choice}.", field="sample_rate")


def _no_bitrate(name: str, bitrate: int) -> SettingError:
    known = FORMATS[name].bitrates
    choice = f"; use {_list(known)} kbit/s" if known else ""
    return SettingError(f"{name} is not made at a bitrate of {bitrate}{choice}.", field=f"{name}_bitrate")


def _list(values: Iterable[object]) -> str:
    """Return a list in words: a, b or c."""
    *most, last = map(str, values)
    return f"{', '.join(most)} or {last}" if most else last
