"""Firefly (Liao et al., 2024), the codec of Fish Speech: an encoder of audio to codes, and a streaming decoder.

    encode: samples -> log-mel -> ConvNeXt stages -> downsampling -> FSQ -> codes
    decode: codes -> FSQ values -> upsampling -> HiFi-GAN vocoder -> samples

Every layer is causal. Activations are (T, C), time first.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fishcli.codec.fsq import GroupedFSQ
from fishcli.codec.layers import (
    CausalConv,
    ConvNeXt,
    ConvState,
    LayerNorm,
    PointwiseConv,
    ResBlocks,
    Sequential,
    TransposedConv,
    apply,
)
from fishcli.codec.mel import log_mel, padded
from fishcli.codec.settings import CodecSettings, DecoderSettings
from fishcli.errors import InputError

# The encoder takes blocks of 256 frames (12 s), and stops between layers whenever it has done this much work: at full
# size four times in 10 s of audio, 19 to 71 ms apart on two cores. Blocks of 72 frames would stop as often, but a
# recording took 3 to 17 % longer: each block reads all weights again, at the speed that the memory has to spare.
# The last bits of PyTorch's products depend on the block, so it is a constant: a recording always has the same codes.
_ENCODE_BLOCK = 256  # frames
_ENCODE_WORK = 5_000_000_000  # multiplications
_DECODE_PIECE = 16  # frames decoded at once, which bounds the memory of a long decode


class Backbone(nn.Module):
    """The encoder: ConvNeXt stages from the log-mel to the latent. (T, n_mels) -> (T, dims[-1])."""

    def __init__(self, settings: CodecSettings) -> None:
        super().__init__()
        depths, dims, kernel = settings.encoder.depths, settings.encoder.dims, settings.encoder.kernel_size
        stem = Sequential((CausalConv(settings.n_mels, dims[0], 7), LayerNorm(dims[0])))
        between = (Sequential((LayerNorm(a), PointwiseConv(a, b))) for a, b in pairwise(dims))
        self.downsample_layers = nn.ModuleList((stem, *between))
        self.stages = nn.ModuleList(
            Sequential(ConvNeXt(dim, kernel) for _ in range(depth)) for depth, dim in zip(depths, dims, strict=True)
        )
        self.norm = LayerNorm(dims[-1])

    def layers(self) -> Iterator[nn.Module]:
        """Yield the layers in the order of their execution."""
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            yield downsample  # more channels, the same T
            yield from cast(Sequential, stage)
        yield self.norm


class Quantizer(nn.Module):
    """Grouped FSQ between a downsampling from the mel's rate to the frame rate and the upsampling back.

    downsample: (T, latent) -> (ceil(T / downsample), latent); upsample: the reverse.
    """

    def __init__(self, settings: CodecSettings) -> None:
        super().__init__()
        latent, factors = settings.latent, settings.quantizer.downsample
        self.residual_fsq = GroupedFSQ(latent, settings.quantizer)
        self.downsample = Sequential(
            Sequential((CausalConv(latent, latent, f, stride=f), ConvNeXt(latent))) for f in factors
        )
        self.upsample = Sequential(
            Sequential((TransposedConv(latent, latent, f, f), ConvNeXt(latent))) for f in factors
        )


class Vocoder(nn.Module):
    """The generator of HiFi-GAN (Kong et al., 2020), causal, with SiLU. (T, latent) -> samples (T * hop,) in -1..1."""

    def __init__(self, latent: int, settings: DecoderSettings) -> None:
        super().__init__()
        rates, kernels = settings.upsample_rates, settings.upsample_kernel_sizes
        widths = [settings.initial_channels >> i for i in range(len(rates) + 1)]
        self.conv_pre = CausalConv(latent, widths[0], settings.pre_kernel_size)
        self.ups = nn.ModuleList(
            TransposedConv(widths[i], widths[i + 1], kernel, rate)
            for i, (kernel, rate) in enumerate(zip(kernels, rates, strict=True))
        )
        self.resblocks = nn.ModuleList(
            ResBlocks(width, settings.resblock_kernel_sizes, settings.resblock_dilations) for width in widths[1:]
        )
        self.conv_post = CausalConv(widths[-1], 1, settings.post_kernel_size)

    def forward(self, x: Tensor, state: ConvState) -> Tensor:
        x = self.conv_pre(x.to(self.conv_pre.conv.weight.dtype), state)
        for up, blocks in zip(self.ups, self.resblocks, strict=True):
            x = blocks(up(F.silu(x, inplace=True), state), state)
        return torch.tanh(self.conv_post(F.silu(x, inplace=True), state)).flatten()


class Firefly(nn.Module):
    """The codec. Build it under `torch.device("meta")`, then `load_state_dict(weights, assign=True)`.

    It runs on the device and in the dtype of its weights; mel and samples are always float32. Its methods may run in
    several threads: all state belongs to one encoding or to one `StreamingDecoder`.
    """

    def __init__(self, settings: CodecSettings) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = Backbone(settings)
        self.quantizer = Quantizer(settings)
        self.head = Vocoder(settings.latent, settings.decoder)
        self.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.backbone.norm.weight.device

    def encode(self, samples: Tensor) -> Tensor:
        """Return the codes (K, T) int16 of a recording (N,) float32 at the codec's sample rate. Raises InputError.

        T is the mel's frames / `downsample`, rounded up: a decode can be a little longer than the recording.
        """
        return torch.cat(list(self.encode_pieces(samples)), dim=1)

    def encode_pieces(self, samples: Tensor) -> Iterator[Tensor]:
        """Encode a recording step by step: yields codes (K, t) int16 that together are those of `encode`.

        The samples are checked at once (InputError); the work is done by the iteration, whose caller may stop after
        any step. A step is a part of a block of 256 frames; all but the last step of a block yield no codes (t = 0).
        """
        return map(self.quantizer.residual_fsq.quantize, self._latents(self._padded(samples)))

    @torch.inference_mode()
    def mel(self, samples: Tensor) -> Tensor:
        """Return the log-mel spectrogram (N // hop, n_mels) float32 of samples (N,) float32. Raises InputError."""
        return log_mel(self._padded(samples), self.settings)

    def project(self, samples: Tensor) -> Tensor:
        """Return the input of the quantizer, (T, K, digits), not bounded yet, for samples (N,). Raises InputError."""
        return torch.cat(list(self._latents(self._padded(samples))))

    @torch.inference_mode()
    def _latents(self, audio: Tensor) -> Iterator[Tensor]:
        """Yield the quantizer's input (t, K, digits) of padded audio (M,) after each step."""
        hop = self.settings.hop_length
        overlap = self.settings.n_fft - hop  # samples that the windows of one block share with the next
        block = _ENCODE_BLOCK * self.settings.frame
        mels = (len(audio) - overlap) // hop
        state: ConvState = {}
        for start in range(0, mels * hop, block):
            x = log_mel(audio[start : start + block + overlap], self.settings).to(self.backbone.norm.weight.dtype)
            work = 0
            for layer in (*self.backbone.layers(), *self.quantizer.downsample):
                if work >= _ENCODE_WORK:
                    work = 0
                    yield self.quantizer.residual_fsq.project(x.new_empty(0, self.settings.latent))
                x = apply(layer, x, state)
                work += len(x) * sum(weight.numel() for weight in layer.parameters())
            yield self.quantizer.residual_fsq.project(x)

    def _padded(self, samples: Tensor) -> Tensor:
        if samples.dim() != 1 or not samples.is_floating_point():
            raise InputError(f"Audio to encode must be floats of shape (N,), not {_described(samples)}.")
        samples = samples.to(self.device, torch.float32)
        if not samples.isfinite().all():
            raise InputError("Audio to encode holds samples that are not finite; repair the recording first.")
        return padded(samples, self.settings)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the samples (T * frame,) float32 of codes (K, T). Raises InputError."""
        return self.stream().push(codes)

    def decode_piece(self, codes: Tensor, state: ConvState) -> Tensor:
        """Return the samples (t * frame,) float32 of the next codes (K, t) of a sequence with this conv state."""
        x = self.quantizer.upsample(self.quantizer.residual_fsq.dequantize(codes), state)
        samples: Tensor = self.head(x, state)
        return samples.float()

    def stream(self) -> "StreamingDecoder":
        """Return a decoder for one sequence of codes. Any number of them can run on one codec."""
        return StreamingDecoder(self)


class StreamingDecoder:
    """Decodes one sequence of codes as its frames arrive, at a constant cost per frame.

    However the codes are split, the samples are those of one whole decode, to rounding (4e-8 measured).
    """

    def __init__(self, codec: Firefly) -> None:
        self._codec = codec
        self._state: ConvState = {}

    @torch.inference_mode()
    def push(self, codes: Tensor) -> Tensor:
        """Return the samples (t * frame,) float32 of the next codes (K, t). Raises InputError."""
        check_codes(codes, self._codec.settings)
        codes = codes.to(self._codec.device)
        split = torch.split(codes, _DECODE_PIECE, dim=1)
        pieces = [self._codec.decode_piece(piece, self._state) for piece in split if piece.shape[1]]
        return torch.cat(pieces) if pieces else torch.empty(0, device=codes.device)


def check_codes(codes: Tensor, settings: CodecSettings) -> None:
    """Raise InputError unless `codes` are integers (K, T) from 0 to `settings.codes` - 1."""
    if codes.dim() != 2 or len(codes) != settings.codebooks or codes.is_floating_point():
        raise InputError(f"Codes must be integers of shape ({settings.codebooks}, T), not {_described(codes)}.")
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < settings.codes:
        raise InputError(f"Codes must be from 0 to {settings.codes - 1}, not {int(codes.min())} to {int(codes.max())}.")


def shapes(settings: CodecSettings) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight of the codec by its key, weight norm folded; allocates nothing."""
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in Firefly(settings).state_dict().items()}


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
