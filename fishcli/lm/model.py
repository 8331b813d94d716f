"""The dual transformer: a slow one over positions, a fast one over the codes of one position.

The forward passes take B rows that may stand at different positions; a pass over one new position of each
row and a pass over many positions of one row are the same code.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fishcli.lm.quantize import LINEAR, Linear, Quantize
from fishcli.lm.settings import LMSettings, StackSettings


class KVCache:
    """The keys and values of a stack: each (layers, rows, kv_heads, positions, head_dim)."""

    def __init__(self, stack: StackSettings, rows: int, length: int, dtype: torch.dtype, device: torch.device) -> None:
        shape = (stack.layers, rows, stack.kv_heads, length, stack.head_dim)
        # Zeros, not empty: masked positions must hold finite numbers.
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    @property
    def rows(self) -> int:
        return self.keys.shape[1]

    @property
    def length(self) -> int:
        return self.keys.shape[3]

    def copy(self, smaller: KVCache) -> None:
        """Take over what a smaller one holds."""
        for old, new in ((smaller.keys, self.keys), (smaller.values, self.values)):
            new[:, : old.shape[1], :, : old.shape[3]] = old

    def take(self, row: int, length: int) -> tuple[Tensor, Tensor]:
        """Copies of the first `length` keys and values of a row: (layers, kv_heads, length, head_dim), on the CPU."""
        keys, values = (each[:, row, :, :length].cpu() for each in (self.keys, self.values))
        return keys.clone(memory_format=torch.contiguous_format), values.clone(memory_format=torch.contiguous_format)

    def put(self, row: int, keys: Tensor, values: Tensor) -> None:
        """Give a row what `take` took."""
        self.keys[:, row, :, : keys.shape[2]] = keys.to(self.keys.device)
        self.values[:, row, :, : values.shape[2]] = values.to(self.values.device)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one row over another; a row without any need not exist yet."""
        if not length:
            return
        self.keys[:, target, :, :length] = self.keys[:, source, :, :length]
        self.values[:, target, :, :length] = self.values[:, source, :, :length]


class Where(NamedTuple):
    """Which rows and positions of a KVCache one pass writes, and up to which position it looks."""

    first: int  # first row
    rows: Tensor  # (B, 1)
    positions: Tensor  # (B, T)
    end: int
    mask: Tensor | None  # what each query may attend to: (B, 1, 1 or T * group, end); None: everything

    @classmethod
    def step(cls, positions: Tensor, end: int) -> Where:
        """One new position of each of the rows 0..B-1; positions (B,), all below `end`."""
        rows = torch.arange(len(positions), device=positions.device)[:, None]
        mask = None
        if len(positions) > 1:
            mask = (torch.arange(end, device=positions.device) <= positions[:, None])[:, None, None]
        return cls(0, rows, positions[:, None], end, mask)

    @classmethod
    def prefill(cls, row: int, start: int, end: int, group: int, device: torch.device) -> Where:
        """The positions start..end-1 of one row."""
        positions = torch.arange(start, end, device=device)
        mask = torch.arange(end, device=device) <= positions.repeat_interleave(group)[:, None]
        return cls(row, torch.full((1, 1), row, device=device), positions[None], end, mask[None, None])


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Embedding(nn.Embedding):
    """Without random numbers to start from: on the meta device, torch would load its compiler for them (0.7 s)."""

    def reset_parameters(self) -> None:
        """The weights come from a checkpoint."""


class Attention(nn.Module):
    """Causal attention with rotary positions; groups of query heads share a key/value head."""

    def __init__(self, s: StackSettings, quantize: Quantize) -> None:
        super().__init__()
        self.s = s
        self.wqkv = LINEAR[quantize](s.dim, s.qkv, bias=s.qkv_bias)
        self.wo = LINEAR[quantize](s.heads * s.head_dim, s.dim)

    def forward(self, x: Tensor, rotation: Tensor, keys: Tensor, values: Tensor, where: Where) -> Tensor:
        """x (B, T, dim), the layer's keys and values (rows, kv_heads, positions, head_dim) -> (B, T, dim)."""
        s, (rows, length, _) = self.s, x.shape
        qkv = self.wqkv(x).view(rows, length, s.heads + 2 * s.kv_heads, s.head_dim)
        rotated = rotate(qkv[:, :, : s.heads + s.kv_heads], rotation)
        q, k = rotated.split([s.heads, s.kv_heads], dim=2)
        keys[where.rows, :, where.positions] = k
        values[where.rows, :, where.positions] = qkv[:, :, s.heads + s.kv_heads :]
        k = keys[where.first : where.first + rows, :, : where.end]
        v = values[where.first : where.first + rows, :, : where.end]
        # The heads that share a key head become further queries of it: nothing is copied.
        q = q.reshape(rows, length, s.kv_heads, s.group, s.head_dim).transpose(1, 2).flatten(2, 3)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=where.mask)
        y = y.unflatten(2, (length, s.group)).transpose(1, 2).reshape(rows, length, -1)
        return self.wo(y)


class FeedForward(nn.Module):
    """SwiGLU (arXiv:2002.05202), its two input projections in one matrix."""

    def __init__(self, s: StackSettings, quantize: Quantize) -> None:
        super().__init__()
        self.w13 = LINEAR[quantize](s.dim, 2 * s.inner)
        self.w2 = LINEAR[quantize](s.inner, s.dim)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.w13(x).chunk(2, dim=-1)
        return self.w2(F.silu(gate) * up)


