"""Causal layers of the codec, which process a sequence whole or piece by piece with the same result.

Activations are (T, C), time first: the memory order of a channels-last image one pixel high, which the convolutions
of a CPU read without reordering (1.2 to 2.5 times as fast as (C, T) with 256 to 16 channels). Joining pieces in time
is one contiguous copy, and norms and linear layers over channels need no transpose.

The layers hold weights only. A causal layer takes the conv state of one sequence, which keeps the layer's last inputs
from one piece to the next; a layer without an entry starts from zeros.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ConvState = dict[nn.Module, Tensor]  # each layer's last inputs (context, C)

# Input channels from which a matrix product is the faster convolution: PyTorch runs a short float32 input through its
# slow native kernel (1 frame, 256 channels: 0.39 ms against 0.15 ms), and a long input is no slower as a product.
_MATMUL_CHANNELS = 256


class Causal(nn.Module):
    """A layer that is called as `layer(x, state)`."""


class Sequential(nn.ModuleList):
    """Layers one after another; the causal ones get the conv state."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__(layers)

    def forward(self, x: Tensor, state: ConvState) -> Tensor:
        for layer in self:
            x = apply(layer, x, state)
        return x


def apply(layer: nn.Module, x: Tensor, state: ConvState) -> Tensor:
    """Return layer(x), with the conv state if the layer is causal."""
    y: Tensor = layer(x, state) if isinstance(layer, Causal | Sequential) else layer(x)
    return y


class CausalConv(Causal):
    """Convolution over the present and the past. (T, in) -> (ceil(T / stride), out).

    `stride` must divide the T of every piece but the last, which is padded with zeros on the right.
    """

    def __init__(self, inp: int, out: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inp, out, kernel, stride, dilation=dilation, groups=groups)
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.context = (kernel - 1) * dilation + 1 - stride  # past inputs that the first output needs
        self.as_matmul = groups == 1 and inp >= _MATMUL_CHANNELS
        self.register_load_state_dict_post_hook(_to_channels_last)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor, state: ConvState) -> Tensor:
        x = _with_context(x, self.context, state, self)
        if missing := (self.context - len(x)) % self.stride:
            x = F.pad(x, (0, 0, 0, missing))
        return self._matmul(x) if self.as_matmul else self._convolve(x)

    def _matmul(self, x: Tensor) -> Tensor:
        """Return the convolution as one matrix product over all taps."""
        weight = self.conv.weight.permute(0, 2, 1)  # (out, kernel, in)
        kernel = weight.shape[1]
        span = (kernel - 1) * self.dilation
        taps = [x[i * self.dilation : len(x) - span + i * self.dilation : self.stride] for i in range(kernel)]
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
    """Transposed convolution: upsampling by `stride`. (T, in) -> (T * stride, out).

    Inputs whose outputs reach into this piece are run again, so that each output gets all its terms at once, and the
    bias once.
    """

    def __init__(self, inp: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(inp, out, kernel, stride)
        self.stride = stride
        self.context = -(-kernel // stride) - 1
        self.register_load_state_dict_post_hook(_to_channels_last)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor, state: ConvState) -> Tensor:
        x = _with_context(x, self.context, state, self)
        y = F.conv_transpose2d(_as_image(x), self.conv.weight.unsqueeze(2), self.conv.bias, stride=(1, self.stride))
        return _as_sequence(y)[self.context * self.stride : len(x) * self.stride]


class PointwiseConv(nn.Conv1d):
    """Convolution with kernel 1. (T, in) -> (T, out)."""

    def __init__(self, inp: int, out: int) -> None:
        super().__init__(inp, out, 1)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.squeeze(2), self.bias)


class LayerNorm(nn.LayerNorm):
    """Layer norm over channels with the epsilon of the checkpoint."""

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
        y = self.pwconv1(self.norm(self.dwconv(x, state)))
        torch.ops.aten.gelu_(y)  # in place: a second buffer of 4 dim would be mapped anew in each block
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
    """The multi-receptive field fusion of HiFi-GAN: the mean of blocks of different kernels. (T, dim) -> (T, dim)."""

    def __init__(self, dim: int, kernels: Iterable[int], dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(dim, kernel, dilations) for kernel in kernels)

    def forward(self, x: Tensor, state: ConvState) -> Tensor:
        total = self.blocks[0](x, state)
        for block in list(self.blocks)[1:]:
            total += block(x, state)
        return total.div_(len(self.blocks))


def _with_context(x: Tensor, context: int, state: ConvState, layer: nn.Module) -> Tensor:
    """Return x (T, C) after the `context` inputs before it, (context + T, C), and keep its last ones in the state."""
    if context == 0:
        return x
    before = state.get(layer)
    x = F.pad(x, (0, 0, context, 0)) if before is None else torch.cat((before, x))
    state[layer] = x[-context:].clone()  # a view would keep all of x alive
    return x


def _as_image(x: Tensor) -> Tensor:
    """Return x (T, C) as an image (1, C, 1, T), channels last, over the same memory."""
    return x.view(1, 1, *x.shape).permute(0, 3, 1, 2)


def _as_sequence(image: Tensor) -> Tensor:
    """Return an image (1, C, 1, T), channels last, as (T, C) over the same memory."""
    return image.permute(0, 2, 3, 1).reshape(image.shape[3], image.shape[1])


def _to_channels_last(layer: CausalConv | TransposedConv, _: object) -> None:
    """Store a convolution's loaded weight (a, b, kernel) channels last, as its input is.

    Otherwise each call would reorder it: decoding one frame would take a quarter longer.
    """
    weight = layer.conv.weight
    weight.data = weight.permute(0, 2, 1).contiguous().permute(0, 2, 1)
