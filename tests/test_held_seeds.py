"""What seeds of earlier versions gave with the built-in voice in float32, and still give: codes to the last bit.

"long" and "voice", whose second chunks drew from the generator of the first then, are recorded anew.
"""

import json

import numpy as np
import pytest
from conftest import DATA, TINY

from fishcli import Reference, Request, SamplingParams, audio, load
from fishcli.checkpoints import local
from fishcli.native import build

REQUESTS = {
    "hello": dict(text="Hello, world!"),
    "long": dict(
        text="The train arrives at seven in the morning, and it leaves again at nine in the evening. "
        "We had breakfast on the balcony. The children went to school before the rain began, and nobody saw them "
        "come home again. It was a quiet day in the village, and the bells rang twice."
    ),
    "samples": dict(text="One sentence stands here. Another one follows it.", num_samples=2),
    "parallel": dict(
        text="One sentence stands here. Another one stands here. A third one is the last.",
        chunk_length=30,
        iterative_prompt=False,
    ),
    "greedy": dict(text="We had breakfast on the balcony."),
    "voice": dict(text="The bells rang twice. Nobody saw them come home again.", chunk_length=30),
}


@pytest.fixture(scope="module")
def held():
    with np.load(DATA / "held_seeds.npz") as arrays:
        return dict(arrays)


@pytest.fixture(
    scope="module",
    params=["eager", pytest.param("native", marks=pytest.mark.skipif(bool(build.why_not()), reason="no compiler"))],
)
def engine(request, tmp_path_factory):
    quiet = _without_gain(tmp_path_factory.mktemp("built-in"))
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "eager":
            patch.setattr(build, "is_built", lambda: False)
        made = load(quiet, device="cpu", dtype="float32", quantize="none", compile=request.param == "native", threads=1)
    assert made.plan.native == (request.param == "native")
    return made


def _without_gain(folder):
    """Return a copy of the built-in voice as it was: quieter, and without sampling parameters of its own."""
    for name in local.NEEDED:
        (folder / name).symlink_to(TINY / name)
    settings = json.loads((TINY / "codec.json").read_text())
    del settings["decoder"]["gain"]
    (folder / "codec.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def reference(engine, held):
    codes = engine.encode(audio.read(TINY / "reference.wav", engine.sample_rate))
    np.testing.assert_array_equal(codes, held["ref"])
    return Reference(codes, "He had seen the world through the window of a train.")


@pytest.mark.parametrize("seed", [0, 7, 42])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_held_seed_gives_the_same(engine, held, reference, name, seed):
    params = SamplingParams(seed=seed, temperature=0.0 if name == "greedy" else 0.7, max_new_tokens=150)
    references = [reference] if name == "voice" else []
    codes, samples = {}, {}
    for chunk in engine.speak(Request(references=references, sampling=params, **REQUESTS[name])):
        codes.setdefault(chunk.sample, []).append(chunk.codes)
        samples.setdefault(chunk.sample, []).append(chunk.samples)
    for i, parts in codes.items():
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), held[f"{name}_{seed}_{i}"])
        if (pcm := held.get(f"{name}_{seed}_{i}_pcm")) is not None:  # pieces had other sizes then
            sound = np.round(np.clip(np.concatenate(samples[i]), -1, 1) * 32767).astype(int)
            assert np.abs(sound - pcm).max() <= 1
