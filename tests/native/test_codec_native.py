"""The codec's decoder as it is compiled: against PyTorch's, the golden numbers, and itself in pieces."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import TINY
from hypothesis import given, settings
from hypothesis import strategies as st
from native_models import instruction_set

from fishcli.codec import CodecSettings, Firefly
from fishcli.engine import load
from fishcli.errors import InputError
from fishcli.native import build
from fishcli.runners.native_codec import NativeDecoder

pytestmark = [
    pytest.mark.skipif(build.why_not() is not None, reason="there is no C++ compiler"),
    pytest.mark.usefixtures("one_thread"),  # PyTorch's would be in the way of ours
]

ODD = CodecSettings.from_dict(
    {
        "n_fft": 64,
        "win_length": 64,
        "hop_length": 30,
        "encoder": {"depths": [1], "dims": [24]},
        "quantizer": {"groups": 3, "levels": [5, 4], "downsample": [3]},
        "decoder": {
            "upsample_rates": [5, 3, 2],
            "upsample_kernel_sizes": [12, 3, 3],
            "resblock_kernel_sizes": [1, 2, 5, 13],
            "resblock_dilations": [2, 7],
            "initial_channels": 328,
            "pre_kernel_size": 1,
            "post_kernel_size": 4,
        },
    }
)


def seeded(settings: CodecSettings) -> Firefly:
    torch.manual_seed(0)
    codec = Firefly(settings)
    for block in codec.quantizer.upsample:
        torch.nn.init.normal_(block[1].gamma)
        torch.nn.init.normal_(block[1].norm.bias)
    return codec


@pytest.fixture(scope="module")
def codecs(micro) -> dict[str, Firefly]:
    trained = load(TINY, device="cpu", dtype="float32").codec
    return {"micro": load(micro, device="cpu", dtype="float32").codec, "tiny": trained, "odd": seeded(ODD)}


@pytest.fixture(scope="module")
def decoder(codecs) -> NativeDecoder:
    return NativeDecoder(codecs["micro"], 2)


@pytest.fixture(scope="module")
def codes() -> torch.Tensor:
    return some_codes(CodecSettings(), 40)


@pytest.fixture(scope="module")
def whole(decoder, codes) -> torch.Tensor:
    return decoder.stream().push(codes)


def some_codes(settings: CodecSettings, frames: int) -> torch.Tensor:
    return torch.randint(settings.codes, (settings.codebooks, frames), generator=torch.Generator().manual_seed(1))


def check_equal(codec: Firefly, decoder: NativeDecoder) -> None:
    """The samples are PyTorch's; 2e-7 of 1 measured."""
    codes = some_codes(codec.settings, 37)
    expected = codec.decode(codes)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(decoder.stream().push(codes), expected, atol=5e-6, rtol=0)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", ["micro", "tiny", "odd"])
def test_it_decodes_as_pytorch_does(codecs, name, threads):
    check_equal(codecs[name], NativeDecoder(codecs[name], threads))


@pytest.mark.parametrize("march", ["skylake-avx512", "haswell", "x86-64-v2"])
def test_vectors_of_every_width(codecs, march):
    with instruction_set(march):
        for codec in codecs.values():
            check_equal(codec, NativeDecoder(codec, 2))


def test_golden(reference):
    codec = load(reference.folder, device="cpu", dtype="float32").codec
    sound = NativeDecoder(codec, 2).stream().push(torch.from_numpy(reference.golden["decode_codes"]))
    torch.testing.assert_close(sound, torch.from_numpy(reference.golden["decode_audio"]), atol=1e-4, rtol=0)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 40), max_size=8))
def test_a_stream_equals_the_whole_however_it_is_cut(decoder, codes, whole, cuts):
    stream = decoder.stream()
    edges = [0, *sorted(cuts), 40]
    pieces = [stream.push(codes[:, a:b]) for a, b in pairwise(edges)]
    assert [len(p) for p in pieces] == [2048 * (b - a) for a, b in pairwise(edges)]
    torch.testing.assert_close(torch.cat(pieces), whole, atol=1e-6, rtol=0)


