"""A checkpoint of random weights in the layout of Fish Speech 1.5: `python -m fishcli.testing.checkpoint FOLDER`.

The output is noise, but every file, key, shape and dtype is that of the real model, and so are its speed and memory
use. The same arguments give the same weights on every machine (NumPy's Philox generator).
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import logging
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import filelock
import numpy as np
import numpy.typing as npt
import torch

from fishcli import files
from fishcli.checkpoints import local

log = logging.getLogger(__name__)

Size = Literal["full", "micro"]
Shapes = dict[str, tuple[int, ...]]

SPECIAL_TOKENS = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<|im_start|>", "<|im_end|>",
    *(f"<|placeholder:{i}|>" for i in range(4)),
    "<|text|>", "<|voice|>", "<|interleave|>",
    *(f"<|semantic:{i}|>" for i in range(1024)),
]  # fmt: skip

FULL_LM: dict[str, Any] = dict(
    model_type="dual_ar", vocab_size=102048, n_layer=24, n_fast_layer=4, n_head=16, n_local_heads=2,
    head_dim=64, dim=1024, intermediate_size=4096, codebook_size=1024, num_codebooks=8,
    max_seq_len=8192, rope_base=1000000.0, norm_eps=1e-6, dropout=0.1, attention_qkv_bias=False,
    tie_word_embeddings=False, initializer_range=0.02, use_gradient_checkpointing=True,
)  # fmt: skip

FULL_CODEC: dict[str, Any] = dict(
    sample_rate=44100, n_fft=2048, win_length=2048, hop_length=512, n_mels=160,
    encoder=dict(depths=[3, 3, 9, 3], dims=[128, 256, 384, 512], kernel_size=7),
    quantizer=dict(groups=8, levels=[8, 5, 5, 5], downsample=[2, 2]),
    decoder=dict(upsample_rates=[8, 8, 2, 2, 2], upsample_kernel_sizes=[16, 16, 4, 4, 4],
                 resblock_kernel_sizes=[3, 7, 11], resblock_dilations=[1, 3, 5], initial_channels=512,
                 pre_kernel_size=13, post_kernel_size=13),
)  # fmt: skip


class Layout(NamedTuple):
    """The contents of config.json and codec.json, and the number of tokens."""

    lm: dict[str, Any]
    codec: dict[str, Any]
    ranks: int

    @property
    def bytes(self) -> int:
        """The size of the weights in bytes: bfloat16 for the language model, float32 for the codec."""
        each = [(2, lm_shapes(self.lm)), (4, codec_shapes(self.codec))]
        return sum(size * math.prod(shape) for size, shapes in each for shape in shapes.values())


FULL = Layout(FULL_LM, FULL_CODEC, 100_000)


def micro(layers: int = 3, fast_layers: int = 2, codebooks: int = 8) -> Layout:
    """Return a layout of the same structure, of a few MB."""
    ranks = 900
    lm = FULL_LM | dict(
        dim=64, head_dim=16, n_head=4, n_local_heads=2, intermediate_size=160, max_seq_len=512,
        n_layer=layers, n_fast_layer=fast_layers, num_codebooks=codebooks,
        vocab_size=ranks + len(SPECIAL_TOKENS) + 12,
    )  # fmt: skip
    codec = FULL_CODEC | dict(
        n_mels=32,
        encoder=dict(depths=[1, 1, 2, 1], dims=[16, 24, 32, 64], kernel_size=7),
        quantizer=FULL_CODEC["quantizer"] | dict(groups=codebooks),
        decoder=FULL_CODEC["decoder"] | dict(initial_channels=32),
    )
    return Layout(lm, codec, ranks)


def make(folder: Path, layout: Layout = FULL, seed: int = 0) -> None:
    """Write a checkpoint into a folder, which is created if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", layout.lm)
    ranks = (f"{base64.b64encode(token).decode()} {i}\n" for i, token in enumerate(_bpe_ranks(layout.ranks)))
    (folder / "tokenizer.tiktoken").write_text("".join(ranks))
    _write_json(folder / "special_tokens.json", {token: layout.ranks + i for i, token in enumerate(SPECIAL_TOKENS)})
    torch.save(_weights(lm_shapes(layout.lm), seed, torch.bfloat16), folder / "model.pth")
    torch.save(_weights(codec_shapes(layout.codec), seed + 1, torch.float32), folder / local.CODEC)
    if layout.codec != FULL_CODEC:
        _write_json(folder / "codec.json", layout.codec)


