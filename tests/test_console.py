"""What a run prints: the result first and short, notes once, and progress that fits narrow terminals."""

import re
import threading

import numpy as np
import pytest
import torch
from conftest import TINY
from rich.cells import cell_len
from rich.console import Console

from fishcli.checkpoints import convert
from fishcli.cli import console

WIDTHS = [30, 40, 60, 80, 120]
SECONDS = r"\(\d+\.\d s, seed (\d+)\)"


@pytest.fixture
def brief(micro):
    """Options for a few frames of the micro checkpoint."""
    return ["--checkpoint-path", micro, "--max-new-tokens", 5]


def result(ran) -> list[str]:
    return [line for line in ran.err.splitlines() if not line.startswith("warning: ")]


def test_the_result_is_one_line_for_each_sample(fish, brief):
    [line] = result(fish("say", "Hi.", "--seed", 42, *brief))
    assert re.fullmatch(f"Saved out.wav {SECONDS}", line)
    ran = fish("say", "Hi.", "--seed", 42, "--num-samples", 2, "-o", "twice.wav", *brief)
    assert [re.fullmatch(rf"Saved (twice\S*\.wav) {SECONDS}", line).groups() for line in result(ran)] == [
        ("twice.wav", "42"),
        ("twice-1.wav", "43"),
    ]
    [line] = result(fish("generate", "Hi.", "--seed", 42, *brief))
    assert re.fullmatch(f"Saved codes_0.npy {SECONDS}", line)


def test_greedy_sampling_shows_no_seed(fish, brief):
    [line] = result(fish("say", "Hi.", "--temperature", 0, *brief))
    assert re.fullmatch(r"Saved out.wav \(\d\.\d s\)", line)


def test_encode_and_decode_say_what_they_saved(fish, micro, tmp_path):
    [line] = result(fish("encode", TINY / "reference.wav", "-o", "ref.npy", "--checkpoint-path", micro))
    assert re.fullmatch(r"Saved ref.npy \(\d+\.\d s\)", line)
    np.save(tmp_path / "short.npy", np.zeros((8, 4), np.int16))
    [line] = result(fish("decode", "short.npy", "--checkpoint-path", micro))
    assert re.fullmatch(r"Saved out.wav \(\d\.\d s\)", line)


def test_standard_output_and_the_player_have_no_name(capfd):
    console.saved("-", 1.23, 4)
    console.saved(None, 1.23)
    assert capfd.readouterr().err == "Written to standard output (1.2 s, seed 4)\nPlayed (1.2 s)\n"


def test_quiet_prints_nothing(fish, brief):
    assert result(fish("say", "Hi.", "-q", *brief)) == []


def test_a_truncated_chunk_names_the_limit_and_its_option(fish, brief):
    assert (
        'warning: "Hi." was truncated at 5 frames; raise --max-new-tokens, or try another --seed.'
        in fish("say", "Hi.", *brief).err
    )


def test_the_note_about_the_built_in_voice_appears_once(fish, tmp_path, monkeypatch):
    monkeypatch.setenv("FISHCLI_CACHE_DIR", str(tmp_path / "cache"))
    quiet = fish("generate", "Hi.", "-q", "--max-new-tokens", 2)
    first, second = (fish("generate", "Hi.", "--max-new-tokens", 2) for _ in range(2))
    assert "built-in voice" not in quiet.err
    assert first.err.startswith("This is the built-in voice, an English demo.")
    assert "built-in voice" not in second.err
    assert second.code == 0


def test_a_cache_that_cannot_be_written_shows_a_note_again(tmp_path, monkeypatch, capfd):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FISHCLI_CACHE_DIR", str(tmp_path / "file"))
    for _ in range(2):
        console.note_once("test", "Once.")
        assert capfd.readouterr().err == "Once.\n"


