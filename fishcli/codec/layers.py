"""The codec's layers: causal, so that a stream equals the whole.

Activations are (T, C), time first. That is the memory order of a channels-last image one pixel high, which
the CPU's convolutions read without reordering (1.2 to 2.5 times as fast as (C, T) with 256 to 16 channels);
joining in time is one contiguous copy, and norms and linear layers over channels need no transpose.

A layer that looks back takes the `state` of one stream: each layer's last inputs, kept here between calls.
A layer that is not in it yet starts from zeros. The layers themselves hold weights only.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ConvState = dict[nn.Module, Tensor]

# From this many channels on a matrix product is the faster convolution: PyTorch runs a short float32 input
# through its slow native kernel (1 frame, 256 channels: 0.39 ms against 0.15), and a long one gains nothing.
_WIDE = 256


class Causal(nn.Module):
    """A layer that is called as `layer(x, state)`."""


class Chain(nn.ModuleList):
    """Layers one after another; those that look back get the state."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__(layers)

    def forward(self, x: Tensor, state: ConvState) -> Tensor:
        for layer in self:
            x = layer(x, state) if isinstance(layer, Causal | Chain) else layer(x)
        return x


class CausalConv(Causal):
    """Convolution over now and before. (T, in) -> (ceil(T / stride), out).

    Every call but a stream's last needs a T that stride divides: what the stride lacks is padded with zeros.
    """

    def __init__(self, inp: int, out: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inp, out, kernel, stride, dilation=dilation, groups=groups)
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.reach = (kernel - 1) * dilation + 1 - stride
        self.wide = groups == 1 and inp >= _WIDE
        self.register_load_state_dict_post_hook(_lay_out)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor, state: ConvState) -> Tensor:
        x = _after(x, self.reach, state, self)
        if missing := (self.reach - len(x)) % self.stride:
            x = F.pad(x, (0, 0, 0, missing))
        return self._multiply(x) if self.wide else self._convolve(x)

    def _multiply(self, x: Tensor) -> Tensor:
        """As one matrix product over all taps."""
        weight = self.conv.weight.permute(0, 2, 1)  # (out, kernel, in)
        kernel = weight.shape[1]
        reach = (kernel - 1) * self.dilation
        taps = [x[i * self.dilation : len(x) - reach + i * self.dilation : self.stride] for i in range(kernel)]
        return F.linear(torch.cat(taps, dim=1), weight.flatten(1), self.conv.bias)

    def _convolve(self, x: Tensor) -> Tensor:
        y = F.conv2d(
            _as_image(x),
            self.conv.weight.unsqueeze(2),
            self.conv.bias,
            stride=(1, self.stride),
            dilation=(1, self.dilation),
            groups=self.groups,
        )
        return _as_sequence(y)


class TransposedConv(Causal):
    """Upsampling by `stride`. (T, in) -> (T * stride, out).

    The inputs that still sound are run again, so that each sample gets all its terms, and the bias, at once.
    """

    def __init__(self, inp: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(inp, out, kernel, stride)
        self.stride = stride
        self.reach = -(-kernel // stride) - 1
        self.register_load_state_dict_post_hook(_lay_out)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor, state: ConvState) -> Tensor:
        x = _after(x, self.reach, state, self)
        y = F.conv_transpose2d(_as_image(x), self.conv.weight.unsqueeze(2), self.conv.bias, stride=(1, self.stride))
        return _as_sequence(y)[self.reach * self.stride : len(x) * self.stride]


class PointwiseConv(nn.Conv1d):
    """A convolution with kernel 1. (T, in) -> (T, out)."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out, 1)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.squeeze(2), self.bias)


class LayerNorm(nn.LayerNorm):
    """Over channels, with the epsilon that the codec was trained with."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=1e-6)


class ConvNeXt(Causal):
    """The block of ConvNeXt (Liu et al., 2022), causal in one dimension. (T, dim) -> (T, dim)."""

    def __init__(self, dim: int, kernel: int = 7) -> None:
        super().__init__()
        self.dwconv = CausalConv(dim, dim, kernel, groups=dim)
        self.norm = LayerNorm(dim)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor, state: ConvState) -> Tensor:
        y = F.gelu(self.pwconv1(self.norm(self.dwconv(x, state))))
        return torch.addcmul(x, self.pwconv2(y), self.gamma)


class ResBlock(Causal):
    """The residual block of HiFi-GAN (Kong et al., 2020), causal. (T, dim) -> (T, dim)."""

    def __init__(self, dim: int, kernel: int, dilations: Iterable[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(CausalConv(dim, dim, kernel, dilation=d) for d in dilations)
        self.convs2 = nn.ModuleList(CausalConv(dim, dim, kernel, dilation=d) for d in dilations)

    def forward(self, x: Tensor, state: ConvState) -> Tensor:
        for first, second in zip(self.convs1, self.convs2, strict=True):
            y = F.silu(first(F.silu(x), state), inplace=True)
            x = second(y, state).add_(x)
        return x


class ResBlocks(Causal):
    """The mean of residual blocks with different kernels. (T, dim) -> (T, dim)."""

    def __init__(self, dim: int, kernels: Iterable[int], dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(dim, kernel, dilations) for kernel in kernels)

    def forward(self, x: Tensor, state: ConvState) -> Tensor:
        total = self.blocks[0](x, state)
        for block in list(self.blocks)[1:]:
            total += block(x, state)
        return total.div_(len(self.blocks))


def _after(x: Tensor, reach: int, state: ConvState, layer: nn.Module) -> Tensor:
    """x with the `reach` inputs before it, (reach + T, C); the last `reach` of them are the layer's new state."""
    if reach == 0:
        return x
    before = state.get(layer)
    x = F.pad(x, (0, 0, reach, 0)) if before is None else torch.cat((before, x))
    state[layer] = x[-reach:].clone()  # a view would keep all of x alive
    return x


def _as_image(x: Tensor) -> Tensor:
    """(T, C) -> (1, C, 1, T) over the same memory, channels last."""
    return x.view(1, 1, *x.shape).permute(0, 3, 1, 2)


def _as_sequence(image: Tensor) -> Tensor:
    """(1, C, 1, T) channels last -> (T, C) over the same memory."""
    return image.permute(0, 2, 3, 1).reshape(image.shape[3], image.shape[1])


def _lay_out(layer: CausalConv | TransposedConv, _: object) -> None:
    """Puts a convolution's loaded weight, (a, b, kernel), into the channels-last order that its input has.

    Otherwise each call would reorder it: a push of one frame would take a quarter longer.
    """
    weight = layer.conv.weight
    weight.data = weight.permute(0, 2, 1).contiguous().permute(0, 2, 1)
