"""Where results go: the names of files, who may replace what, what a killed process leaves, and redirected stdout."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import TINY

from fishcli.audio import Encoder, codes
from fishcli.errors import FishError
from fishcli.files import NextFree, numbered, replacing, reserved, writing

FISH = [sys.executable, "-m", "fishcli"]
posix = pytest.mark.skipif(os.name == "nt", reason="links, modes and pipes of POSIX")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder, with inputs for every command."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "paimon.wav").write_bytes((TINY / "reference.wav").read_bytes())
    np.save(tmp_path / "in" / "codes.npy", np.zeros((8, 3), np.int16))
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"in"}


# The rule: a typed name is replaced; one of the documentation too, which is said; others are the next free ones.

SAY = ["say", "Hi.", "--max-new-tokens", "3"]
GENERATE = ["generate", "Hi.", "--max-new-tokens", "3"]
RULE = [
    # command, names that exist, names that are made
    (SAY, [], ["out.wav"]),
    (SAY, ["out.wav"], ["out-1.wav"]),
    (SAY, ["out.wav", "out-1.wav"], ["out-2.wav"]),
    (SAY, ["out-1.wav"], ["out.wav"]),
    ([*SAY, "--num-samples", "2"], ["out-1.wav"], ["out.wav", "out-2.wav"]),
    (GENERATE, [], ["codes_0.npy"]),
    (["encode", "in/paimon.wav"], [], ["paimon.npy"]),
    (["decode", "in/codes.npy"], ["out.wav"], ["out-1.wav"]),
    (["decode", "in/codes.npy", "in/codes.npy"], ["out.wav"], ["out-1.wav", "out-2.wav"]),
]


@pytest.mark.parametrize(("command", "existing", "made"), RULE, ids=lambda value: " ".join(value) or "-")
def test_audio_without_a_name_never_replaces_a_file(fish, folder, command, existing, made):
    for name in existing:
        (folder / name).write_text("precious")
    ran = fish(*command, "--json", "--seed", "1") if command[0] in ("say", "generate") else fish(*command, "--json")
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    assert result.get("outputs", [file["output"] for file in result.get("files", [])]) == made
    assert names(folder) == {*existing, *made}
    assert all((folder / name).read_text() == "precious" for name in existing)
    assert all((folder / name).stat().st_size > 50 for name in made)


TYPED = [
    ([*SAY, "-o", "mine.wav"], "mine.wav"),
    ([*SAY, "--num-samples", "2", "-o", "mine.wav"], "mine.wav"),
    (["encode", "in/paimon.wav", "-o", "mine.npy"], "mine.npy"),
    (["encode", "in/paimon.wav", "--reconstruct", "mine.wav"], "mine.wav"),
    (["decode", "in/codes.npy", "-o", "mine.wav"], "mine.wav"),
]


@pytest.mark.parametrize(("command", "name"), TYPED, ids=lambda value: value if isinstance(value, str) else value[0])
def test_a_typed_name_is_replaced(fish, folder, command, name):
    (folder / name).write_text("old")
    ran = fish(*command)
    assert ran.code == 0, ran.err
    assert (folder / name).read_bytes()[:4] in (b"RIFF", b"\x93NUM")


def test_the_name_is_printed(fish, folder):
    (folder / "out.wav").touch()
    assert "Saved out-1.wav" in fish("decode", "in/codes.npy").err


DOCUMENTED = [
    (GENERATE, "codes_0.npy"),
    ([*GENERATE, "--num-samples", "2"], "codes_1.npy"),
    (["encode", "in/paimon.wav"], "paimon.npy"),
    (["encode", "-i", "in/paimon.wav"], "fake.npy"),
]


@pytest.mark.parametrize(("command", "name"), DOCUMENTED, ids=lambda value: value if isinstance(value, str) else None)
def test_a_name_of_the_documentation_is_replaced_and_said(fish, folder, command, name):
    (folder / name).write_text("old")
    ran = fish(*command)
    assert ran.code == 0, ran.err
    assert f"{name} exists and will be replaced." in ran.err
    assert (folder / name).read_bytes()[:6] == b"\x93NUMPY"
    assert "will be replaced" not in fish(*command, "-q").err


@posix
@pytest.mark.parametrize(("command", "name"), DOCUMENTED, ids=lambda value: value if isinstance(value, str) else None)
def test_two_runs_never_make_the_same_file_at_once(fish, folder, command, name):
    (folder / name).write_text("old")
    with reserved(folder / name):
        ran = fish(*command)
    assert ran.code == 1
    assert f"error: Another run is making {name}; wait for it, or work in another folder." in ran.err
    assert (folder / name).read_text() == "old"
    assert fish(*command).code == 0
    assert not [each for each in folder.iterdir() if each.name.startswith(".")]


def test_names_of_further_samples_replace_only_with_force(fish, folder):
    several = [*SAY, "--num-samples", "3", "-o", "take.wav"]
    (folder / "take-2.wav").write_text("precious")
    ran = fish(*several)
    assert (ran.code, names(folder)) == (2, {"take-2.wav"})
    assert "error: take-2.wav exists; pass --force to replace it, or choose another -o." in ran.err
    assert fish(*several, "--force").code == 0
    assert names(folder) == {"take.wav", "take-1.wav", "take-2.wav"}, "nothing else"
    assert (folder / "take-2.wav").read_bytes()[:4] == b"RIFF"


def test_a_dry_run_shows_the_next_free_names(fish, folder):
    (folder / "out.wav").touch()
    ran = fish("say", "Hi.", "--num-samples", "2", "--dry-run", "--json")
    assert json.loads(ran.out)["outputs"] == ["out-1.wav", "out-2.wav"]
    assert names(folder) == {"out.wav"}


@posix
def test_a_link_that_leads_nowhere_takes_a_name_too(fish, folder):
    (folder / "out.wav").symlink_to("elsewhere.wav")
    assert fish(*SAY).code == 0
    assert names(folder) == {"out.wav", "out-1.wav"}


# Parallel runs.


def test_parallel_writers_get_a_name_each(tmp_path):
    together, made = threading.Barrier(20), []

    def write(number: int) -> None:
        [target] = NextFree.choose(numbered(tmp_path / "out.wav"))
        with writing(target) as file:
            file.write(b"%d" % number)
            together.wait()
        made.append(target.path.name)

    threads = [threading.Thread(target=write, args=[number]) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(made) == names(tmp_path) == {"out.wav", *(f"out-{i}.wav" for i in range(1, 20))}
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"%d" % number for number in range(20)}


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    [target] = NextFree.choose(numbered(tmp_path / "out.wav"))
    with writing(target) as file:
        file.write(b"ours")
        (tmp_path / "out.wav").write_bytes(b"theirs")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out.wav": b"theirs", "out-1.wav": b"ours"}
    assert str(target) == str(tmp_path / "out-1.wav")


def parallel_says(folder: Path, count: int) -> None:
    command = [*FISH, "say", "-q", "Hello.", "--seed"]
    running = [subprocess.Popen([*command, str(i)], cwd=folder, stderr=subprocess.PIPE) for i in range(count)]
    ended = [(each.communicate()[1].decode(), each.returncode) for each in running]
    assert [code for _, code in ended] == [0] * count, ended
    assert names(folder) == {"out.wav", *(f"out-{i}.wav" for i in range(1, count))}
    assert all(soundfile.info(path).frames > 1_000 for path in folder.glob("out*.wav"))


def test_parallel_runs_leave_a_file_each(tmp_path):
    parallel_says(tmp_path, 3)


@pytest.mark.slow
def test_twenty_parallel_runs_leave_twenty_files(tmp_path):
    parallel_says(tmp_path, 20)


# Failed, interrupted and killed writers.

HOLD = """
import sys
from pathlib import Path
from fishcli.files import NextFree, numbered, writing
target = NextFree.choose(numbered(Path("out.wav")))[0] if sys.argv[1] == "free" else Path("out.wav")
with writing(target) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path, kind: str) -> subprocess.Popen[str]:
    """Start a process that writes a file until its stdin is closed."""
    command = [sys.executable, "-c", HOLD, kind]
    started = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdout.readline() == "writing\n"
    return started


