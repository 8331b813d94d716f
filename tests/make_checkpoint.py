#!/usr/bin/env python3
"""Write a seeded random checkpoint in the layout of `fishaudio/fish-speech-1.5`.

The weights mean nothing, but every file, key, shape and dtype is the real model's, so the loader,
the speed and the memory that it shows are the real model's too. The same arguments give the same
bytes of weights on every machine (NumPy's Philox generator).

    make_checkpoint.py OUT                    the full model (1.28 GB + 189 MB)
    make_checkpoint.py OUT --size micro       a few MB, same structure, for tests
    make_checkpoint.py OUT --size micro --seed 7 --layers 2 --fast-layers 1 --codebooks 8
"""

import argparse
import base64
import itertools
import json
from pathlib import Path

import numpy as np
import torch

SPECIAL_TOKENS = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<|im_start|>", "<|im_end|>",
    *(f"<|placeholder:{i}|>" for i in range(4)),
    "<|text|>", "<|voice|>", "<|interleave|>",
    *(f"<|semantic:{i}|>" for i in range(1024)),
]  # fmt: skip

FULL_LM = dict(
    model_type="dual_ar", vocab_size=102048, n_layer=24, n_fast_layer=4, n_head=16, n_local_heads=2,
    head_dim=64, dim=1024, intermediate_size=4096, codebook_size=1024, num_codebooks=8,
    max_seq_len=8192, rope_base=1000000.0, norm_eps=1e-6, dropout=0.1, attention_qkv_bias=False,
    tie_word_embeddings=False, initializer_range=0.02, use_gradient_checkpointing=True,
)  # fmt: skip

FULL_CODEC = dict(
    sample_rate=44100, n_fft=2048, win_length=2048, hop_length=512, n_mels=160,
    encoder=dict(depths=[3, 3, 9, 3], dims=[128, 256, 384, 512], kernel_size=7),
    quantizer=dict(groups=8, levels=[8, 5, 5, 5], downsample=[2, 2]),
    decoder=dict(upsample_rates=[8, 8, 2, 2, 2], upsample_kernel_sizes=[16, 16, 4, 4, 4],
                 resblock_kernel_sizes=[3, 7, 11], resblock_dilations=[1, 3, 5], initial_channels=512,
                 pre_kernel_size=13, post_kernel_size=13),
)  # fmt: skip


def lm_shapes(c: dict) -> dict[str, tuple[int, ...]]:
    """Every key of model.pth with its shape."""
    dim, inner = c["dim"], c["intermediate_size"]
    qkv = (c["n_head"] + 2 * c["n_local_heads"]) * c["head_dim"]
    shapes = {
        "embeddings.weight": (c["vocab_size"], dim),
        "codebook_embeddings.weight": (c["codebook_size"] * c["num_codebooks"], dim),
        "norm.weight": (dim,),
        "output.weight": (c["vocab_size"], dim),
        "fast_embeddings.weight": (c["codebook_size"], dim),
        "fast_norm.weight": (dim,),
        "fast_output.weight": (c["codebook_size"], dim),
    }
    for stack, count in (("layers", c["n_layer"]), ("fast_layers", c["n_fast_layer"])):
        for i in range(count):
            shapes |= {
                f"{stack}.{i}.attention.wqkv.weight": (qkv, dim),
                f"{stack}.{i}.attention.wo.weight": (dim, dim),
                f"{stack}.{i}.feed_forward.w1.weight": (inner, dim),
                f"{stack}.{i}.feed_forward.w3.weight": (inner, dim),
                f"{stack}.{i}.feed_forward.w2.weight": (dim, inner),
                f"{stack}.{i}.ffn_norm.weight": (dim,),
                f"{stack}.{i}.attention_norm.weight": (dim,),
            }
    return shapes