class Block(nn.Module):
    def __init__(self, s: StackSettings, quantize: Quantize) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(s.dim, s.eps)
        self.attention = Attention(s, quantize)
        self.ffn_norm = RMSNorm(s.dim, s.eps)
        self.feed_forward = FeedForward(s, quantize)

    def forward(self, x: Tensor, rotation: Tensor, keys: Tensor, values: Tensor, where: Where) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotation, keys, values, where)
        return x + self.feed_forward(self.ffn_norm(x))


class Transformer(nn.Module):
    """The language model of one checkpoint, cut to the choices that its codec leaves.

    `codes` is the number of values of a code; `semantic` the token id of code 0. The logits of the slow
    transformer have `codes + 1` entries: the codes, then the end. The matrices of the blocks are quantized, not
    those that choose.
    """

    def __init__(self, settings: LMSettings, codes: int, semantic: int, quantize: Quantize = "none") -> None:
        super().__init__()
        s = self.settings = settings
        self.codes, self.semantic = codes, semantic
        self.embeddings = Embedding(s.vocab_size, s.slow.dim)
        self.codebook_embeddings = Embedding(s.codebook_size * s.codebooks, s.slow.dim)
        self.layers = nn.ModuleList(Block(s.slow, quantize) for _ in range(s.slow.layers))
        self.norm = RMSNorm(s.slow.dim, s.slow.eps)
        self.output = Linear(s.slow.dim, codes + 1)
        if s.fast.dim != s.slow.dim:
            self.fast_project_in = Linear(s.slow.dim, s.fast.dim, bias=True)
        self.fast_embeddings = Embedding(s.codebook_size, s.fast.dim)
        self.fast_layers = nn.ModuleList(Block(s.fast, quantize) for _ in range(s.fast.layers))
        self.fast_norm = RMSNorm(s.fast.dim, s.fast.eps)
        self.fast_output = Linear(s.fast.dim, codes)

    def prepare(self) -> Transformer:
        """Compute what depends on the settings alone; call it once the weights are in place."""
        s, device = self.settings, self.device
        self.rotation = rotations(s.max_seq_len, s.slow.head_dim, s.rope_base, device)
        self.fast_rotation = rotations(s.codebooks, s.fast.head_dim, s.rope_base, device)
        self.codebook_offsets = torch.arange(s.codebooks, device=device) * s.codebook_size
        return self.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return self.norm.weight.device

    def cache(self, rows: int, length: int) -> KVCache:
        """Room for the keys and values of the slow transformer."""
        return KVCache(self.settings.slow, rows, length, self.norm.weight.dtype, self.device)

    def fast_cache(self, rows: int) -> KVCache:
        """Room for the keys and values of the fast transformer: one position for each code."""
        return KVCache(self.settings.fast, rows, self.settings.codebooks, self.norm.weight.dtype, self.device)

    def embed(self, columns: Tensor) -> Tensor:
        """columns (..., K + 1) -> (..., dim): the token's embedding, and the codes' where it is speech."""
        tokens, codes = columns[..., 0], columns[..., 1:]
        speech = (tokens >= self.semantic) & (tokens < self.semantic + self.settings.codebook_size)
        voiced = self.codebook_embeddings(codes + self.codebook_offsets).sum(-2)
        return self.embeddings(tokens) + voiced * speech[..., None]

    def slow(self, columns: Tensor, cache: KVCache, where: Where) -> Tensor:
        """columns (B, T, K + 1) -> hidden states (B, T, dim) before the last norm; writes `cache`."""
        x = self.embed(columns)
        rotation = self.rotation[where.positions]
        for i, block in enumerate(self.layers):
            x = block(x, rotation, cache.keys[i], cache.values[i], where)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden (B, dim) -> (B, codes + 1)."""
        return self.output(self.norm(hidden))

    def fast(self, x: Tensor, place: int, cache: KVCache) -> Tensor:
        """Some places of the fast transformer, from `place` on: x (B, T, fast dim) -> hidden; writes `cache`."""
        rows, end = torch.arange(len(x), device=x.device)[:, None], place + x.shape[1]
        places = torch.arange(place, end, device=x.device)
        mask = None
        if x.shape[1] > 1:
            mask = torch.arange(end, device=x.device) <= places.repeat_interleave(self.settings.fast.group)[:, None]
        where = Where(0, rows, places[None].expand(len(x), -1), end, mask)
        rotation = self.fast_rotation[where.positions]
        for i, block in enumerate(self.fast_layers):
            x = block(x, rotation, cache.keys[i], cache.values[i], where)
        return x

    def fast_input(self, hidden: Tensor) -> Tensor:
        """hidden (B, dim) of the slow transformer -> the fast one's first input (B, fast dim)."""
        return self.fast_project_in(hidden) if hasattr(self, "fast_project_in") else hidden

    def fast_logits(self, hidden: Tensor) -> Tensor:
        """hidden (B, fast dim) -> (B, codes)."""
        return self.fast_output(self.fast_norm(hidden))


def rotations(length: int, head_dim: int, base: float, device: torch.device) -> Tensor:
    """Cosines and sines of rotary positions (arXiv:2104.09864): (length, head_dim / 2, 2) float32.

    They are rounded to bfloat16, as they were in training.
    """
    steps = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    angles = torch.outer(torch.arange(length, dtype=torch.float32), 1.0 / base**steps)
    return torch.stack([angles.cos(), angles.sin()], dim=-1).bfloat16().float().to(device)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """x (B, T, heads, head_dim), its pairs (2i, 2i + 1) turned by rotation (B, T, head_dim / 2, 2)."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = rotation[:, :, None].unbind(-1)
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2).to(x.dtype)
