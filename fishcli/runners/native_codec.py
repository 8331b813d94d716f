"""The codec's decoder on a CPU, executed by the C++ of `fishcli.native`, for any number of streams.

Weights, activations and samples are float32 whatever the codec's own are.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from ctypes import POINTER, byref, c_int32, c_void_p

import torch
from torch import Tensor, nn

from fishcli.codec.firefly import Firefly, check_codes
from fishcli.codec.fsq import GroupedFSQ
from fishcli.codec.layers import LayerNorm
from fishcli.codec.settings import CodecSettings
from fishcli.native import build, structs
from fishcli.runners.conv_packing import ConvPacker

# Far above any real codec: the C++ allocates for a block of frames, and counts rows in 32 bits.
_LONGEST_REACH = 1 << 10  # rows
_LONGEST_FRAME = 1 << 6  # mel frames


class NativeDecoder:
    """Decodes codes as `codec` does, for any number of streams, one call at a time.

    It copies the weights: `codec` may go. Raises `build.Unavailable` where the library is not there, or cannot run the
    codec.
    """

    def __init__(self, codec: Firefly, threads: int) -> None:
        _check(codec.settings)
        self.settings = codec.settings
        self._latents = _latents(codec.quantizer.residual_fsq)
        self._library, pool = _declared(build.load()), build.pool(threads)
        pack = ConvPacker(self._library.fish_decoder_vector(), self._library.fish_decoder_panel())
        description = _Description(codec, pack)
        self._handle = _handle(self._library.fish_decoder_new(byref(description.decoder()), pool))
        self._packed = pack.kept  # the memory that the structures point to
        build.forget((tensor.data_ptr(), tensor.nbytes) for tensor in description.weights.values())
        # Not at exit: another thread may be decoding.
        weakref.finalize(self, self._library.fish_decoder_delete, self._handle).atexit = False

    def stream(self) -> NativeStream:
        """Return a streaming decoder of one sequence of codes."""
        return NativeStream(self)

    def decode(self, codes: Tensor) -> Tensor:
        """codes (K, T) -> samples (T * frame,) float32. Raises InputError."""
        return self.stream().push(codes)

    def _latent(self, codes: Tensor) -> Tensor:
        """codes (K, T) -> (T, channels)."""
        return self._latents[torch.arange(len(codes)), codes.T.long().cpu()].flatten(1).contiguous()


class NativeStream:
    """A streaming decoder of one sequence of codes, as `firefly.StreamingDecoder` is."""

    def __init__(self, decoder: NativeDecoder) -> None:
        self._decoder, self._library = decoder, decoder._library
        self._handle = _handle(self._library.fish_decoder_stream(decoder._handle))
        weakref.finalize(self, self._library.fish_decoder_stream_delete, self._handle).atexit = False

    @torch.inference_mode()
    def push(self, codes: Tensor) -> Tensor:
        """The next codes (K, t) -> their samples (t * frame,) float32. Raises InputError."""
        decoder = self._decoder
        check_codes(codes, decoder.settings)
        samples = torch.empty(codes.shape[1] * decoder.settings.frame)
        if codes.shape[1]:
            latent = decoder._latent(codes)
            given = decoder._handle, self._handle, latent.data_ptr(), len(latent), samples.data_ptr()
            build.check(self._library.fish_decoder_push(*given), "codec's decoder")
        return samples


class _Description:
    """Describes the decoder of a codec to the C++."""

    def __init__(self, codec: Firefly, pack: ConvPacker) -> None:
        self.settings, self.weights, self.pack = codec.settings, codec.state_dict(), pack

    def decoder(self) -> structs.Decoder:
        settings, post, pack = self.settings.decoder, "head.conv_post.conv", self.pack
        upsamples = [self._upsample(i, factor) for i, factor in enumerate(self.settings.quantizer.downsample)]
        stages = [self._stage(i, rate) for i, rate in enumerate(settings.upsample_rates)]
        return structs.Decoder(
            pack.array(structs.Upsample, upsamples),
            pack.array(structs.Stage, stages),
            pack.causal(*self._both("head.conv_pre.conv")),
            pack.pointer(self._by_tap(f"{post}.weight", 0)),
            float(self._weight(f"{post}.bias")),
            len(upsamples),
            len(stages),
            len(settings.resblock_kernel_sizes),
            len(settings.resblock_dilations),
            settings.post_kernel_size,
            LayerNorm(1).eps,
        )

    def _upsample(self, i: int, factor: int) -> structs.Upsample:
        name = f"quantizer.upsample.{i}"
        conv = self.pack.transposed(*self._both(f"{name}.0.conv"), factor)
        return structs.Upsample(conv, self._convnext(f"{name}.1"), factor)

    def _convnext(self, name: str) -> structs.ConvNeXt:
        pack, depthwise = self.pack, self._by_tap(f"{name}.dwconv.conv.weight", 1)
        norm, norm_bias = self._both(f"{name}.norm")
        widen, widen_bias = self._both(f"{name}.pwconv1")
        narrow, narrow_bias = self._both(f"{name}.pwconv2")
        gamma = self._weight(f"{name}.gamma")
        # The norm's weights go into the layer after it, and gamma into the one before it.
        widen_bias = (widen_bias.double() + (widen.double() * norm_bias).sum(1)).float()
        return structs.ConvNeXt(
            pack.pointer(depthwise),
            pack.pointer(pack.padded(self._weight(f"{name}.dwconv.conv.bias"), 0)),
            pack.linear(widen * norm, widen_bias),
            pack.linear(narrow * gamma[:, None], narrow_bias * gamma),
            len(depthwise),
            len(gamma),
        )

    def _stage(self, i: int, rate: int) -> structs.Stage:
        settings, pack = self.settings.decoder, self.pack
        convs = [
            pack.causal(*self._both(f"head.resblocks.{i}.blocks.{block}.{pair}.{j}.conv"), dilation, winograd=True)
            for block in range(len(settings.resblock_kernel_sizes))
            for j, dilation in enumerate(settings.resblock_dilations)
            for pair in ("convs1", "convs2")
        ]
        up = pack.transposed(*self._both(f"head.ups.{i}.conv"), rate)
        return structs.Stage(up, pack.array(structs.Conv, convs), rate, settings.initial_channels >> (i + 1))

    def _by_tap(self, name: str, one: int) -> Tensor:
        """Return a weight (a, b, kernel), whose dimension `one` has the size 1, as (kernel, channels)."""
        return self.pack.padded(self._weight(name).select(one, 0).T, 1)

    def _both(self, name: str) -> tuple[Tensor, Tensor]:
        return self._weight(f"{name}.weight"), self._weight(f"{name}.bias")

    def _weight(self, name: str) -> Tensor:
        return self.weights[name].float()


def _latents(fsq: GroupedFSQ) -> Tensor:
    """Return the latent of each code of each codebook: (K, codes, channels / K) float32.

    `GroupedFSQ.dequantize` multiplies matrices, whose bits depend on where the operands lie in memory.
    """
    levels, basis = torch.tensor(fsq.levels), torch.tensor(fsq.basis)
    digits = torch.arange(math.prod(fsq.levels))[:, None] // basis % levels
    z = (digits - levels // 2).double() / (levels // 2)
    return torch.stack([_projected(z, group.project_out) for group in fsq.groups])


def _projected(z: Tensor, layer: nn.Module) -> Tensor:
    """z (codes, digits) through a linear layer, one digit after the other: (codes, channels) float32."""
    if not isinstance(layer, nn.Linear):
        return z.float()
    weight, total = layer.weight.detach().double().cpu(), layer.bias.detach().double().cpu()
    for i in range(z.shape[1]):
        total = total + z[:, i, None] * weight[:, i]
    return total.float()


def _check(settings: CodecSettings) -> None:
    decoder = settings.decoder
    kernels = (*decoder.upsample_kernel_sizes, decoder.pre_kernel_size, decoder.post_kernel_size)
    reach = max(*kernels, max(decoder.resblock_kernel_sizes) * max(decoder.resblock_dilations))
    if reach > _LONGEST_REACH or settings.downsample > _LONGEST_FRAME:
        raise build.Unavailable(
            "the codec's convolutions look back further, or its frames are longer, than the C++ supports"
        )


def _handle(address: int | None) -> c_void_p:
    if not address:
        raise MemoryError("There is no memory left for the codec's decoder.")
    return c_void_p(address)


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the types of the library's functions, and return it."""
    pointer, number = c_void_p, ctypes.c_int
    for name, result, arguments in (
        ("vector", number, []),
        ("panel", number, []),
        ("new", pointer, [POINTER(structs.Decoder), pointer]),
        ("delete", None, [pointer]),
        ("stream", pointer, [pointer]),
        ("stream_delete", None, [pointer]),
        ("push", c_int32, [pointer, pointer, pointer, number, pointer]),
    ):
        function = getattr(library, f"fish_decoder_{name}")
        function.restype, function.argtypes = result, arguments
    return library