def codec_shapes(c: dict) -> dict[str, tuple[int, ...]]:
    """Every key of the codec's .pth with its shape; weight-normed convolutions in two parts."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(key, out, inp, kernel, bias=None):
        shapes[f"{key}.weight"], shapes[f"{key}.bias"] = (out, inp, kernel), (bias or out,)

    def normed(key, out, inp, kernel, bias=None):
        shapes[f"{key}.bias"] = (bias or out,)
        shapes[f"{key}.parametrizations.weight.original0"] = (out, 1, 1)
        shapes[f"{key}.parametrizations.weight.original1"] = (out, inp, kernel)

    def affine(key, dim):
        shapes[f"{key}.weight"], shapes[f"{key}.bias"] = (dim,), (dim,)

    def convnext(key, dim, kernel=7):
        shapes[f"{key}.gamma"] = (dim,)
        conv(f"{key}.dwconv.conv", dim, 1, kernel)
        affine(f"{key}.norm", dim)
        shapes[f"{key}.pwconv1.weight"], shapes[f"{key}.pwconv1.bias"] = (4 * dim, dim), (4 * dim,)
        shapes[f"{key}.pwconv2.weight"], shapes[f"{key}.pwconv2.bias"] = (dim, 4 * dim), (dim,)

    enc, q, dec = c["encoder"], c["quantizer"], c["decoder"]
    dims = enc["dims"]
    conv("backbone.downsample_layers.0.0.conv", dims[0], c["n_mels"], 7)
    affine("backbone.downsample_layers.0.1", dims[0])
    for i in range(1, len(dims)):
        affine(f"backbone.downsample_layers.{i}.0", dims[i - 1])
        conv(f"backbone.downsample_layers.{i}.1", dims[i], dims[i - 1], 1)
    for i, depth in enumerate(enc["depths"]):
        for j in range(depth):
            convnext(f"backbone.stages.{i}.{j}", dims[i], enc["kernel_size"])
    affine("backbone.norm", dims[-1])

    latent = dims[-1]
    group, digits = latent // q["groups"], len(q["levels"])
    for g in range(q["groups"]):
        key = f"quantizer.residual_fsq.rvqs.{g}"
        shapes[f"{key}.project_in.weight"], shapes[f"{key}.project_in.bias"] = (digits, group), (digits,)
        shapes[f"{key}.project_out.weight"], shapes[f"{key}.project_out.bias"] = (group, digits), (group,)
    for i, factor in enumerate(q["downsample"]):
        conv(f"quantizer.downsample.{i}.0.conv", latent, latent, factor)
        convnext(f"quantizer.downsample.{i}.1", latent)
        conv(f"quantizer.upsample.{i}.0.conv", latent, latent, factor)
        convnext(f"quantizer.upsample.{i}.1", latent)

    width = dec["initial_channels"]
    normed("head.conv_pre.conv", width, latent, dec["pre_kernel_size"])
    for i, kernel in enumerate(dec["upsample_kernel_sizes"]):
        out = width // 2 ** (i + 1)
        normed(f"head.ups.{i}.conv", 2 * out, out, kernel, bias=out)  # transposed: (in, out, kernel)
        for b, size in enumerate(dec["resblock_kernel_sizes"]):
            for half, d in itertools.product(("convs1", "convs2"), range(len(dec["resblock_dilations"]))):
                normed(f"head.resblocks.{i}.blocks.{b}.{half}.{d}.conv", out, out, size)
    normed("head.conv_post.conv", 1, out, dec["post_kernel_size"])
    return shapes


def fill(shapes: dict, seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Seeded values that keep activations near unit scale, drawn key by key in sorted order."""
    rng = np.random.Generator(np.random.Philox(seed))
    weights = {}
    for key in sorted(shapes):
        shape = shapes[key]
        x = rng.standard_normal(shape, dtype=np.float32)
        if key.endswith("original0"):  # magnitude of a weight-normed convolution
            x = (0.6 if "resblocks" in key else 1.2) + 0.05 * x
        elif key.endswith("gamma"):
            x = 0.3 + 0.05 * x
        elif key.endswith("bias"):
            x = 0.05 * x
        elif len(shape) == 1:  # a norm's scale
            x = 1 + 0.05 * x
        elif "embeddings" in key:
            x = 0.5 * x
        else:
            x = x / np.sqrt(np.prod(shape[1:]))
        if key.endswith(("output.weight", "fast_output.weight")):
            x = 3 * x  # sharper than uniform, so that sampling has something to choose
        weights[key] = torch.from_numpy(x).to(dtype)
    return weights


def bpe_ranks(count: int) -> list[bytes]:
    """256 bytes, space + symbol, short letter strings: enough merges that text tokenizes to more than bytes."""
    letters = b" etaoinshrdlucmfwypvbgkqjxz"
    ranks = [bytes([b]) for b in range(256)] + [b" " + bytes([c]) for c in b"$+<=>^`|~"]
    words = itertools.chain(
        (bytes(p) for p in itertools.product(letters, repeat=2)),
        (bytes(p) for n in (3, 4) for p in itertools.product(letters[1:], repeat=n)),
    )
    ranks += itertools.islice(words, count - len(ranks))
    assert len(ranks) == count
    return ranks


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", choices=["full", "micro"], default="full")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, default=3, help="micro only")
    parser.add_argument("--fast-layers", type=int, default=2, help="micro only")
    parser.add_argument("--codebooks", type=int, default=8, help="micro only")
    args = parser.parse_args()

    lm, codec, ranks = FULL_LM, FULL_CODEC, 100_000
    if args.size == "micro":
        ranks = 900
        lm = lm | dict(dim=64, head_dim=16, n_head=4, n_local_heads=2, intermediate_size=160, max_seq_len=512,
                       n_layer=args.layers, n_fast_layer=args.fast_layers, num_codebooks=args.codebooks,
                       vocab_size=ranks + len(SPECIAL_TOKENS) + 12)  # fmt: skip
        codec = codec | dict(
            n_mels=32,
            encoder=dict(depths=[1, 1, 2, 1], dims=[16, 24, 32, 64], kernel_size=7),
            quantizer=codec["quantizer"] | dict(groups=args.codebooks),
            decoder=codec["decoder"] | dict(initial_channels=32),
        )

    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "config.json").write_text(json.dumps(lm, indent=2) + "\n")
    (args.out / "tokenizer.tiktoken").write_text(
        "".join(f"{base64.b64encode(t).decode()} {i}\n" for i, t in enumerate(bpe_ranks(ranks)))
    )
    (args.out / "special_tokens.json").write_text(
        json.dumps({t: ranks + i for i, t in enumerate(SPECIAL_TOKENS)}, indent=2) + "\n"
    )
    torch.save(fill(lm_shapes(lm), args.seed, torch.bfloat16), args.out / "model.pth")
    torch.save(
        fill(codec_shapes(codec), args.seed + 1, torch.float32),
        args.out / "firefly-gan-vq-fsq-8x1024-21hz-generator.pth",
    )
    if args.size == "micro":
        (args.out / "codec.json").write_text(json.dumps(codec, indent=2) + "\n")


if __name__ == "__main__":
    main()
