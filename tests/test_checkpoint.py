"""Loading checkpoints: every layout, and an error with the key for every fault."""

import collections
import json
import logging
import re
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import TESTS

from fishcli.checkpoints import convert, local
from fishcli.engine import Engine
from fishcli.errors import InputError
from fishcli.lm import weights
from fishcli.lm.settings import LMSettings
from fishcli.lm.tokenizer import Tokenizer
from fishcli.runners.plan import Plan

CPU = torch.device("cpu")


def engine(folder, dtype=torch.float32):
    """Return an Engine without any loaded part."""
    return Engine(local.find(folder), folder / local.CODEC, Plan(CPU, dtype))


def lm(folder, dtype=torch.float32):
    return engine(folder, dtype).lm.state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def state(micro):
    """The tensors in the file of the micro checkpoint."""
    return torch.load(micro / "model.pth", weights_only=True)


@pytest.fixture
def write(micro, tmp_path):
    """Write the micro checkpoint with another model.pth and other settings, and return its folder."""

    def write(model, zipped=True, **settings):
        folder = tmp_path / "checkpoint"
        shutil.copytree(micro, folder, dirs_exist_ok=True)
        config = json.loads((micro / "config.json").read_text()) | settings
        (folder / "config.json").write_text(json.dumps(config))
        torch.save(model, folder / "model.pth", _use_new_zipfile_serialization=zipped)
        return folder

    return write


def seeded(micro, **settings):
    """Return a state dict for the micro checkpoint with other settings."""
    config = json.loads((micro / "config.json").read_text()) | settings
    random = torch.Generator().manual_seed(5)
    shapes = weights.shapes(LMSettings.from_dict(config))
    return {key: torch.randn(shape, generator=random) / 8 for key, shape in shapes.items()}


# Layouts


def split(state):
    """Split q, k and v into separate matrices."""
    separate = {}
    for key, tensor in state.items():
        if ".wqkv." in key:
            for part, rows in zip(("wq", "wk", "wv"), tensor.split([64, 32, 32]), strict=True):
                separate[key.replace("wqkv", part)] = rows
        else:
            separate[key] = tensor
    return separate


def prefixed(state):
    return {f"model.{key}": tensor for key, tensor in state.items()}


def views_of_one(state):
    flat = torch.cat([tensor.flatten() for tensor in state.values()])
    parts = flat.split([tensor.numel() for tensor in state.values()])
    return {key: part.view(tensor.shape) for part, (key, tensor) in zip(parts, state.items(), strict=True)}


def transposed(state):
    return {key: tensor.t().contiguous().t() if tensor.dim() == 2 else tensor for key, tensor in state.items()}


def of_a_module(state):
    """Return the state as an OrderedDict with metadata, like `Module.state_dict`."""
    ordered = collections.OrderedDict(state)
    ordered._metadata = collections.OrderedDict({"": {"version": 1}})
    return ordered


