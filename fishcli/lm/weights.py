"""The tensors of `model.pth`: the shapes a checkpoint must have, and the weights that inference uses."""

from __future__ import annotations

import torch
from torch import Tensor

from fishcli.lm.quantize import Quantize, quantize
from fishcli.lm.settings import LMSettings, StackSettings

Shapes = dict[str, tuple[int, ...]]
Tensors = dict[str, Tensor]


def shapes(s: LMSettings) -> Shapes:
    """Return the shape of every tensor of the canonical layout by its key."""
    return {
        "embeddings.weight": (s.vocab_size, s.slow.dim),
        "codebook_embeddings.weight": (s.codebook_size * s.codebooks, s.slow.dim),
        "norm.weight": (s.slow.dim,),
        **({} if s.tied else {"output.weight": (s.vocab_size, s.slow.dim)}),
        **_stack_shapes("layers", s.slow),
        **_project_in_shapes(s),
        "fast_embeddings.weight": (s.codebook_size, s.fast.dim),
        **_stack_shapes("fast_layers", s.fast),
        "fast_norm.weight": (s.fast.dim,),
        "fast_output.weight": (s.codebook_size, s.fast.dim),
    }


def _project_in_shapes(s: LMSettings) -> Shapes:
    if s.fast.dim == s.slow.dim:
        return {}
    return {"fast_project_in.weight": (s.fast.dim, s.slow.dim), "fast_project_in.bias": (s.fast.dim,)}


def _stack_shapes(name: str, s: StackSettings) -> Shapes:
    block: Shapes = {
        "attention.wqkv.weight": (s.qkv, s.dim),
        **({"attention.wqkv.bias": (s.qkv,)} if s.qkv_bias else {}),
        "attention.wo.weight": (s.dim, s.heads * s.head_dim),
        "feed_forward.w1.weight": (s.inner, s.dim),
        "feed_forward.w3.weight": (s.inner, s.dim),
        "feed_forward.w2.weight": (s.dim, s.inner),
        "ffn_norm.weight": (s.dim,),
        "attention_norm.weight": (s.dim,),
    }
    return {f"{name}.{i}.{key}": shape for i in range(s.layers) for key, shape in block.items()}


def canonical(state: Tensors) -> Tensors:
    """Return the tensors of any fine-tune under canonical keys: no prefix `model.`, and q, k and v in one matrix.

    A tensor that does not fit stays under its own key, so that the check of the keys names it.
    """
    state = {_free(key.removeprefix("model."), key, state): tensor for key, tensor in state.items()}
    for key in [key for key in state if ".attention.wq." in key]:
        fused = key.replace(".wq.", ".wqkv.")
        parts = [key.replace(".wq.", f".{part}.") for part in ("wq", "wk", "wv")]
        if fused not in state and _stackable([state[part] for part in parts if part in state], len(parts)):
            state[fused] = torch.cat([state.pop(part) for part in parts])
    return state


def _free(wanted: str, key: str, state: Tensors) -> str:
    """Return the wanted name for a key, or the key itself if another tensor has that name."""
    return key if wanted in state else wanted


def _stackable(tensors: list[Tensor], count: int) -> bool:
    return len(tensors) == count and all(t.dim() and t.shape[1:] == tensors[0].shape[1:] for t in tensors)


def for_inference(state: Tensors, s: LMSettings, codes: int, semantic: int, end: int, kind: Quantize) -> Tensors:
    """Return the tensors that `Transformer` holds, from canonical ones.

    The output layers keep only the rows that can be sampled: the `codes` codes of the codec from token id `semantic`
    on, and the end of speech, `end`. w1 and w3 form one matrix. The matrices of the blocks are quantized to `kind`.
    """
    state = dict(state)
    output = state["embeddings.weight"] if s.tied else state["output.weight"]
    sampled = [*range(semantic, semantic + codes), end]
    state["output.weight"] = output[torch.tensor(sampled)]
    state["fast_output.weight"] = state["fast_output.weight"][:codes]
    for key in [key for key in state if key.endswith(".w1.weight")]:
        gate, up = state.pop(key), state.pop(key.replace(".w1.", ".w3."))
        _put(state, key.replace(".w1.", ".w13."), torch.cat([gate, up]), kind)
    for key in [key for key in state if key.endswith((".wqkv.weight", ".wo.weight", ".w2.weight"))]:
        _put(state, key, state[key], kind)
    return state


def _put(state: Tensors, key: str, weight: Tensor, kind: Quantize) -> None:
    """Store a matrix, quantized at once: memory never holds all of them twice."""
    if kind == "none":
        state[key] = weight
    else:
        state[key], state[key.removesuffix("weight") + "scales"] = quantize(weight, kind)