def test_odd_dimensions_frame_by_frame(codecs):
    codec = codecs["odd"]
    codes, decoder = some_codes(ODD, 20), NativeDecoder(codec, 2)
    stream = decoder.stream()
    frames = torch.cat([stream.push(codes[:, i : i + 1]) for i in range(20)])
    torch.testing.assert_close(frames, decoder.stream().push(codes), atol=1e-6, rtol=0)


def test_two_streams_frame_by_frame_do_not_mix(decoder, codes, whole):
    forward, backward = decoder.stream(), decoder.stream()
    mirror = codes.flip(1)
    pairs = [(forward.push(codes[:, i : i + 1]), backward.push(mirror[:, i : i + 1])) for i in range(12)]
    torch.testing.assert_close(torch.cat([a for a, _ in pairs]), whole[: 12 * 2048], atol=1e-6, rtol=0)
    mirrored = decoder.stream().push(mirror[:, :12])
    torch.testing.assert_close(torch.cat([b for _, b in pairs]), mirrored, atol=1e-6, rtol=0)


def test_the_same_codes_give_the_same_bits(decoder, codes, whole):
    assert torch.equal(decoder.stream().push(codes), whole)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (torch.zeros(7, 3, dtype=torch.int64), r"\(8, T\), not int64 of shape \(7, 3\)"),
        (torch.zeros(8, dtype=torch.int64), r"shape \(8,\)"),
        (torch.zeros(8, 3), "float32"),
        (torch.full((8, 3), 1000), "0 to 999, not 1000 to 1000"),
        (torch.full((8, 3), -1), "not -1 to -1"),
    ],
)
def test_codes_that_cannot_be_decoded(decoder, codes, whole, bad, said):
    stream = decoder.stream()
    with pytest.raises(InputError, match=said):
        stream.push(bad)
    assert torch.equal(stream.push(codes), whole)


def test_no_codes_are_no_samples(decoder):
    assert decoder.stream().push(torch.zeros(8, 0, dtype=torch.int16)).shape == (0,)


def test_pytorchs_decoder_is_not_needed_any_more(codecs, decoder, codes, whole):
    codec = seeded(codecs["micro"].settings)
    codec.load_state_dict(codecs["micro"].state_dict())
    other = NativeDecoder(codec, 2)
    for weight in (*codec.head.parameters(), *codec.quantizer.upsample.parameters()):
        weight.fill_(torch.nan)
    del codec.head, codec.quantizer.upsample
    assert torch.equal(other.stream().push(codes), whole)


def test_a_head_in_bfloat16_is_run_in_float32(codecs, codes, whole):
    codec = seeded(codecs["micro"].settings)
    codec.load_state_dict(codecs["micro"].state_dict())
    codec.head.to(torch.bfloat16)
    sound = NativeDecoder(codec, 2).stream().push(codes)
    assert sound.dtype == torch.float32
    assert 0 < (sound - whole).abs().max() < 0.05


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc to read the memory from")
def test_a_stream_that_is_gone_takes_no_memory(decoder, codes):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    decoder.stream().push(codes[:, :1])
    before = resident()
    for _ in range(2000):  # each has about 100 kB
        decoder.stream().push(codes[:, :0])
    assert resident() - before < 20e6


@pytest.mark.parametrize(
    "change", [{"decoder": {"resblock_dilations": [1, 1000]}}, {"quantizer": {"downsample": [65]}}]
)
def test_dimensions_beyond_any_codec_are_left_to_pytorch(change):
    with torch.device("meta"):
        codec = Firefly(CodecSettings.from_dict({"encoder": {"depths": [1], "dims": [32]}, **change}))
    with pytest.raises(build.Unavailable, match="look back further"):
        NativeDecoder(codec, 1)
