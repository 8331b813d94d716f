"""The codec's decoder on a CPU, executed by the C++ of `fishcli.native`, for any number of streams.

Weights, activations and samples are float32 whatever the codec's own are.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from ctypes import POINTER, byref, c_int32, c_void_p
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fishcli.codec.firefly import Firefly, check_codes
from fishcli.codec.fsq import GroupedFSQ
from fishcli.codec.layers import LayerNorm
from fishcli.codec.settings import CodecSettings
from fishcli.native import build, structs

_Structure = TypeVar("_Structure", bound=ctypes.Structure)

_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5)  # and infinity; as in winograd.hpp
_GROUP = 4  # taps
_SHORTEST = 3  # taps from which on Winograd's way takes fewer multiplications

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
        pack = _Packer(codec, self._library.fish_decoder_vector(), self._library.fish_decoder_panel())
        self._handle = _handle(self._library.fish_decoder_new(byref(pack.decoder()), pool))
        self._packed = pack.kept  # the memory that the structures point to
        build.forget((tensor.data_ptr(), tensor.nbytes) for tensor in pack.weights.values())
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


class _Packer:
    """Packs the weights of a codec in the layout of ops/conv_kernel.hpp."""

    def __init__(self, codec: Firefly, vector: int, panel: int) -> None:
        self.settings, self.weights = codec.settings, codec.state_dict()
        self.vector, self.panel = vector, panel
        self.kept: list[object] = []

    def decoder(self) -> structs.Decoder:
        settings, post = self.settings.decoder, "head.conv_post.conv"
        upsamples = [self._upsample(i, factor) for i, factor in enumerate(self.settings.quantizer.downsample)]
        stages = [self._stage(i, rate) for i, rate in enumerate(settings.upsample_rates)]
        return structs.Decoder(
            self._array(structs.Upsample, upsamples),
            self._array(structs.Stage, stages),
            self._causal("head.conv_pre.conv"),
            self._pointer(self._by_tap(f"{post}.weight", 0)),
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
        return structs.Upsample(self._transposed(f"{name}.0.conv", factor), self._convnext(f"{name}.1"), factor)

    def _convnext(self, name: str) -> structs.ConvNeXt:
        depthwise = self._by_tap(f"{name}.dwconv.conv.weight", 1)
        norm, norm_bias = self._both(f"{name}.norm")
        widen, widen_bias = self._both(f"{name}.pwconv1")
        narrow, narrow_bias = self._both(f"{name}.pwconv2")
        gamma = self._weight(f"{name}.gamma")
        # The norm's weights go into the layer after it, and gamma into the one before it.
        widen_bias = (widen_bias.double() + (widen.double() * norm_bias).sum(1)).float()
        widen = widen * norm
        return structs.ConvNeXt(
            self._pointer(depthwise),
            self._pointer(self._padded(self._weight(f"{name}.dwconv.conv.bias"), 0)),
            self._conv(widen[None, :, None], widen_bias),
            self._conv((narrow * gamma[:, None])[None, :, None], narrow_bias * gamma),
            len(depthwise),
            len(gamma),
        )

    def _stage(self, i: int, rate: int) -> structs.Stage:
        settings = self.settings.decoder
        convs = [
            self._causal(f"head.resblocks.{i}.blocks.{block}.{pair}.{j}.conv", dilation, winograd=True)
            for block in range(len(settings.resblock_kernel_sizes))
            for j, dilation in enumerate(settings.resblock_dilations)
            for pair in ("convs1", "convs2")
        ]
        up = self._transposed(f"head.ups.{i}.conv", rate)
        return structs.Stage(up, self._array(structs.Conv, convs), rate, settings.initial_channels >> (i + 1))

    def _causal(self, name: str, dilation: int = 1, winograd: bool = False) -> structs.Conv:
        weight, bias = self._both(name)  # (out, in, kernel)
        return self._conv(weight.permute(0, 2, 1)[None], bias, dilation, winograd)

    def _transposed(self, name: str, stride: int) -> structs.Conv:
        """A convolution with `stride` times the outputs: the one of phase p takes every stride-th tap from p on."""
        weight, bias = self._both(name)  # (in, out, kernel)
        weight = F.pad(weight, (0, -weight.shape[2] % stride)).unflatten(2, (-1, stride))
        # A transposed convolution's first tap is for the newest input.
        return self._conv(weight.flip(2).permute(3, 1, 2, 0), bias)

    def _conv(self, weight: Tensor, bias: Tensor, dilation: int = 1, winograd: bool = False) -> structs.Conv:
        """weight (phases, out, taps, in), bias (out,)"""
        phases, _, taps, inp = weight.shape
        winograd = winograd and taps >= _SHORTEST
        weight = self._padded(weight, 1).flatten(0, 1)
        bias = self._padded(bias, 0).repeat(phases)
        panels = [panel.permute(1, 2, 0) for panel in weight.split(self.panel)]  # (taps, in, out)
        packed = torch.cat([(_winograd(panel) if winograd else panel).flatten() for panel in panels])
        points, taps = (len(_POINTS) + 1, -(-taps // _GROUP)) if winograd else (1, taps)
        return structs.Conv(self._pointer(packed), self._pointer(bias), inp, len(bias), taps, dilation, points)

    def _by_tap(self, name: str, one: int) -> Tensor:
        """A weight (a, b, kernel) whose dimension `one` has the size 1 -> (kernel, channels)."""
        return self._padded(self._weight(name).select(one, 0).T, 1)

    def _both(self, name: str) -> tuple[Tensor, Tensor]:
        return self._weight(f"{name}.weight"), self._weight(f"{name}.bias")

    def _weight(self, name: str) -> Tensor:
        return self.weights[name].float()

    def _padded(self, tensor: Tensor, dim: int) -> Tensor:
        """With zeros up to whole vectors along `dim`."""
        after = -tensor.shape[dim] % self.vector
        return F.pad(tensor, [0, 0] * (tensor.dim() - 1 - dim) + [0, after])

    def _array(self, kind: type[_Structure], items: list[_Structure]) -> ctypes.Array[_Structure]:
        array = (kind * len(items))(*items)
        self.kept.append(array)
        return array

    def _pointer(self, tensor: Tensor) -> int:
        tensor = tensor.contiguous()
        self.kept.append(tensor)
        return tensor.data_ptr()


def _winograd(weight: Tensor) -> Tensor:
    """weight (taps, in, out) -> (points, groups of taps, in, out): the values of each group at the points."""
    groups = F.pad(weight, (0, 0, 0, 0, -len(weight) % _GROUP, 0)).unflatten(0, (-1, _GROUP)).double()
    points = torch.tensor(_POINTS, dtype=torch.float64)
    others = (points[:, None] - points).fill_diagonal_(1).prod(1)
    values = torch.linalg.vander(points, N=_GROUP) / others[:, None]
    at_infinity = torch.eye(_GROUP, dtype=torch.float64)[-1:]
    # One tap after the other: the bits of a matrix product depend on where its operands lie in memory.
    factors = torch.cat((values, at_infinity))[:, :, None, None, None]
    return sum(factors[:, i] * groups[:, i] for i in range(_GROUP)).float()


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
