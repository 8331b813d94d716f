"""References: their transcripts, lengths and codecs, and what the commands say about them."""

import logging
import shutil

import numpy as np
import pytest
import soundfile
import torch
from conftest import TINY

from fishcli import Reference, Request, load
from fishcli.audio import codes
from fishcli.checkpoints.local import CODEC
from fishcli.engine.references import warn_about
from fishcli.errors import InputError

REFERENCE = TINY / "reference.wav"
FRAME_RATE = 44_100 / 2048


def some_codes(seconds: float) -> np.ndarray:
    return np.zeros((8, round(seconds * FRAME_RATE)), np.int16)


# Transcripts

SENTENCE = "The train arrives at seven, and it leaves again at nine in the evening. "  # 4.9 s
FITS = {
    "read normally": (5, SENTENCE),
    "read fast": (2.5, SENTENCE),
    "read slowly": (15, SENTENCE),
    "with a long pause": (4, "Yes."),
    "one word": (1, "Hello."),
    "Chinese": (3, "我们明天早上七点在火车站见面。"),
    "Japanese": (5, "明日の朝七時に駅で会いましょう。"),
    "Korean": (4, "내일 아침 일곱 시에 역에서 만나요."),
    "Thai": (4, "พรุ่งนี้เจอกันที่สถานีรถไฟตอนเจ็ดโมงเช้า"),
    "Arabic, without vowels": (5, "نلتقي غدا في محطة القطار في الساعة السابعة صباحا."),
    "numbers in digits": (8, "1,234,567 and 7,654,321"),
    "an unknown one": (10, ""),
    "a blank one": (10, " \n"),
}
LONG = {
    "sixteen words in 50 ms": (
        0.05,
        "one two three four five six seven eight nine ten eleven twelve one two three four",
    ),
    "a page in 3 s": (3, SENTENCE * 10),
    "Chinese": (2, "我们明天早上七点在火车站见面。" * 3),
}
SHORT = {"one word in 12 s": (12, "Yes."), "a sentence in 30 s": (30, SENTENCE), "Chinese": (25, "我们明天早上见面。")}


def said_about(caplog, *references: Reference) -> list[str]:
    caplog.set_level(logging.INFO, logger="fishcli")
    caplog.clear()
    warn_about(references, FRAME_RATE)
    return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


@pytest.mark.parametrize("kind", FITS)
def test_a_transcript_that_fits(caplog, kind):
    seconds, text = FITS[kind]
    assert said_about(caplog, Reference(some_codes(seconds), text)) == []


@pytest.mark.parametrize(("kind", "misfit"), [*((kind, "long") for kind in LONG), *((kind, "short") for kind in SHORT)])
def test_a_transcript_that_cannot_fit(caplog, kind, misfit):
    seconds, text = (LONG if misfit == "long" else SHORT)[kind]
    said = said_about(caplog, Reference(some_codes(seconds), text))
    assert f"WARNING The reference has a transcript too {misfit} for its" in said[-1]


def test_lengths(caplog):
    lasts = [Reference(some_codes(seconds), "") for seconds in (0.5, 10, 40)]
    assert said_about(caplog, lasts[0]) == [
        "WARNING The reference lasts 0.51 s; a voice needs a second or more, and 5 to 30 s are best."
    ]
    assert [line.split(";")[0] for line in said_about(caplog, *lasts)] == [
        "WARNING Reference 1 lasts 0.51 s",
        "INFO Reference 3 lasts 40 s",
    ]


@pytest.mark.parametrize("text", [None, b"bytes", 3, ["a"]])
def test_a_transcript_is_a_str(text):
    with pytest.raises(InputError, match="The transcript of a reference must be a str, not"):
        Reference(some_codes(1), text)