LAYOUTS = {
    "wq, wk, wv": split,
    "prefix": prefixed,
    "prefix on some": lambda state: dict(list(state.items())[:5]) | prefixed(dict(list(state.items())[5:])),
    "wrapper": lambda state: {"state_dict": state, "epoch": 3},
    "wrapper, prefix, wq, wk, wv": lambda state: {"state_dict": prefixed(split(state))},
    "state_dict()": of_a_module,
    "parameters": lambda state: {key: torch.nn.Parameter(tensor) for key, tensor in state.items()},
    "views of one storage": views_of_one,
    "transposed": transposed,
    "float64": lambda state: {key: tensor.double() for key, tensor in state.items()},
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_the_same_model(micro, state, write, layout, zipped):
    assert same(lm(write(LAYOUTS[layout](state), zipped)), lm(micro))


def test_biases_of_attention(micro, write):
    state = seeded(micro, attention_qkv_bias=True)
    fused = engine(write(state, attention_qkv_bias=True)).lm
    assert torch.equal(fused.layers[1].attention.wqkv.bias, state["layers.1.attention.wqkv.bias"])
    assert same(lm(write(split(state), attention_qkv_bias=True)), fused.state_dict())


def test_tied_embeddings_are_the_output(micro, write):
    tied = seeded(micro, tie_word_embeddings=True)
    untied = tied | {"output.weight": tied["embeddings.weight"]}  # one storage under two names
    assert same(lm(write(tied, tie_word_embeddings=True)), lm(write(untied)))


def test_a_fast_transformer_of_its_own_width(micro, write):
    settings = dict(fast_dim=48, fast_n_head=3, fast_n_local_heads=1, fast_intermediate_size=96, fast_head_dim=8)
    state = seeded(micro, **settings)
    loaded = engine(write(state, **settings))
    assert torch.equal(loaded.lm.fast_project_in.weight, state["fast_project_in.weight"])
    assert torch.equal(loaded.lm.fast_project_in.bias, state["fast_project_in.bias"])
    assert next(loaded.generate("Hello.")).codes.shape[0] == 8


def test_unused_weights_are_dropped(micro, state):
    """Each tensor is that of the source, except the output rows of tokens that cannot be sampled."""
    kept, tokenizer = lm(micro, torch.bfloat16), engine(micro).tokenizer
    choices = [*range(tokenizer.semantic, tokenizer.semantic + 1000), tokenizer.end]
    for key, tensor in kept.items():
        if key == "output.weight":
            assert torch.equal(tensor, state[key][choices])
        elif key == "fast_output.weight":
            assert torch.equal(tensor, state[key][:1000])
        elif ".w13." in key:
            parts = [state[key.replace("w13", part)] for part in ("w1", "w3")]
            assert torch.equal(tensor, torch.cat(parts))
        else:
            assert torch.equal(tensor, state[key])


# Faults, each in one sentence that names the key


def test_every_key_is_checked(micro, state):
    shapes = weights.shapes(LMSettings.from_dict(convert.read_settings(micro / "config.json")))
    for key in state:
        spoilt = state[key].clone()
        spoilt.flatten()[-1] = float("nan")
        for fault in (
            {name: tensor for name, tensor in state.items() if name != key},
            state | {f"{key}.more": state[key]},
            state | {key: state[key][:-1]},
            state | {key: spoilt},
        ):
            with pytest.raises(InputError, match=f"^model.pth.*{re.escape(key)}.*[.?]$"):
                convert.check(fault, shapes, "model.pth")


FAULTS = {
    "one is missing": (lambda s: {k: v for k, v in s.items() if k != "norm.weight"}, "lacks norm.weight;"),
    "all are missing": (lambda s: {"x": torch.ones(1)}, r"lacks codebook_embeddings.weight, .*, .* and \d+ more;"),
    "one too many": (lambda s: s | {"lora": torch.ones(1)}, "holds lora, which this model does not have"),
    "a name with a line break": (lambda s: s | {"a\n\x1b[2J": torch.ones(1)}, r"holds 'a\\n\\x1b\[2J', which"),
    "a shape": (lambda s: s | {"norm.weight": torch.ones(65)}, r"norm.weight has the shape \(65,\) instead of \(64,\)"),
    "NaN": (lambda s: s | {"norm.weight": torch.full([64], float("nan"))}, "norm.weight contains NaN or infinite"),
    "one name twice": (lambda s: s | {"model.norm.weight": torch.ones(64)}, "holds model.norm.weight, which"),
    "q, k and v of two widths": (
        lambda s: {
            **{key: tensor for key, tensor in s.items() if key != "layers.0.attention.wqkv.weight"},
            **{f"layers.0.attention.w{part}.weight": torch.ones(32, i) for i, part in enumerate("qkv")},
        },
        "lacks layers.0.attention.wqkv.weight;",
    ),
    "infinity": (
        lambda s: s | {"norm.weight": torch.full([64], -float("inf"))},
        "norm.weight contains NaN or infinite",
    ),
    "integers": (lambda s: s | {"norm.weight": torch.ones(64, dtype=torch.int8)}, "norm.weight is not a plain tensor"),
    "float8": (lambda s: s | {"norm.weight": torch.ones(64).to(torch.float8_e5m2)}, "refers to|not a plain tensor"),
    "a list": (lambda s: s | {"norm.weight": [1.0] * 64}, "norm.weight is not a plain tensor"),
    "a number as key": (lambda s: s | {7: torch.ones(64)}, "7 is not a plain tensor"),
    "no dict": (lambda s: [1, 2], "does not hold a dict"),
    "nothing": (lambda s: {}, "does not hold a dict"),
    "an object": (lambda s: s | {"norm.weight": logging.Formatter()}, "refers to logging.Formatter"),
    "one value 10^12 times": (lambda s: s | {"x": torch.ones(1).expand(10**6, 10**6)}, "more data than its size"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_sentence(state, write, fault):
    change, message = FAULTS[fault]
    folder = write(change(state))
    with pytest.raises(InputError, match=message) as raised:
        lm(folder)
    assert str(folder / "model.pth") in str(raised.value)
    assert str(raised.value).isprintable()
    assert not list(convert.converted_file(folder / "model.pth", torch.float32).parent.glob("*.tmp"))


def test_values_too_large_for_float16(state, write):
    large = write(state | {"norm.weight": torch.full([64], 1e6)})
    assert lm(large)["norm.weight"].max() == 1e6
    with pytest.raises(InputError, match=r"norm\.weight has values too large for float16; float32 can hold them"):
        lm(large, torch.float16)


def test_incompatible_parts(micro, write):
    """A model of two codebooks with a codec of eight; a vocabulary smaller than the tokenizer's."""
    for settings in ({"num_codebooks": 2}, {"vocab_size": 1000}, {"codebook_size": 512}):
        with pytest.raises(InputError, match="do not belong together"):
            lm(write(seeded(micro, **settings), **settings))


@pytest.mark.parametrize("name", ["model.pth", local.CODEC, "config.json", "special_tokens.json", "tokenizer.tiktoken"])
def test_a_folder_in_place_of_a_file(micro, write, state, name):
    loaded = engine(write(state))
    (loaded.model.path / name).unlink()
    (loaded.model.path / name).mkdir()
    with pytest.raises(InputError, match=re.escape(name)):
        _ = loaded.lm, loaded.codec


# Settings and tokens

CONFIGS = [
    ("n_layer", [0, -1, 10**9, 1.5, "3", True, None, [3], {}, "x" * 10**5]),
    ("vocab_size", [0, 10**9, 2**64, "1948"]),
    ("head_dim", [15, -16, 10**4, 1e400]),
    ("n_local_heads", [3, 0]),
    ("fast_dim", [-1, 2**20, "64"]),
    ("max_seq_len", [0, 10**7]),
    ("rope_base", [0, -1, float("nan"), float("inf"), 10**400, 1e300, "1e6", True, None]),
    ("norm_eps", [0, -1, float("nan"), float("inf"), 10**400, 2]),
    ("tie_word_embeddings", ["false", 1, []]),
    ("attention_qkv_bias", ["false", 0]),
    ("model_type", ["llama", 5, ["dual_ar"], "x" * 10**5]),
]


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in CONFIGS for value in values], ids=repr)
def test_an_invalid_dimension(micro, key, value):
    config = json.loads((micro / "config.json").read_text()) | {key: value}
    with pytest.raises(InputError) as raised:
        LMSettings.from_dict(config)
    assert (key in str(raised.value) or key == "model_type") or "do not divide" in str(raised.value)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[1]", b"[" * 10**5, b'{"a": ' * 10**5, b"9" * 5000, b" " * 2**21]
)
def test_an_invalid_json_file(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"config.json.*download the checkpoint again\.$"):
        convert.read_settings(tmp_path / "config.json")


def renumbered(**changes):
    return lambda tokens: json.dumps(tokens | changes)


@pytest.mark.parametrize(
    "change",
    [
        renumbered(**{"<|im_end|>": 0}),
        renumbered(**{"<|im_end|>": -1}),
        renumbered(**{"<|im_end|>": 2**40}),
        renumbered(**{"<|im_end|>": "904"}),
        renumbered(**{"<|im_end|>": 904.0}),
        renumbered(**{"<|im_end|>": [[]]}),
        renumbered(**{"<|semantic:1|>": 914, "<|semantic:2|>": 913}),
        lambda tokens: json.dumps({name: i for name, i in tokens.items() if name != "<|im_end|>"}),
        lambda tokens: json.dumps(list(tokens)),
        lambda tokens: "{",
    ],
)
def test_invalid_control_tokens(micro, tmp_path, change):
    specials = json.loads((micro / "special_tokens.json").read_text())
    (tmp_path / "special_tokens.json").write_text(change(specials))
    with pytest.raises(InputError, match=r"special_tokens.json"):
        Tokenizer(micro / "tokenizer.tiktoken", tmp_path / "special_tokens.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:-1],
        lambda lines: lines[1:],
        lambda lines: [*lines, lines[0]],
        lambda lines: [*lines[:-1], b"AAAA 5"],
        lambda lines: [*lines[:-1], b"AAAA 99999999999999999999"],
        lambda lines: [*lines[:-1], b"AAAA -1"],
        lambda lines: [*lines[:-1], b"AAAA"],
        lambda lines: [*lines[:-1], b"AAAA 1 1"],
        lambda lines: [*lines[:-1], b"A*A 899"],
        lambda lines: [b"\x00" * 100],
        lambda lines: [],
    ],
)
def test_invalid_ranks(micro, tmp_path, change):
    lines = (micro / "tokenizer.tiktoken").read_bytes().splitlines()
    (tmp_path / "tokenizer.tiktoken").write_bytes(b"\n".join(change(lines)))
    with pytest.raises(InputError, match=r"(tokenizer.tiktoken|special_tokens.json)"):
        Tokenizer(tmp_path / "tokenizer.tiktoken", micro / "special_tokens.json")


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that uses torch")
@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_hostile_checkpoints(count):
    subprocess.run([sys.executable, TESTS / "hostile_checkpoints.py", str(count)], check=True, timeout=1800)