@pytest.mark.parametrize("kind", ["free", "typed"])
def test_what_a_killed_process_leaves_is_removed_by_the_next_in_its_folder(tmp_path, kind):
    with holder(tmp_path, kind) as killed:
        killed.kill()
    [left] = tmp_path.iterdir()
    assert left.name.startswith(".out.wav.")
    with writing(tmp_path / "other.wav") as file:
        file.write(b"whole")
    assert names(tmp_path) == {"other.wav"}


@pytest.mark.parametrize("kind", ["free", "typed"])
def test_what_a_living_process_writes_stays(tmp_path, kind):
    with holder(tmp_path, kind) as living:
        with writing(tmp_path / "other.wav") as file:
            file.write(b"whole")
        assert len(names(tmp_path)) == 2
        living.stdin.close()
        assert living.wait() == 0
    assert names(tmp_path) == {"other.wav", "out.wav"}


@pytest.mark.parametrize(
    "name", [".out.wav.tmp", "out.wav.fishcli-01234567.tmp", ".out.wav.fishcli-0123.tmp", ".a.fishcli-01234567.tmp.wav"]
)
def test_a_file_of_the_user_is_no_leftover(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with writing(tmp_path / "out.wav") as file:
        file.write(b"x")
    assert names(tmp_path) == {name, "out.wav"}


@posix
def test_a_folder_or_a_link_is_no_leftover(tmp_path):
    (tmp_path / "mine.wav").write_text("mine")
    (tmp_path / ".a.fishcli-01234567.tmp").symlink_to("mine.wav")
    (tmp_path / ".b.fishcli-01234567.tmp").mkdir()
    os.mkfifo(tmp_path / ".c.fishcli-01234567.tmp")
    before = names(tmp_path)
    with writing(tmp_path / "out.wav") as file:
        file.write(b"x")
    assert names(tmp_path) == before | {"out.wav"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("kind", ["free", "typed"])
def test_a_failure_leaves_nothing(tmp_path, error, kind):
    target = tmp_path / "out.wav"
    with pytest.raises(error), writing(NextFree(numbered(target), 0) if kind == "free" else target) as file:  # noqa: PT012
        file.write(b"half")
        raise error
    assert names(tmp_path) == set()


@posix
@pytest.mark.parametrize("kind", ["free", "typed"])
def test_a_full_disk_leaves_nothing(tmp_path, kind):
    import resource

    target = tmp_path / "out.wav"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
        with pytest.raises(FishError, match="cannot be written"):
            codes.write(NextFree(numbered(target), 0) if kind == "free" else target, np.zeros((8, 1000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert names(tmp_path) == set()


# Links, modes, long names, devices.

WRITERS = {"replacing": lambda path: replacing(path), "writing": lambda path: writing(path)}


def write(kind: str, path: Path) -> None:
    with WRITERS[kind](path) as given:
        if isinstance(given, Path):
            given.write_bytes(b"new")
        else:
            given.write(b"new")


@posix
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link(tmp_path, kind, exists):
    (tmp_path / "sub").mkdir()
    if exists:
        (tmp_path / "sub" / "real").touch()
    (tmp_path / "sub" / "middle").symlink_to("real")
    (tmp_path / "link").symlink_to("sub/middle")
    write(kind, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "sub" / "real").read_bytes() == b"new"
    assert names(tmp_path / "sub") == {"real", "middle"}


@posix
@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="makes a link of another user's, as root only can")
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(("mode", "refused"), [(0o1777, True), (0o777, False), (0o1755, False)], ids=oct)
def test_a_strangers_link_in_a_shared_folder_is_not_followed(tmp_path, kind, mode, refused):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    (tmp_path / "victim").write_bytes(b"old")
    (shared / "x.wav").symlink_to(tmp_path / "victim")
    os.lchown(shared / "x.wav", 65534, 65534)
    if refused:
        with pytest.raises(PermissionError, match="another user's link"):
            write(kind, shared / "x.wav")
    else:
        write(kind, shared / "x.wav")
    assert (tmp_path / "victim").read_bytes() == (b"old" if refused else b"new")


@posix
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
def test_the_temporary_file_has_the_mode_of_the_target_from_the_start(tmp_path, kind, mode):
    target = tmp_path / "out.wav"
    target.touch()
    target.chmod(mode)
    with WRITERS[kind](target):
        [temporary] = tmp_path.glob(".*.tmp")
        assert stat.S_IMODE(temporary.stat().st_mode) == mode | stat.S_IWUSR
    assert stat.S_IMODE(target.stat().st_mode) == mode


@posix
@pytest.mark.parametrize("kind", WRITERS)
def test_a_new_file_has_the_mode_of_the_umask(tmp_path, kind):
    before = os.umask(0o027)
    try:
        write(kind, tmp_path / "out.wav")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.wav").stat().st_mode) == 0o640


@posix
@pytest.mark.parametrize("kind", WRITERS)
def test_a_folder_that_cannot_be_read_takes_files(tmp_path, kind):
    tmp_path.chmod(0o333)
    write(kind, tmp_path / "out.wav")
    tmp_path.chmod(0o755)
    assert names(tmp_path) == {"out.wav"}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("name", ["n" * 251 + ".wav", "ä" * 125 + ".wav", "音" * 83 + ".wav", "n" * 232 + ".wav"])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, kind, name):
    write(kind, tmp_path / name)
    assert names(tmp_path) == {name}


@posix
@pytest.mark.parametrize(
    "command",
    [
        [*SAY, "-o", "/dev/null"],
        ["decode", "in/codes.npy", "-o", "/dev/null"],
        ["encode", "in/paimon.wav", "-o", "/dev/null"],
        ["encode", "in/paimon.wav", "-o", "/dev/null", "--reconstruct", "/dev/null"],
        [*SAY, "-o", "/dev/null", "--subtype", "FLOAT"],
    ],
    ids=" ".join,
)
def test_the_null_device_takes_any_result(fish, folder, command):
    ran = fish(*command)
    assert ran.code == 0, ran.err
    assert not stat.S_ISREG(os.stat("/dev/null").st_mode)


@posix
def test_a_pipe_without_a_suffix_gets_wav(fish, folder):
    os.mkfifo(folder / "in" / "pipe")
    heard = []
    reader = threading.Thread(target=lambda: heard.append((folder / "in" / "pipe").read_bytes()))
    reader.start()
    ran = fish("decode", "in/codes.npy", "-o", "in/pipe")
    reader.join()
    assert ran.code == 0, ran.err
    assert heard[0][:4] == b"RIFF"


# Outputs that cannot be: one sentence, before the model is loaded.

IMPOSSIBLE = {
    "a missing folder": (1, "the folder none does not exist", "none/x.{}"),
    "a file for a folder": (1, "the folder in/codes.npy does not exist", "in/codes.npy/x.{}"),
    "a folder": (1, "Is a directory", "folder.{}"),
    "a loop of links": (1, "symbolic links", "loop.{}"),
    "an empty name": (2, "", ""),
}


@posix
@pytest.mark.parametrize("case", IMPOSSIBLE)
@pytest.mark.parametrize(
    ("command", "suffix"), [("say Hi.", "wav"), ("encode in/paimon.wav", "npy"), ("decode in/codes.npy", "wav")]
)
def test_an_impossible_output_is_one_sentence_before_the_model_is_loaded(fish, folder, case, command, suffix):
    code, said, name = IMPOSSIBLE[case]
    (folder / f"folder.{suffix}").mkdir()
    (folder / f"loop.{suffix}").symlink_to(f"loop.{suffix}")
    before = names(folder)
    ran = fish(*command.split(), "-o", name.format(suffix), "--checkpoint-path", "nowhere")
    assert ran.code == code, ran.err
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert said in ran.err
    assert names(folder) == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_an_error_before_the_model_is_loaded(fish, folder):
    folder.chmod(0o555)
    ran = fish("generate", "Hi.", "--checkpoint-path", "nowhere")
    folder.chmod(0o755)
    assert ran.code == 1
    assert "codes_0.npy cannot be written (Permission denied)" in ran.err


# A WAV on a redirected stdout.


@posix
def test_a_wav_in_a_redirected_file_has_its_length(folder):
    with open(folder / "piped", "wb") as stdout:
        subprocess.run([*FISH, "decode", "in/codes.npy", "-q", "-o", "-"], cwd=folder, stdout=stdout, check=True)
    with wave.open(str(folder / "piped")) as sound:
        assert sound.getnframes() == 3 * 1024
    assert (folder / "piped").stat().st_size == 44 + 2 * 3 * 1024


UNKNOWN = (4_294_967_040).to_bytes(4, "little")


@posix
def test_a_wav_in_a_pipe_has_no_length():
    reader, writer = os.pipe()
    with open(writer, "wb") as stream, Encoder(stream, 22_050) as out:
        out.write(np.zeros(1_000, np.float32))
    with open(reader, "rb") as stream:
        assert stream.read()[40:44] == UNKNOWN


@posix
def test_a_wav_that_is_appended_leaves_what_was_there(tmp_path):
    (tmp_path / "x").write_bytes(b"before")
    with open(tmp_path / "x", "ab") as stream, Encoder(stream, 22_050) as out:
        out.write(np.zeros(1_000, np.float32))
    written = (tmp_path / "x").read_bytes()
    assert written.startswith(b"beforeRIFF")
    assert (len(written), written[46:50]) == (6 + 44 + 2 * 1_000, UNKNOWN)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("samples", [0, 1, 1001])
def test_a_wav_within_a_file_has_its_length(tmp_path, subtype, samples):
    """Between other data: the header is where the sound began, and the stream ends behind it."""
    sound = np.linspace(-1, 1, samples, dtype=np.float32)
    with open(tmp_path / "x", "w+b") as file:
        file.write(b"before")
        with Encoder(file, 22_050, subtype=subtype) as out:
            out.write(sound)
        file.write(b"after")
    written = (tmp_path / "x").read_bytes()
    assert written.startswith(b"before")
    assert written.endswith(b"after")
    (tmp_path / "x.wav").write_bytes(written[6:-5])
    info = soundfile.info(tmp_path / "x.wav")
    assert (info.frames, info.subtype) == (samples, subtype)
    assert int.from_bytes(written[10:14], "little") == len(written) - 6 - 5 - 8


def test_an_interrupted_wav_on_a_redirected_stdout_can_be_played(tmp_path):
    with (  # noqa: PT012
        open(tmp_path / "x.wav", "wb") as file,
        pytest.raises(KeyboardInterrupt),
        Encoder(file, 22_050) as out,
    ):
        out.write(np.zeros(22_050, np.float32))
        raise KeyboardInterrupt
    assert soundfile.read(tmp_path / "x.wav")[0].shape[0] > 10_000