def test_codes_on_a_device_that_numpy_cannot_read():
    """As those of a GPU. Not among the native tests: the sanitizer ends at the exception that PyTorch throws."""
    with pytest.raises(InputError, match="Codes must be integers of shape"):
        Reference(torch.zeros((8, 3), dtype=torch.int16, device="meta"), "a")


@pytest.fixture
def brief(micro):
    return ["--checkpoint-path", micro, "--device", "cpu", "--max-new-tokens", 3, "--seed", 1]


def test_a_reference_that_is_refused_is_not_warned_about_too(fish, brief, tmp_path):
    np.save(tmp_path / "voice.npy", some_codes(60))
    ran = fish("generate", "Hi.", "--ref", "voice.npy", "--ref-text", "Yes.", *brief)
    assert (ran.code, ran.err.count("\n")) == (1, 1), ran.err


def test_the_engine_warns_about_a_transcript(fish, brief, tmp_path):
    np.save(tmp_path / "voice.npy", some_codes(0.3))
    err = fish("generate", "Hi.", "--ref", "voice.npy", "--ref-text", SENTENCE, *brief).err
    assert "warning: The reference lasts 0.28 s" in err
    assert "warning: The reference has a transcript too long for its 0.28 s" in err


@pytest.mark.parametrize("seconds", [1, 10])
def test_a_transcript_too_long_for_the_context_is_named(micro, seconds):
    engine = load(micro, device="cpu")
    with pytest.raises(InputError, match=r"The transcripts of the references take [\d,]+ of the 512 positions"):
        engine.speak(Request("Hi.", [Reference(some_codes(seconds), "word " * 3000)]))
    with pytest.raises(InputError, match="The text is too long"):
        engine.speak(Request("word " * 3000, [Reference(some_codes(1), "one word")], chunk_length=2000))


UNKNOWN = "voice.npy has no transcript"
TYPED = {
    "typed": (["--ref-text", "So it is."], {}, ""),
    "blank": (["--ref-text", ""], {}, UNKNOWN),
    "of spaces": (["--ref-text", " \t"], {}, UNKNOWN),
    "blank beside a .lab": (["--ref-text", ""], {"voice.lab": "So it is."}, ""),
    "a blank .lab": ([], {"voice.lab": " \n"}, UNKNOWN),
    "a blank .lab beside a .txt": ([], {"voice.lab": "", "voice.txt": "So it is."}, ""),
    "none": ([], {}, UNKNOWN),
    "the name of a file": (
        ["--ref-text", "said.txt"],
        {"said.txt": "x"},
        "--ref-text said.txt is a file, and its name",
    ),
}


@pytest.mark.parametrize("kind", TYPED)
def test_the_transcript_of_a_reference(fish, brief, tmp_path, kind):
    typed, files, expected = TYPED[kind]
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    np.save(tmp_path / "voice.npy", some_codes(2))
    ran = fish("generate", "Hi.", "--ref", "voice.npy", *typed, *brief)
    assert ran.code == 0, ran.err
    assert expected in ran.err
    assert ("transcript" in ran.err) == bool(expected)


@pytest.mark.parametrize("command", ["say", "generate"])
def test_the_name_of_a_file_as_text_is_a_note(fish, tmp_path, command):
    (tmp_path / "chapter.txt").write_text("Once.")
    assert "chapter.txt is a file; --file reads it.\n" in fish(command, "chapter.txt", "-n").err
    assert "is a file" not in fish(command, "chapter two", "-n").err
    assert "is a file" not in fish(command, "x" * 5000, "-n").err


# Codecs


def test_the_codec_is_known_by_its_quantizer(micro, make_checkpoint, tmp_path):
    engine = load(micro, device="cpu")
    shutil.copy(micro / CODEC, tmp_path / "renamed.pth")
    shutil.copy(micro / "codec.json", tmp_path / "codec.json")
    renamed = load(micro, codec=tmp_path / "renamed.pth", device="cpu")
    other = load(make_checkpoint("--size", "micro", "--seed", "1"), device="cpu")
    built_in = load("built-in", device="cpu")
    assert renamed.codec_id.digest == engine.codec_id.digest
    assert len({each.codec_id.digest for each in (engine, other, built_in)}) == 3
    assert built_in.codec_id.name == "the built-in voice"
    assert engine.codec_id.name == micro.name