def cached(size: Size) -> Path:
    """Return the folder of a checkpoint in the cache, which the first call creates."""
    layout = FULL if size == "full" else micro()
    folder = files.folder("cache") / "bench" / size
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            log.info(
                "Creating a checkpoint of random weights in %s (%.1f MB), for this and later runs.",
                folder,
                layout.bytes / 1e6,
            )
            with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
                make(Path(temporary) / size, layout)
                os.replace(Path(temporary) / size, folder)
    return folder


def lm_shapes(c: Mapping[str, Any]) -> Shapes:
    """Return the shapes of model.pth by key."""
    dim, inner = c["dim"], c["intermediate_size"]
    qkv = (c["n_head"] + 2 * c["n_local_heads"]) * c["head_dim"]
    shapes: Shapes = {
        "embeddings.weight": (c["vocab_size"], dim),
        "codebook_embeddings.weight": (c["codebook_size"] * c["num_codebooks"], dim),
        "norm.weight": (dim,),
        "output.weight": (c["vocab_size"], dim),
        "fast_embeddings.weight": (c["codebook_size"], dim),
        "fast_norm.weight": (dim,),
        "fast_output.weight": (c["codebook_size"], dim),
    }
    blocks = [f"layers.{i}" for i in range(c["n_layer"])] + [f"fast_layers.{i}" for i in range(c["n_fast_layer"])]
    for block in blocks:
        shapes |= {
            f"{block}.attention.wqkv.weight": (qkv, dim),
            f"{block}.attention.wo.weight": (dim, dim),
            f"{block}.feed_forward.w1.weight": (inner, dim),
            f"{block}.feed_forward.w3.weight": (inner, dim),
            f"{block}.feed_forward.w2.weight": (dim, inner),
            f"{block}.ffn_norm.weight": (dim,),
            f"{block}.attention_norm.weight": (dim,),
        }
    return shapes


def codec_shapes(c: Mapping[str, Any]) -> Shapes:
    """Return the shapes of the codec by key; weight-normed convolutions have two parts."""
    latent = c["encoder"]["dims"][-1]
    return _backbone(c["encoder"], c["n_mels"]) | _quantizer(c["quantizer"], latent) | _head(c["decoder"], latent)


def _backbone(encoder: Mapping[str, Any], mels: int) -> Shapes:
    dims, key = encoder["dims"], "backbone.downsample_layers"
    shapes = _conv(f"{key}.0.0.conv", dims[0], mels, 7) | _affine(f"{key}.0.1", dims[0])
    for i in range(1, len(dims)):
        shapes |= _affine(f"{key}.{i}.0", dims[i - 1]) | _conv(f"{key}.{i}.1", dims[i], dims[i - 1], 1)
    for i, depth in enumerate(encoder["depths"]):
        for j in range(depth):
            shapes |= _convnext(f"backbone.stages.{i}.{j}", dims[i], encoder["kernel_size"])
    return shapes | _affine("backbone.norm", dims[-1])


def _quantizer(quantizer: Mapping[str, Any], latent: int) -> Shapes:
    group, digits = latent // quantizer["groups"], len(quantizer["levels"])
    shapes: Shapes = {}
    for i in range(quantizer["groups"]):
        key = f"quantizer.residual_fsq.rvqs.{i}"
        shapes |= _linear(f"{key}.project_in", digits, group) | _linear(f"{key}.project_out", group, digits)
    for i, factor in enumerate(quantizer["downsample"]):
        for key in (f"quantizer.downsample.{i}", f"quantizer.upsample.{i}"):
            shapes |= _conv(f"{key}.0.conv", latent, latent, factor) | _convnext(f"{key}.1", latent)
    return shapes


