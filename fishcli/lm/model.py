"""The dual transformer: a slow one over positions, a fast one over the codes of one position.

A decode step, over one new position of each of B sequences, and a prefill, over many positions of one, are the same
code: only the `KVIndex` differs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fishcli.lm.kv_cache import KVCache, KVIndex
from fishcli.lm.quantize import LINEAR, Linear, Quantize
from fishcli.lm.settings import LMSettings, StackSettings


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

    def forward(self, x: Tensor, rotation: Tensor, keys: Tensor, values: Tensor, index: KVIndex) -> Tensor:
        """x (B, T, dim), the layer's keys and values (kv_heads, positions, head_dim) -> (B, T, dim)."""
        s, (batch, length, _) = self.s, x.shape
        qkv = self.wqkv(x).view(batch, length, s.heads + 2 * s.kv_heads, s.head_dim)
        rotated = rotate(qkv[:, :, : s.heads + s.kv_heads], rotation)
        q, k = rotated.split([s.heads, s.kv_heads], dim=2)
        keys[:, index.write] = k.permute(2, 0, 1, 3)
        values[:, index.write] = qkv[:, :, s.heads + s.kv_heads :].permute(2, 0, 1, 3)
        # The query heads that share a key head become further queries of it: nothing is copied.
        q = q.reshape(batch, length, s.kv_heads, s.group, s.head_dim).transpose(1, 2).flatten(2, 3)
        k, v = gather(keys, index.read), gather(values, index.read)  # (B, kv_heads, S, head_dim)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=index.mask)
        y = y.unflatten(2, (length, s.group)).transpose(1, 2).reshape(batch, length, -1)
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

    def forward(self, x: Tensor, rotation: Tensor, keys: Tensor, values: Tensor, index: KVIndex) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotation, keys, values, index)
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

    def cache(self, positions: int) -> KVCache:
        """Allocate a KV cache for the slow transformer."""
        return KVCache(self.settings.slow, positions, self.norm.weight.dtype, self.device)

    def fast_cache(self, batch: int) -> KVCache:
        """Allocate a KV cache for one frame of the fast transformer: a position for each code of each sequence."""
        return KVCache(self.settings.fast, batch * self.settings.codebooks, self.norm.weight.dtype, self.device)

    def embed(self, columns: Tensor) -> Tensor:
        """columns (..., K + 1) -> (..., dim): the token's embedding, and the codes' where it is speech."""
        tokens, codes = columns[..., 0], columns[..., 1:]
        speech = (tokens >= self.semantic) & (tokens < self.semantic + self.settings.codebook_size)
        voiced = self.codebook_embeddings(codes + self.codebook_offsets).sum(-2)
        return self.embeddings(tokens) + voiced * speech[..., None]

    def slow(self, columns: Tensor, cache: KVCache, index: KVIndex) -> Tensor:
        """columns (B, T, K + 1) -> hidden states (B, T, dim) before the last norm; writes the cache."""
        x = self.embed(columns)
        rotation = self.rotation[index.positions]
        for layer, keys, values in zip(self.layers, cache.keys, cache.values, strict=True):
            x = layer(x, rotation, keys, values, index)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden (B, dim) -> (B, codes + 1)."""
        return self.output(self.norm(hidden))

    def fast(self, x: Tensor, position: int, cache: KVCache) -> Tensor:
        """Codes `position` and on: x (B, T, fast dim) -> hidden states (B, T, fast dim); writes the cache."""
        index = self._fast_index(len(x), position, position + x.shape[1])
        rotation = self.fast_rotation[index.positions]
        for layer, keys, values in zip(self.fast_layers, cache.keys, cache.values, strict=True):
            x = layer(x, rotation, keys, values, index)
        return x

    def _fast_index(self, batch: int, start: int, end: int) -> KVIndex:
        """The codes start..end-1 of every sequence; sequence b has slot b * K."""
        s = self.settings
        if batch == 1:
            index = KVIndex.prefill(0, start, end, s.fast.group, self.device)
            return index._replace(mask=None) if end == start + 1 else index
        slots = torch.arange(batch, device=self.device)[:, None] * s.codebooks
        steps = torch.arange(end, device=self.device)
        positions = steps[start:].expand(batch, -1)
        mask = None
        if end > start + 1:
            mask = (steps <= steps[start:].repeat_interleave(s.fast.group)[:, None])[None, None]
        return KVIndex(positions, slots + positions, slots + steps, mask)

    def fast_input(self, hidden: Tensor) -> Tensor:
        """hidden (B, dim) of the slow transformer -> the fast one's first input (B, fast dim)."""
        return self.fast_project_in(hidden) if hasattr(self, "fast_project_in") else hidden

    def fast_logits(self, hidden: Tensor) -> Tensor:
        """hidden (B, fast dim) -> (B, codes)."""
        return self.fast_output(self.fast_norm(hidden))


def gather(cached: Tensor, read: slice | Tensor) -> Tensor:
    """Keys or values of a layer (kv_heads, positions, head_dim) -> those of B sequences (B, kv_heads, S, head_dim)."""
    return cached[:, read][None] if isinstance(read, slice) else cached[:, read].transpose(0, 1)


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
