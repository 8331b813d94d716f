"""Load hostile checkpoints: `python tests/hostile_checkpoints.py [200]`, offline, with no other set-up.

Each is the micro checkpoint with one file spoilt, by a seeded draw. A forked process loads it as every command
does. It must refuse with one InputError; or, where the damage leaves the tensors alone, have the very tensors.
No code of the file may run, and memory and time stay small.
"""

import collections
import json
import os
import pickle
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from fishcli.checkpoints import local
from fishcli.engine import Engine
from fishcli.errors import InputError
from fishcli.runners.plan import Plan
from fishcli.testing.checkpoint import make, micro

MEMORY = 300 << 10  # kB more than before
SECONDS = 10  # of CPU
REFUSED, SAME, WRONG = 0, 1, 2

State = dict[str, torch.Tensor]


class Calls:
    """An object that pickles as a call of a function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def gadget(draw: random.Random) -> object:
    """Return objects whose unpickling would create a file `ran`, or fill the memory."""
    source = "open('ran', 'w')"
    return draw.choice(
        [
            Calls(os.system, "touch ran"),
            Calls(eval, source),
            Calls(exec, source),
            Calls(open, "ran", "w"),
            Calls(subprocess.Popen, ["touch", "ran"]),
            Calls(getattr, Calls(__import__, "os"), "system"),
            Calls(torch.load, "inner.pth"),
            Calls(torch.hub.load, ".", "entry"),
            Calls(bytearray, 1 << 36),
            Calls(torch.Tensor, 1 << 20, 1 << 20),
            Calls(torch.empty, 1 << 36),
            Calls(torch.jit.load, "inner.pth"),
            Calls(shutil.copy, "model.pth", "ran"),
        ]
    )


def endless(draw: random.Random) -> bytes:
    """Return the pickle of a dict with a key that takes very long to hash, or overflows the stack."""
    doubled = b")q\0" + b"h\0\x86q\0" * 60  # x = (x, x)
    deep = b")" + b"\x85" * 200_000  # x = (x,)
    return b"\x80\2}" + draw.choice([doubled, deep]) + b"K\1s."


# Ways to spoil a file: (draw, its tensors, its path) -> nothing; the file at that path is changed.


def runs_code(draw: random.Random, state: State, path: Path) -> None:
    content = draw.choice([gadget(draw), {"state_dict": gadget(draw)}, state | {draw.choice([*state]): gadget(draw)}])
    write = draw.choice([write_zip, write_old, lambda path, content: path.write_bytes(pickle.dumps(content, 2))])
    write(path, content)


def write_zip(path: Path, content: object) -> None:
    torch.save(content, path)


def write_old(path: Path, content: object) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def never_ends(draw: random.Random, state: State, path: Path) -> None:
    if draw.random() < 0.5:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/data.pkl", endless(draw))
            archive.writestr("model/version", "3\n")
    else:
        start = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
        path.write_bytes(b"".join(pickle.dumps(part, 2) for part in start) + endless(draw) + pickle.dumps([], 2))


def cut(draw: random.Random, state: State, path: Path) -> None:
    draw.choice([write_zip, write_old])(path, state)
    whole = path.read_bytes()
    path.write_bytes(whole[: draw.choice([draw.randrange(100), draw.randrange(len(whole))])])


def flipped(draw: random.Random, state: State, path: Path) -> None:
    """Flip bits of the archive, anywhere or in its structure."""
    write_zip(path, state)
    spoil(draw, path)


def flipped_old(draw: random.Random, state: State, path: Path) -> None:
    """Flip bits of the pickles of the old format; its data has no checksum."""
    write_old(path, state)
    whole = path.read_bytes()
    spoil(draw, path, end=whole.index(b"weight", len(whole) // 2) if b"weight" in whole[len(whole) // 2 :] else 2000)


def spoil(draw: random.Random, path: Path, end: int | None = None) -> None:
    data = bytearray(path.read_bytes())
    structure = [i for mark in (b"PK\1\2", b"PK\5\6", b"PK\3\4") for i in find(data, mark)] or [0]
    for _ in range(draw.choice([1, 1, 3, 20])):
        near = draw.choice(structure) + draw.randrange(60)
        place = draw.choice([draw.randrange(end or len(data)), near if end is None else draw.randrange(200)])
        data[min(place, len(data) - 1)] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def find(data: bytes, mark: bytes) -> list[int]:
    places, i = [], data.find(mark)
    while i >= 0:
        places.append(i)
        i = data.find(mark, i + 1)
    return places


def zipped_anew(draw: random.Random, state: State, path: Path) -> None:
    """Compress, duplicate, rename, drop or inflate records, or give false sizes."""
    write_zip(path, state)
    with zipfile.ZipFile(path) as archive:
        parts = [(member.filename, archive.read(member)) for member in archive.infolist()]
    kind = draw.randrange(7)
    method = zipfile.ZIP_DEFLATED if kind in (0, 1) else zipfile.ZIP_STORED
    if kind == 1:
        parts.append(("model/data/bomb", bytes(200 << 20)))
    elif kind == 2:
        parts.append((parts[0][0].upper(), draw.randbytes(100)))
    elif kind == 3:
        parts.pop(draw.randrange(len(parts)))
    elif kind == 4:
        parts = [(name, b"(" * (30 << 20) if name.endswith("data.pkl") else data) for name, data in parts]
    elif kind == 5:
        parts = [(name, data.replace(b"K@", b"K\x7f")) for name, data in parts]
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in parts:
            archive.writestr(name, data)
    if kind == 6:  # sizes in the directory that go far beyond the file
        data = bytearray(path.read_bytes())
        for place in draw.sample(find(data, b"PK\1\2"), 3):
            struct.pack_into("<II", data, place + 20, 0xFFFFFFF0, 0xFFFFFFF0)
        path.write_bytes(data)


def two_archives(draw: random.Random, state: State, path: Path) -> None:
    """Write an archive for `zipfile`, which shifts offsets by what stands before it, and another one for torch."""
    other = {key: tensor + draw.choice([0.5, 1]) for key, tensor in state.items()}
    first, second = draw.sample([zipped(path, state), zipped(path, other)], 2)
    path.write_bytes(joined(first, second))


def zipped(path: Path, content: object, **replaced: bytes) -> bytes:
    """Return the plain archive of a content; `replaced` are other contents of records, such as `pkl`."""
    write_zip(path, content)
    with zipfile.ZipFile(path) as archive:
        parts = [(member.filename, archive.read(member)) for member in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts:
            archive.writestr(zipfile.ZipInfo(name), replaced.get(name.rpartition(".")[2], data))
    return path.read_bytes()


def joined(torchs: bytes, zipfiles: bytes) -> bytes:
    """Join two archives of one size. The end has the offset of the first directory, and stands behind the second."""
    assert len(torchs) == len(zipfiles)
    return torchs[:-22] + zipfiles


def of_a_wrong_type(draw: random.Random, state: State, path: Path) -> None:
    key, w = draw.choice([*state]), torch.ones(4, 4)
    values = [
        *(1, 1.5, "x", None, [w], {"a": {"b": w}}, (w,), b"x", True, 10**400, set(), w.shape, w.dtype),
        *(w.to_sparse(), w.to_sparse_csr(), w.to(torch.complex64), w.int(), w.bool(), w.to(torch.uint8)),
        *(torch.empty(4, 4, device="meta"), w.to(torch.float8_e4m3fn), torch.nested.nested_tensor([w, w])),
        *(torch.quantize_per_tensor(w, 0.1, 0, torch.quint8), torch._neg_view(w), torch.complex(w, w).conj()),
    ]
    draw.choice([write_zip, write_old])(path, state | {key: draw.choice(values)})


def of_a_wrong_structure(draw: random.Random, state: State, path: Path) -> None:
    hidden = collections.OrderedDict(state | {"more": torch.ones(1)})
    hidden.__dict__.update(dict.fromkeys(("get", "keys", "values", "pop"), 1))
    key = draw.choice([*state])
    contents = [
        *([*state.items()], [], {}, None, 7, "model", state[key], {"state_dict": {"state_dict": state}}),
        *(hidden, {"state_dict": 5}, {"state_dict": {}}, state | {5: state[key]}, state | {(1, 2): state[key]}),
        *(state | {b"x": state[key]}, state | {None: state[key]}, state | {((1, (2,)),): state[key]}),
    ]
    write_zip(path, draw.choice(contents))


def of_wrong_numbers(draw: random.Random, state: State, path: Path) -> None:
    """Change keys, shapes and values; tensors with more elements than the file has."""
    key = draw.choice([*state])
    tensor = state[key]
    spoilt = tensor.clone()
    spoilt.flatten()[draw.randrange(tensor.numel())] = draw.choice([float("nan"), float("inf"), -float("inf")])
    huge = torch.ones(1, dtype=tensor.dtype)
    small = {name: value for name, value in state.items() if name != key}
    attention = next((name for name in state if ".wqkv." in name), key)
    fused = {name: value for name, value in state.items() if name != attention}
    parts = [attention.replace("wqkv", part) for part in ("wq", "wk", "wv")]
    contents = [
        *(small, state | {f"x.{key}": tensor}, state | {key: spoilt}, state | {key: tensor[..., :-1]}),
        *(state | {key: tensor[None]}, state | {key: tensor.new_empty(0)}, state | {key: huge.expand(10**6, 10**6)}),
        *(state | {key: huge.expand(2**62)}, state | {key: huge.as_strided((10**9,), (0,))}),
        *(state | {f"model.{key}": tensor + 1}, state | {f"generator.{key}": tensor + 1}),
        *(state | dict.fromkeys(parts, tensor[:32]), fused | {parts[0]: tensor, parts[1]: tensor}),
        fused | {part: huge.expand(10**6, 10**6) for part in parts},
        fused | {part: torch.ones(2, i + 1) for i, part in enumerate(parts)},
        fused | {part: torch.tensor(1.0) for part in parts},
        state | {f"{i}.attention.{part}.weight": tensor for i in range(900) for part in ("wq", "wk", "wv")},
        {**state, f"{key}_g": huge.expand(10**6, 1), f"{key}_v": huge.expand(10**6, 10**6)},
    ]
    draw.choice([write_zip, write_old])(path, draw.choice(contents))


def settings(draw: random.Random, state: State, path: Path) -> None:
    """Change config.json."""
    config = json.loads((path.parent / "config.json").read_text())
    values = [0, -1, 10**9, 2**64, 10**400, 1e300, float("nan"), float("inf"), "1", None, True, [], {}, [[[1]]], 3, 7]
    for _ in range(draw.choice([1, 1, 4])):
        config[draw.choice([*config, "fast_dim", "fast_n_head", "fast_head_dim"])] = draw.choice(values)
    text = json.dumps(config)
    text = draw.choice([text, text, text, text[: draw.randrange(len(text))], "[" * 10**5, "null"])
    (path.parent / "config.json").write_text(text)


def tokens(draw: random.Random, state: State, path: Path) -> None:
    """Change the files of the tokenizer."""
    name = draw.choice(["special_tokens.json", "tokenizer.tiktoken"])
    data = bytearray((path.parent / name).read_bytes())
    for _ in range(draw.choice([1, 3, 100])):
        place = draw.randrange(len(data))
        data[place : place + draw.randrange(1, 3)] = draw.randbytes(draw.randrange(3))
    (path.parent / name).write_bytes(data[: draw.choice([len(data), draw.randrange(len(data))])])


WAYS: list[Callable[[random.Random, State, Path], None]] = [
    *(runs_code, runs_code, never_ends, cut, flipped, flipped_old, zipped_anew, two_archives, of_a_wrong_type),
    of_a_wrong_structure,
    *(of_wrong_numbers, of_wrong_numbers, settings, tokens),
]


def loaded(folder: Path) -> tuple[State, State]:
    engine = Engine(local.find(folder), folder / local.CODEC, Plan(torch.device("cpu"), torch.float32))
    return engine.lm.state_dict(), engine.codec.state_dict()


def outcome(folder: Path, expected: tuple[State, State]) -> int:
    try:
        parts = loaded(folder)
    except InputError as error:
        message = str(error)
        return REFUSED if message.isprintable() and len(message) < 1000 and message.endswith((".", "?")) else WRONG
    equal = all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
        for a, b in zip(parts, expected, strict=True)
    )
    return SAME if equal else WRONG


def judged(folder: Path, expected: tuple[State, State]) -> tuple[int, str]:
    """Return the outcome in another process, and what is wrong with it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        os.chdir(folder)
        try:
            os._exit(outcome(folder, expected))
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(99)
    _, status, usage = os.wait4(child, 0)
    faults = [
        *([] if os.WIFEXITED(status) and os.WEXITSTATUS(status) in (REFUSED, SAME) else [f"ended with {status:#x}"]),
        *([] if usage.ru_maxrss < before + MEMORY else [f"took {(usage.ru_maxrss - before) >> 10} MB"]),
        *(["ran code"] if (folder / "ran").exists() else []),
    ]
    return os.WEXITSTATUS(status), ", ".join(faults)


def main(count: int) -> None:
    torch.set_num_threads(1)  # threads do not live through a fork
    warnings.simplefilter("ignore")  # torch's, about the kinds of tensors that are made here
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["FISHCLI_CACHE_DIR"] = f"{scratch}/cache"
        good, folder = Path(scratch) / "good", Path(scratch) / "hostile"
        make(good, micro())
        expected = loaded(good)
        states = {name: torch.load(good / name, weights_only=True) for name in ("model.pth", local.CODEC)}
        outcomes, failures, slowest = collections.Counter(), [], 0.0
        for i in range(count):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(good, folder)
            draw, way = random.Random(i), WAYS[i % len(WAYS)]
            name = draw.choice([*states])
            way(draw, states[name], folder / name)
            start = time.monotonic()
            result, faults = judged(folder, expected)
            slowest = max(slowest, time.monotonic() - start)
            outcomes[result] += 1
            if faults:
                failures.append(f"{i}: {way.__name__} of {name} {faults}")
    assert not failures, "\n".join(failures)
    print(f"{outcomes[REFUSED]} of {count} refused, {outcomes[SAME]} unharmed, the slowest in {slowest:.1f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
