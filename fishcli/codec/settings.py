"""The dimensions of a Firefly codec, read from its `codec.json`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import prod
from typing import Any, TypeVar

from fishcli.errors import InputError

# Far above any real codec, and low enough that building a hostile one takes no days.
_LARGEST_NUMBER = 1 << 18
_LONGEST_LIST = 16
_DEEPEST_STAGE = 64

_Settings = TypeVar("_Settings")


@dataclass(frozen=True)
class EncoderSettings:
    """The ConvNeXt stages of the encoder."""

    depths: tuple[int, ...] = (3, 3, 9, 3)
    dims: tuple[int, ...] = (128, 256, 384, 512)
    kernel_size: int = 7

    def __post_init__(self) -> None:
        _require(len(self.depths) == len(self.dims), "encoder.depths", "must be as long as encoder.dims")
        _require(max(self.depths) <= _DEEPEST_STAGE, "encoder.depths", f"must not exceed {_DEEPEST_STAGE}")


@dataclass(frozen=True)
class QuantizerSettings:
    """Finite scalar quantization: `groups` codebooks, each a grid of `levels`."""

    groups: int = 8
    levels: tuple[int, ...] = (8, 5, 5, 5)
    downsample: tuple[int, ...] = (2, 2)

    def __post_init__(self) -> None:
        _require(min(self.levels) >= 2, "quantizer.levels", "must be 2 or more each")
        _require(prod(self.levels) <= 1 << 15, "quantizer.levels", "must give at most 32768 codes")


@dataclass(frozen=True)
class DecoderSettings:
    """The HiFi-GAN vocoder. `gain` scales its last convolution, so that its tanh still bounds the samples."""

    upsample_rates: tuple[int, ...] = (8, 8, 2, 2, 2)
    upsample_kernel_sizes: tuple[int, ...] = (16, 16, 4, 4, 4)
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilations: tuple[int, ...] = (1, 3, 5)
    initial_channels: int = 512
    pre_kernel_size: int = 13
    post_kernel_size: int = 13
    gain: float = 1.0

    def __post_init__(self) -> None:
        rates, kernels = self.upsample_rates, self.upsample_kernel_sizes
        key = "decoder.upsample_kernel_sizes"
        _require(len(kernels) == len(rates), key, "must be as long as decoder.upsample_rates")
        _require(all(k >= r for k, r in zip(kernels, rates, strict=True)), key, "must not be below the rates")
        even = self.initial_channels % 2 ** len(rates) == 0
        _require(even, "decoder.initial_channels", f"must be divisible by {2 ** len(rates)}")
        _require(0.01 <= self.gain <= 100, "decoder.gain", "must be from 0.01 to 100")


@dataclass(frozen=True)
class CodecSettings:
    """All dimensions of a codec; the defaults are those of Fish Speech 1.5."""

    sample_rate: int = 44100  # Hz
    n_fft: int = 2048  # samples
    win_length: int = 2048  # samples
    hop_length: int = 512  # samples
    n_mels: int = 160
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    quantizer: QuantizerSettings = field(default_factory=QuantizerSettings)
    decoder: DecoderSettings = field(default_factory=DecoderSettings)

    def __post_init__(self) -> None:
        _require(self.win_length == self.n_fft, "win_length", "must equal n_fft")
        _require(self.hop_length <= self.n_fft, "hop_length", "must not exceed n_fft")
        divides = self.latent % self.quantizer.groups == 0
        _require(divides, "quantizer.groups", "must divide the last of encoder.dims")
        same = prod(self.decoder.upsample_rates) == self.hop_length
        _require(same, "decoder.upsample_rates", "must multiply to hop_length")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CodecSettings":
        """Return the settings that `codec.json` gives. Missing keys have their defaults; unknown keys are ignored.

        Raises InputError that names the key of a wrong value.
        """
        return _read(cls, values, "")

    @property
    def latent(self) -> int:
        """Channels between encoder, quantizer and decoder."""
        return self.encoder.dims[-1]

    @property
    def downsample(self) -> int:
        """Mel frames per frame of codes."""
        return prod(self.quantizer.downsample)

    @property
    def frame(self) -> int:
        """Samples per frame of codes."""
        return self.hop_length * self.downsample

    @property
    def frame_rate(self) -> float:
        """Frames of codes per second (Hz)."""
        return self.sample_rate / self.frame

    @property
    def codebooks(self) -> int:
        """Codes per frame."""
        return self.quantizer.groups

    @property
    def codes(self) -> int:
        """Size of a codebook: codes are from 0 to `codes` - 1."""
        return prod(self.quantizer.levels)


def _require(holds: bool, key: str, rule: str) -> None:
    if not holds:
        raise InputError(f"The codec's settings cannot be used: {key} {rule}.")


def _read(kind: type[_Settings], values: object, at: str) -> _Settings:
    """Return the settings dataclass `kind` for a JSON object under the key `at`."""
    if not isinstance(values, Mapping):
        raise InputError(f"The codec's settings cannot be used: {at or 'the file'} must be a JSON object.")
    given: dict[str, Any] = {}
    defaults = kind()
    for entry in fields(kind):  # type: ignore[arg-type]  # every caller passes a dataclass
        if entry.name in values:
            key = f"{at}.{entry.name}" if at else entry.name
            given[entry.name] = _value(getattr(defaults, entry.name), values[entry.name], key)
    return kind(**given)


def _value(default: object, value: object, key: str) -> object:
    """Return `value` as the type of its default."""
    if isinstance(default, float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        _require(number, key, "must be a number")
        return float(value)  # type: ignore[arg-type]  # a number, as required above
    if isinstance(default, int):
        return _number(value, key)
    if isinstance(default, tuple):
        short = isinstance(value, list) and 1 <= len(value) <= _LONGEST_LIST
        _require(short, key, f"must be a list of 1 to {_LONGEST_LIST} integers")
        return tuple(_number(item, key) for item in value)  # type: ignore[attr-defined]  # a list, as required above
    return _read(type(default), value, key)


def _number(value: object, key: str) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not 1 <= value <= _LARGEST_NUMBER:  # type: ignore[operator]  # an int, as tested first
        raise InputError(
            f"The codec's settings cannot be used: {key} must be an integer from 1 to {_LARGEST_NUMBER}, "
            f"not {value!r:.40}."
        )
    return value  # type: ignore[return-value]