@pytest.mark.parametrize("command", ["say", "generate"])
def test_the_built_in_voice_warns_that_it_cannot_clone(fish, tmp_path, command):
    np.save(tmp_path / "ref.npy", np.zeros((8, 30), np.int16))
    ran = fish(command, "Hi.", "--ref", "ref.npy", "--ref-text", "So.", "--max-new-tokens", 2)
    assert ran.code == 0, ran.err
    assert "warning: The built-in voice cannot clone; run `fish download` first." in ran.err


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of some width that keeps what is shown on it."""

    def make(width: int) -> Console:
        made = Console(width=width, force_terminal=True, record=True, _environ={"TERM": "xterm", "NO_COLOR": "1"})
        monkeypatch.setattr(console, "stderr", made)
        return made

    return make


def rows(shown: str) -> list[str]:
    """The rows that were drawn, one above the other."""
    return [row for row in re.split(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n", shown) if row.strip()]


@pytest.mark.parametrize("width", WIDTHS)
def test_progress_says_what_it_counts(terminal, capfd, width):
    terminal(width)
    with console.speaking_bar(400, lambda: (100, "chunk 12/15", 20.0)):
        pass
    drawn = rows(capfd.readouterr().out)
    assert max(map(cell_len, drawn)) <= width
    [row] = [row for row in drawn if "chunk" in row][-1:]
    assert "chunk 12/15" in row
    assert "about 0:15 left" in row
    assert ("━" in row) is (width >= 40)
    assert ("tokens/s" in row) is (width >= 80)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_command_in_an_error_stays_in_one_piece(terminal, capfd, width):
    terminal(width)
    console.error("There is more than one text [x]; put it in quotes: `fish say hello big`.")
    drawn = rows(capfd.readouterr().out)
    assert max(map(cell_len, drawn)) <= width
    assert any("`fish say hello big`." in row for row in drawn)
    assert "".join(drawn).startswith("error: There is")
    assert "[x]" in "".join(drawn)


@pytest.mark.parametrize("width", WIDTHS)
def test_transfers_show_their_bytes(terminal, capfd, width):
    terminal(width)
    with console.transfer_bars(2_000_000_000) as show:
        show("firefly-gan-vq-fsq-8x1024-21hz-generator.pth", "download", 90_000_000, 180_000_000)
        show("model.pth", "verify", 635_000_000, 1_270_000_000)
        show("config.json", "download", 1_000, 1_000)
    drawn = rows(capfd.readouterr().out)
    assert max(map(cell_len, drawn)) <= width
    text = "\n".join(drawn)
    assert "…" not in text or "rator.pth" in text
    for name, figure in (
        ("model.pth", "0.6 of 1.3 GB"),
        ("rator.pth", "90.0 of 180.0 MB"),
        ("config", "1.0 of 1.0 kB"),
    ):
        assert any(name in row and (figure if width >= 60 else "%") in row for row in drawn)


def test_a_conversion_shows_its_bytes(tmp_path, monkeypatch, capfd, terminal):
    """Those of each tensor, in the spinner of a terminal."""
    monkeypatch.setenv("FISHCLI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(convert, "_LARGE", 1000)
    torch.save({"a": torch.ones(1000), "b": torch.ones(3000)}, tmp_path / "x.pth")
    seen = []
    convert.load(tmp_path / "x.pth", torch.float32, dict, {}, progress=lambda *each: seen.append(each))
    size = (tmp_path / "x.pth").stat().st_size
    assert seen == [("x.pth", 0, size), ("x.pth", 4000, 16_000), ("x.pth", 16_000, 16_000)]
    convert.load(tmp_path / "x.pth", torch.float32, dict, {}, progress=lambda *each: seen.append(each))
    assert len(seen) == 3  # the second time it is there
    terminal(40)
    with console.status("loading the model"):
        # From another thread, as the engine does it.
        thread = threading.Thread(target=console.converting, args=("model.pth", 1_000_000_000, 1_270_000_000))
        thread.start()
        thread.join()
    assert "Converting model.pth: 1,000/1,270 MB" in capfd.readouterr().out


def test_a_conversion_is_one_line_without_a_terminal(capfd):
    for done in (0, 500_000_000, 1_270_000_000):
        console.converting("model.pth", done, 1_270_000_000)
    assert capfd.readouterr().err == "Converting model.pth for this machine, once: 1,270 MB.\n"