def _head(decoder: Mapping[str, Any], latent: int) -> Shapes:
    width = decoder["initial_channels"]
    shapes = _normed("head.conv_pre.conv", width, latent, decoder["pre_kernel_size"])
    blocks = list(enumerate(decoder["resblock_kernel_sizes"]))
    dilations = range(len(decoder["resblock_dilations"]))
    for i, kernel in enumerate(decoder["upsample_kernel_sizes"]):
        width //= 2
        shapes |= _normed(f"head.ups.{i}.conv", 2 * width, width, kernel, bias=width)  # transposed: (in, out, kernel)
        for (j, size), half, d in itertools.product(blocks, ("convs1", "convs2"), dilations):
            shapes |= _normed(f"head.resblocks.{i}.blocks.{j}.{half}.{d}.conv", width, width, size)
    return shapes | _normed("head.conv_post.conv", 1, width, decoder["post_kernel_size"])


def _convnext(key: str, dim: int, kernel: int = 7) -> Shapes:
    return (
        {f"{key}.gamma": (dim,)}
        | _conv(f"{key}.dwconv.conv", dim, 1, kernel)
        | _affine(f"{key}.norm", dim)
        | _linear(f"{key}.pwconv1", 4 * dim, dim)
        | _linear(f"{key}.pwconv2", dim, 4 * dim)
    )


def _conv(key: str, out: int, inp: int, kernel: int) -> Shapes:
    return {f"{key}.weight": (out, inp, kernel), f"{key}.bias": (out,)}


def _normed(key: str, out: int, inp: int, kernel: int, bias: int | None = None) -> Shapes:
    original = f"{key}.parametrizations.weight.original"
    return {f"{key}.bias": (bias or out,), f"{original}0": (out, 1, 1), f"{original}1": (out, inp, kernel)}


def _linear(key: str, out: int, inp: int) -> Shapes:
    return {f"{key}.weight": (out, inp), f"{key}.bias": (out,)}


def _affine(key: str, dim: int) -> Shapes:
    return {f"{key}.weight": (dim,), f"{key}.bias": (dim,)}


def _weights(shapes: Shapes, seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return random values for every key, drawn in sorted order."""
    rng = np.random.Generator(np.random.Philox(seed))
    return {key: torch.from_numpy(_values(key, shapes[key], rng)).to(dtype) for key in sorted(shapes)}


def _values(key: str, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.floating[Any]]:
    """Return values that keep activations near unit scale."""
    x = rng.standard_normal(shape, dtype=np.float32)
    if key.endswith("original0"):  # magnitude of a weight-normed convolution
        return (0.6 if "resblocks" in key else 1.2) + 0.05 * x
    if key.endswith("gamma"):
        return 0.3 + 0.05 * x
    if key.endswith("bias"):
        return 0.05 * x
    if len(shape) == 1:  # a norm's scale
        return 1 + 0.05 * x
    if "embeddings" in key:
        return 0.5 * x
    # Larger logits at the end, so that sampling is not nearly uniform.
    return (3 if key.endswith("output.weight") else 1) * (x / np.sqrt(np.prod(shape[1:])))


def _bpe_ranks(count: int) -> list[bytes]:
    """Return 256 bytes, space + symbol and short letter strings: enough merges to tokenize text to more than bytes."""
    letters = b" etaoinshrdlucmfwypvbgkqjxz"
    ranks = [bytes([b]) for b in range(256)] + [b" " + bytes([c]) for c in b"$+<=>^`|~"]
    words = itertools.chain(
        (bytes(p) for p in itertools.product(letters, repeat=2)),
        (bytes(p) for n in (3, 4) for p in itertools.product(letters[1:], repeat=n)),
    )
    return [*ranks, *itertools.islice(words, count - len(ranks))]


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and write a checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m fishcli.testing.checkpoint", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=["full", "micro"], default="full", help="1.5 GB, or a few MB for tests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, default=3, help="micro only")
    parser.add_argument("--fast-layers", type=int, default=2, help="micro only")
    parser.add_argument("--codebooks", type=int, default=8, help="micro only")
    given = parser.parse_args(arguments)
    small = given.size == "micro"
    make(given.folder, micro(given.layers, given.fast_layers, given.codebooks) if small else FULL, given.seed)


if __name__ == "__main__":
    main()