def test_codes_of_another_codec_are_refused_with_both_names(fish, micro, brief, tmp_path):
    (tmp_path / "paimon.wav").write_bytes(REFERENCE.read_bytes())
    (tmp_path / "paimon.lab").write_text("So it is.")
    ran = fish("encode", "paimon.wav")
    assert ran.err.count("These codes fit the built-in voice only.") == 1
    assert fish("decode", "paimon.npy").code == 0
    sentence = f"paimon.npy was made with the codec of the built-in voice, and this is {micro.name}"
    for command in (
        ["decode", "paimon.npy", *brief[:-4]],
        ["generate", "Hi.", "--prompt-tokens", "paimon.npy", *brief],
        ["say", "Hi.", "--ref", "paimon.npy", *brief],
    ):
        ran = fish(*command)
        assert (ran.code, sentence in ran.err) == (1, True), ran.err
    np.save(tmp_path / "paimon.npy", np.load(tmp_path / "paimon.npy"))  # a plain file is of any codec
    assert fish("say", "Hi.", "--ref", "paimon.npy", *brief).code == 0


def test_generated_codes_name_their_codec(fish, micro, brief, tmp_path):
    fish("generate", "Hi.", *brief)
    assert codes.read_file(tmp_path / "codes_0.npy").codec == load(micro, device="cpu").codec_id
    ran = fish("decode", "codes_0.npy")
    assert (ran.code, f"made with the codec of {micro.name}, and this is the built-in voice" in ran.err) == (1, True)


# Outputs


def test_the_lines_of_the_documentation(fish, micro, brief, tmp_path):
    """Its three steps in their order, with the script's path alone replaced."""
    shutil.copytree(micro, tmp_path / "checkpoints" / "fish-speech-1.5")
    (tmp_path / "paimon.wav").write_bytes(REFERENCE.read_bytes())
    codec = ["--checkpoint-path", f"checkpoints/fish-speech-1.5/{CODEC}"]
    ran = fish("encode", "-i", "paimon.wav", *codec)
    assert (ran.code, (tmp_path / "fake.npy").is_file()) == (0, True), ran.err
    prompt = ["--prompt-text", "What is said in the recording.", "--prompt-tokens", "fake.npy"]
    model = ["--checkpoint-path", "checkpoints/fish-speech-1.5", "--max-new-tokens", 3, "--seed", 42]
    ran = fish("generate", "--text", "The text to convert", *prompt, *model, "--num-samples", 2)
    assert (ran.code, (tmp_path / "codes_1.npy").is_file()) == (0, True), ran.err
    ran = fish("decode", "-i", "codes_0.npy", *codec)
    assert (ran.code, soundfile.info(tmp_path / "fake.wav").frames) == (0, 3 * 2048), ran.err


def test_our_own_spelling_has_our_own_names(fish, brief, tmp_path):
    (tmp_path / "paimon.wav").write_bytes(REFERENCE.read_bytes())
    fish("encode", "paimon.wav", *brief[:-4])
    fish("decode", "paimon.npy", *brief[:-4])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.wav", "paimon.npy", "paimon.wav"]


@pytest.mark.parametrize("name", ["x.txt", "x", "x.wav", "x.npy.wav"])
def test_codes_go_to_npy_alone(fish, tmp_path, name):
    (tmp_path / "paimon.wav").write_bytes(REFERENCE.read_bytes())
    ran = fish("encode", "paimon.wav", "-o", name)
    assert (ran.code, f"{name} does not end in .npy" in ran.err) == (2, True)
    assert not (tmp_path / name).exists()
