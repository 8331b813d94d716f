"""`fish batch` and `fish verify`: lines made once, resumed, checked and reported."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import kill_batch
import numpy as np
import pytest
import sample_book
import sounds

from fishcli.engine import load
from fishcli.errors import EngineClosed, FishError, InputError, SettingError
from fishcli.jobs import local, manifest, readers
from fishcli.jobs.checks import checked
from fishcli.jobs.identity import Addresses, ModelIdentity
from fishcli.jobs.line import MAX_TEXT, Job, Line, SpokenChunk, seed_of
from fishcli.jobs.output import Output, Part
from fishcli.jobs.render import Renderer, Sound
from fishcli.jobs.settings import JobSettings
from fishcli.jobs.verify import verify
from fishcli.request import SamplingParams
from fishcli.voices import Library

MODEL = ModelIdentity("a model", "0" * 64)


@pytest.fixture
def library(tmp_path) -> Library:
    return Library(tmp_path / "voices")


def a_job(tmp_path: Path, name: str, text: str | bytes, **options: object) -> Job:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return readers.read(path, **options)


def spoken(job: Job) -> list[tuple[str, str]]:
    return [(line.id, line.text) for line in job.lines]


# Reading.


def test_a_text_has_a_line_for_each_line(tmp_path):
    job = a_job(tmp_path, "a.txt", b"\xef\xbb\xbfOne.\r\n\r\n  Two.\n")
    assert spoken(job) == [("00001", "One."), ("00003", "Two.")]


def test_a_text_has_a_line_for_each_paragraph(tmp_path):
    job = a_job(tmp_path, "a.txt", "One\nand a half.\n \n\nTwo.\n", paragraphs=True)
    assert spoken(job) == [("00001", "One\nand a half."), ("00002", "Two.")]


@pytest.mark.parametrize("between", [",", ";", "\t", "|"])
def test_a_table_has_its_columns_in_its_first_line(tmp_path, between):
    rows = ["text,id,seed", '"Yes, ""so""\nit is.",a,7', ",,", "No.,,"]
    table = "\n".join(rows).replace(",", between).replace(f"Yes{between}", "Yes,")
    job = a_job(tmp_path, "a.csv", table)
    assert spoken(job) == [("a", 'Yes, "so"\nit is.'), ("00005", "No.")]
    assert [line.sampling.seed for line in job.lines] == [7, None]


def test_an_object_has_all_fields(tmp_path):
    fields = {"id": 12, "text": "Hi.", "ref": "a.wav", "ref_text": ["So."], "temperature": 0.5, "top_p": None}
    fields |= {"language": "de", "format": "opus", "seed": 3}
    (line,) = a_job(tmp_path, "a.jsonl", json.dumps(fields)).lines
    assert line == Line(
        "12",
        "Hi.",
        1,
        ref=(str(tmp_path / "a.wav"),),
        ref_text=("So.",),
        language="de",
        format="opus",
        sampling=SamplingParams(temperature=0.5, seed=3),
    )


WRONG = {
    '{"text": "Hi.", "txt": 1}': "there is no field 'txt'; did you mean text?",
    '{"text": "Hi.", "colour": 1}': "there is no field 'colour'; there are id, text, voice",
    "{": "it is no JSON",
    "[" * 100_000: "it is no JSON",
    "[1]": "it is no JSON object",
    '{"id": "a"}': "it has no text",
    '{"text": 5}': "text must be text, not int",
    '{"text": "Hi.", "id": true}': "id must be text, not bool",
    '{"text": "Hi.", "ref": {"a": 1}}': "ref must be text or a list of texts",
    '{"text": "Hi.", "seed": "7"}': "seed must be a whole number",
    '{"text": "Hi.", "top_p": NaN}': "top_p must be a number, not nan",
    '{"text": "Hi.", "temperature": 9}': "temperature must be a number, at least 0 and at most 2",
    '{"text": "Hi.", "id": "../a"}': "its id '../a' cannot name a file",
    '{"text": "Hi.", "id": "A\\u0000"}': "cannot name a file",
    '{"text": "Hi.", "id": "GOOD"}': "its id 'GOOD' is that of line 1 already",
    '{"text": "Hi\\u0000."}': "a control character, U+0000",
    '{"text": "\\ud800."}': "a lone surrogate",
    '{"text": "..."}': "There is nothing to speak",
    '{"text": "Hi.", "voice": "nobody"}': "There is no voice 'nobody'",
    '{"text": "[voice:nobody] Hi."}': "There is no voice 'nobody'",
    '{"text": "[pause 2] Hi."}': "is no mark of a pause",
    '{"text": "Hi.", "voice": "a", "ref": "b"}': "it has both voice and ref",
    '{"text": "Hi.", "ref": "absent.wav"}': "absent.wav cannot be read",
    '{"text": "Hi.", "ref": ["a", "b"], "ref_text": "c"}': "it has 2 ref and 1 ref_text",
    '{"text": "Hi.", "format": "pcm"}': "there is no format 'pcm'",
    '{"text": "Hi.", "language": "englsh"}': "did you mean 'en'?",
    json.dumps({"text": "a" * (MAX_TEXT + 1)}): "20,001 characters",
    json.dumps({"text": "a" * 2**18}): "it has more than 262,144 characters",
}


def test_a_wrong_line_is_named_by_its_number_and_the_rest_goes_on(tmp_path, library):
    first, last = '{"text": "Hi.", "id": "good"}', '{"text": "Bye."}'
    job = checked(a_job(tmp_path, "a.jsonl", "\n".join([first, *WRONG, last])), library, JobSettings())
    assert spoken(job) == [("good", "Hi."), (f"{len(WRONG) + 2:05}", "Bye.")]
    assert [each.number for each in job.problems] == list(range(2, len(WRONG) + 2))
    for expected, problem in zip(WRONG.values(), job.problems, strict=True):
        assert expected in problem.message


ROWS = {
    "a,b,c": "it has 3 columns, and the first line has 2",
    '"a"b,c': "it is no row of a table",
    "Hi.,x": "seed must be a number, not 'x'",
}


def test_a_wrong_row_is_named_and_the_rest_goes_on(tmp_path):
    job = a_job(tmp_path, "a.csv", "\n".join(["text,seed", *ROWS, "Good.,1"]))
    assert [line.text for line in job.lines] == ["Good."]
    for number, (expected, problem) in enumerate(zip(ROWS.values(), job.problems, strict=True), 2):
        assert problem.number == number
        assert expected in problem.message


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"id;words\n1;Hi.\n", "names no column text"),
        ("a.csv", b"text,text\n", "names a column twice"),
        ("a.csv", b"text,sed\n", "no column 'sed'; did you mean seed?"),
        ("a.csv", "text\ncafé\n".encode("latin-1"), "not UTF-8"),
        ("a.jsonl", '{"text": "Hi."}'.encode("utf-16"), "not UTF-8"),
        ("a.pdf", b"", "is no job; its name must end in one of .jsonl, .csv, .txt, .md, .epub"),
    ],
)
def test_a_wrong_file_is_an_error(tmp_path, name, data, message):
    with pytest.raises(InputError, match=message):
        a_job(tmp_path, name, data)


def test_a_line_goes_before_the_job(library):
    settings = JobSettings(seed=5, voice="v", language="de", sampling=SamplingParams(top_p=0.5, max_new_tokens=9))
    plain = settings.complete(Line("a", "Hi.", 1))
    assert (plain.voice, plain.language, plain.format) == ("v", "de", "wav")
    assert plain.sampling == SamplingParams(top_p=0.5, seed=seed_of(5, "a"), max_new_tokens=9)
    own = Line("a", "Hi.", 1, ref=("r",), language="fr", format="mp3", sampling=SamplingParams(seed=1, top_p=0.9))
    own = settings.complete(own)
    assert (own.voice, own.ref, own.language, own.format) == (None, ("r",), "fr", "mp3")
    assert own.sampling == SamplingParams(top_p=0.9, seed=1, max_new_tokens=9)


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"format": "pcm"}, {"check": "loud"}, {"retries": 99}])
def test_wrong_settings_are_an_error(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        JobSettings(**wrong)


# The folder.


def lines(*texts: str) -> Job:
    settings = JobSettings()
    return Job(tuple(settings.complete(Line(f"l{i}", text, i)) for i, text in enumerate(texts, 1)))


def wav(line: Line) -> Sound:
    """Return a sound that depends on the line alone."""
    samples = np.sin(np.arange(len(line.text) * 441) * (0.01 + 0.001 * line.number)).astype(np.float32) / 2
    frames = len(line.text)
    chunk = SpokenChunk(line.text, 0, frames, line.sampling.seed or 0)
    return Sound(sounds.encoded(samples, 44_100), frames, len(samples) / 44_100, (chunk,), line.sampling.seed or 0)


def make(job: Job, folder: Path, library: Library, part: Part | None = None, chosen=None, **options) -> list[str]:
    """Make the lines of a job, and return the ids of those that were made."""
    with Output(folder, part) as output:
        output.begin(job, job.lines if chosen is None else chosen, Addresses(MODEL, library, JobSettings()), **options)
        made = [output.put(line, wav(line)).id for line in output.pending]
        output.finish()
        return made


def state(folder: Path) -> dict[str, object]:
    """Return the files of a folder, the manifest without times."""
    found: dict[str, object] = {each.name: each.read_bytes() for each in folder.iterdir() if each.suffix == ".wav"}
    for name in manifest.names(folder):
        entries = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        found[name] = [{key: value for key, value in each.items() if key != "made_at"} for each in entries]
    return found


def test_only_what_is_missing_or_changed_is_made(tmp_path, library):
    folder, job = tmp_path / "out", lines("One.", "Two.", "Three.", "Four.")
    assert make(job, folder, library) == ["l1", "l2", "l3", "l4"]
    before = state(folder)
    assert make(job, folder, library) == []
    (folder / "l1.wav").unlink()
    (folder / "l2.wav").write_bytes((folder / "l2.wav").read_bytes()[:-1] + b"x")
    changed = lines("One.", "Two.", "Three!", "Four.")
    assert make(changed, folder, library) == ["l1", "l2", "l3"]
    assert make(job, folder, library) == ["l3"]
    assert state(folder) == before


def test_lines_that_are_taken_out_keep_their_files_and_are_told(tmp_path, library):
    folder = tmp_path / "out"
    make(lines("One.", "Two."), folder, library)
    with Output(folder) as output:
        output.begin(lines("One."), lines("One.").lines, Addresses(MODEL, library, JobSettings()))
        assert [each.file for each in output.left_over] == ["l2.wav"]
        output.finish()
    assert make(lines("One.", "Two."), folder, library) == []


def test_parts_have_manifests_that_the_whole_takes_up(tmp_path, library):
    whole, folder, job = tmp_path / "whole", tmp_path / "out", lines(*("word " * n for n in range(1, 8)))
    make(job, whole, library)
    assert make(job, folder, library, Part(2, 2), job.lines[1::2]) == ["l2", "l4", "l6"]
    assert make(job, folder, library, Part(1, 2), job.lines[::2]) == ["l1", "l3", "l5", "l7"]
    assert manifest.names(folder) == ["manifest-1-of-2.jsonl", "manifest-2-of-2.jsonl"]
    assert verify(folder).problems == ()
    assert make(job, folder, library) == []
    assert state(folder) == state(whole)


def test_one_run_at_a_time_holds_a_folder(tmp_path, library):
    folder = tmp_path / "out"
    with Output(folder, Part(1, 2)):
        with pytest.raises(FishError, match="Another run writes to"), Output(folder, Part(1, 2)):
            pass
        with Output(folder, Part(2, 2)):
            pass


def test_a_file_of_somebody_else_is_not_replaced(tmp_path, library):
    folder, job = tmp_path / "out", lines("One.")
    folder.mkdir()
    (folder / "l1.wav").write_text("mine")
    with pytest.raises(InputError, match="no earlier run has made it") as caught:
        make(job, folder, library)
    assert caught.value.field == "force"
    assert (folder / "l1.wav").read_text() == "mine"
    assert make(job, folder, library, force=True) == ["l1"]


def test_a_disk_without_room_is_an_error_before_work(tmp_path, library, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(FishError, match=r"The lines need about .* MB, and .* has 0 MB free"):
        make(lines("One."), tmp_path / "out", library)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_is_killed_anywhere_loses_only_the_line_in_flight(tmp_path, library):
    job = lines("One.")
    make(job, tmp_path / "calm", library)
    point = 0
    while True:
        folder, point = tmp_path / f"rough{point}", point + 1
        finished = _killed_at(point, lambda folder=folder: make(job, folder, library))
        whole = {name for name, data in state(folder).items() if name.endswith(".wav")} if folder.is_dir() else set()
        again = make(job, folder, library)
        assert len(whole) + len(again) == len(job.lines)  # a file that has its name has its entry
        assert state(folder) == state(tmp_path / "calm")
        assert {each.suffix for each in folder.iterdir()} == {".wav", ".jsonl", ".lock"}
        if finished:
            break
    assert point > 10


def _killed_at(last: int, work) -> bool:
    """Do work in a fork that is killed when it opens or renames for the `last` time. Return whether it had ended."""
    child = os.fork()
    if not child:
        points = 0

        def reached(event: str, _: object) -> None:
            nonlocal points
            if event in ("open", "os.rename", "os.remove", "os.mkdir"):
                points += 1
            if points == last and event != "os.kill":
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(reached)
        work()
        os._exit(0)
    return not os.WIFSIGNALED(os.waitpid(child, 0)[1])


# The runner.


class Speakers:
    """A renderer whose lines fail as their texts say; it notes how many speak at once."""

    def __init__(self) -> None:
        self.lock, self.speaking, self.most = threading.Lock(), 0, 0
        self.together = threading.Barrier(4)

    def sound(self, line: Line) -> Sound:
        with self.lock:
            self.speaking += 1
            self.most = max(self.most, self.speaking)
        try:
            if line.text == "wait":
                self.together.wait(20)
            if line.text in ERRORS:
                raise ERRORS[line.text]
            return wav(line)
        finally:
            with self.lock:
                self.speaking -= 1


ERRORS = {
    "input": InputError("it is empty"),
    "memory": RuntimeError("CUDA out of memory."),
    "bug": KeyError("x"),
    "closed": EngineClosed("The engine was closed."),
}


def test_the_batch_is_kept_full_and_a_line_that_fails_ends_alone(library):
    speakers, job = Speakers(), lines(*["wait"] * 4, "fine", "input", "memory", "bug")
    results = {result.line.text: result for result in local.run(speakers, job.lines, 2)}
    assert speakers.most == 4  # two more than the batch, which are prepared and encoded meanwhile
    assert {text: each.error for text, each in results.items()} == {
        "wait": None,
        "fine": None,
        "input": "it is empty",
        "memory": "out of memory",
        "bug": "internal error (KeyError: 'x')",
    }


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "ogg", "opus"])
def test_a_line_gives_the_same_bytes_again(library, micro, format):
    settings = JobSettings(format=format, sampling=SamplingParams(max_new_tokens=6))
    renderer = Renderer(load(micro), library, settings)
    line = settings.complete(Line("a", "One.", 1))
    assert renderer.sound(line).data == renderer.sound(line).data


def test_the_longest_lines_come_first():
    assert [line.text for line in local.longest_first(lines("a", "aaa", "bb", "cc").lines)] == ["aaa", "bb", "cc", "a"]


def test_a_closed_engine_ends_the_job():
    with pytest.raises(EngineClosed):
        list(local.run(Speakers(), lines("closed", "fine").lines, 1))


def test_a_run_that_is_left_speaks_no_further_line():
    speakers, said = Speakers(), []
    speakers.sound = lambda line: said.append(line) or wav(line)
    results = local.run(speakers, lines(*["fine"] * 100).lines, 1)
    next(results)
    results.close()
    deadline = time.monotonic() + 20
    while any(thread.name == "batch" for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(said) < 20


# The command, with the built-in voice.

JOB = """{"id": "first", "text": "Good morning. [pause:0.5s] It rains.", "format": "flac"}
{"id": "second", "text": "Good night.", "seed": 7}
{"id": "third", "txt": "?"}
{"id": "fourth", "text": "See you soon."}
"""


def test_the_command_makes_what_is_missing_and_reports(fish, tmp_path):
    Path("job.jsonl").write_text(JOB)
    ran = fish("batch", "job.jsonl", "--dry-run")
    assert (ran.code, "3 lines, 46 characters" in ran.out) == (0, True), ran
    assert not Path("job").exists()

    ran = fish("batch", "job.jsonl", "--json", "--subtitles", "vtt")
    told = json.loads(ran.out)
    assert (ran.code, told["lines"], told["made"]) == (6, 3, 3), ran.err
    assert told["failed"] == [{"number": 3, "id": "third", "reason": "there is no field 'txt'; did you mean text?"}]
    names = {"first.flac", "second.wav", "fourth.wav"}
    assert names | {each.rsplit(".")[0] + ".vtt" for each in names} <= {each.name for each in Path("job").iterdir()}
    entries = manifest.entries(Path("job"))
    assert list(entries) == ["first", "second", "fourth"]
    assert (entries["second"].seed, entries["fourth"].seed) == (7, seed_of(0, "fourth"))
    one, two = entries["first"].chunks
    assert two.start == one.frames + round(0.5 * 44_100 / 2048)
    samples, _ = sounds.decoded(Path("job/first.flac").read_bytes())
    hop, rest = divmod(len(samples), entries["first"].frames)
    assert not rest
    assert not samples[(one.frames + 1) * hop : (two.start - 1) * hop].any()
    assert fish("verify", "job").code == 0

    before = {each.name: each.read_bytes() for each in Path("job").iterdir()}
    ran = fish("batch", "job.jsonl", "--subtitles", "vtt")
    assert (ran.code, "Nothing to make in job (3 lines there already)" in ran.err) == (6, True)
    assert {each.name: each.read_bytes() for each in Path("job").iterdir()} == before
    Path("job/second.wav").unlink()
    assert fish("verify", "job").code == 1

    # Alone, in another folder, a line has the same sound; the repaired job has all lines.
    Path("job.jsonl").write_text(JOB.replace("txt", "text"))
    ran = fish("batch", "job.jsonl", "-o", "alone", "--only", "second", "--only", "third")
    assert (ran.code, "There is nothing to speak" in ran.err) == (2, True)  # "?" is no text either
    ran = fish("batch", "job.jsonl", "-o", "alone", "--only", "second")
    assert Path("alone/second.wav").read_bytes() == before["second.wav"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["absent.txt"], 1, "absent.txt cannot be read"),
        (["job.txt", "--voice", "nobody"], 3, "There is no voice 'nobody'"),
        (["job.txt", "--ref", "absent.wav"], 1, "absent.wav cannot be read"),
        (["job.txt", "--format", "pcm"], 2, "There is no format pcm"),
        (["job.txt", "-o", "job.txt"], 2, "job.txt is a file, and -o names a folder"),
        (["job.txt", "-o", "/proc/job"], 1, "/proc/job cannot be written"),
        (["job.txt", "--shard", "3/2"], 2, "--shard must be a part such as 1/4"),
        (["job.txt", "--only", "9"], 2, "The job has no line '9'"),
        (["job.txt", "--speed", "2"], 2, "are for books"),
        (["empty.txt"], 1, "has no line that can be spoken"),
    ],
)
def test_mistakes_are_told_before_work(fish, arguments, code, message):
    Path("job.txt").write_text("Hello.\n")
    Path("empty.txt").write_text("...\n")
    ran = fish("batch", *arguments)
    assert ran.code == code
    assert message in ran.err


@pytest.mark.slow
def test_a_killed_batch_goes_on():
    kill_batch.main(3, 40)


@pytest.mark.slow
def test_a_stopped_batch_says_how_to_go_on(tmp_path):
    (tmp_path / "job.txt").write_text(
        "\n".join(each for chapter in sample_book.chapters(200) for each in chapter.paragraphs)
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "fishcli", "batch", "job.txt"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    while len(list(tmp_path.glob("job/*.wav"))) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "of 200 lines are done and kept; the same command again goes on from there." in told
    assert told.endswith("Interrupted.\n")
    made = set(tmp_path.glob("job/*.wav"))
    assert {each.file for each in manifest.entries(tmp_path / "job").values()} >= {each.name for each in made}
    assert not list(tmp_path.glob("job/.*.tmp"))


# The manifest.


def test_a_torn_and_a_damaged_line_are_made_again(tmp_path, library, caplog):
    folder, job = tmp_path / "out", lines("One.", "Two.")
    make(job, folder, library)
    before, path = state(folder), folder / "manifest.jsonl"
    header, first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(header + first.replace(b'"l1"', b"7") + second[:-20])
    assert make(job, folder, library, force=True) == ["l1", "l2"]
    assert "is damaged in 1 lines" in caplog.text
    assert state(folder) == before


DAMAGE = {
    "a file is gone": (lambda folder: (folder / "l1.wav").unlink(), "line 1 (l1): l1.wav is missing"),
    "a file is changed": (lambda folder: (folder / "l1.wav").write_bytes(b"x"), "l1.wav is not the file"),
    "a link": (lambda folder: _linked(folder / "l1.wav"), "l1.wav is a link"),
    "outside": (lambda folder: _edit(folder, file="../l1.wav"), "file is '../l1.wav', which is no path in the folder"),
    "absolute": (lambda folder: _edit(folder, file="/etc/passwd"), "which is no path in the folder"),
    "a drive": (lambda folder: _edit(folder, file="C:l1.wav"), "which is no path in the folder"),
    "backslashes": (lambda folder: _edit(folder, file="..\\l1.wav"), "which is no path in the folder"),
    "out by a link": (lambda folder: _edit(folder, file=_way_out(folder)), "which links lead out of the folder"),
    "a digest": (lambda folder: _edit(folder, sha256="x"), "sha256 is no SHA-256"),
    "a type": (lambda folder: _edit(folder, frames="7"), "frames is str"),
    "a huge number": (lambda folder: _edit(folder, seconds=1e999), "damaged"),
    "a missing field": (lambda folder: _edit(folder, address=None), "address is"),
    "another length": (lambda folder: _edit(folder, seconds=9.0), "lasts 0.040 s, and the manifest says 9.000 s"),
    "late chunks": (lambda folder: _edit(folder, frames=2), "a chunk lies outside its line"),
    "a failed line": (lambda folder: _edit(folder, file=None, sha256=None, error="no"), "it was not spoken: no"),
    "a torn line": (lambda folder: _append(folder, b'{"id": '), "ends within a line"),
    "no JSON": (lambda folder: _append(folder, b"[" * 100_000 + b"\n"), "line 4 is damaged"),
}


def _linked(path: Path) -> None:
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real").name)


def _way_out(folder: Path) -> str:
    (folder / "way").symlink_to("..")
    return "way/l1.wav"


def _append(folder: Path, data: bytes) -> None:
    with (folder / "manifest.jsonl").open("ab") as file:
        file.write(data)


def _edit(folder: Path, **fields: object) -> None:
    """Change the entry of the first line; None removes a field."""
    path = folder / "manifest.jsonl"
    header, first, *rest = path.read_text().splitlines()
    entry = {key: value for key, value in (json.loads(first) | fields).items() if value is not None}
    path.write_text("\n".join([header, json.dumps(entry), *rest]) + "\n")


@pytest.mark.parametrize("damage", DAMAGE)
def test_verify_finds_damage(tmp_path, library, damage):
    folder = tmp_path / "out"
    make(lines("One.", "Two."), folder, library)
    assert verify(folder).problems == ()
    spoil, expected = DAMAGE[damage]
    spoil(folder)
    assert any(expected in problem for problem in verify(folder).problems), verify(folder).problems


def test_verify_tells_of_lines_that_are_not_made(tmp_path, library):
    folder, job = tmp_path / "out", lines("One.", "Two.")
    make(job, folder, library, chosen=job.lines[:1])
    assert verify(folder).problems == ("manifest.jsonl has 1 of the 2 lines of the job; the others are not made yet",)
    with pytest.raises(InputError, match=r"has no manifest\.jsonl"):
        verify(tmp_path)


def test_the_address_of_a_line_is_that_of_its_sound(tmp_path, library):
    base = JobSettings().complete(Line("a", "Hi.", 1))
    changes = [dict(text="Ho."), dict(language="en"), dict(format="mp3"), dict(sampling=SamplingParams(seed=1))]
    recording = tmp_path / "r.wav"
    recording.write_bytes(b"sound")
    settings = [JobSettings(chunk_length=100), JobSettings(check="off"), JobSettings(retries=0)]

    def address(line: Line, settings: JobSettings | None = None, model: ModelIdentity = MODEL) -> str:
        return Addresses(model, library, settings or JobSettings()).of(line)

    found = [address(base), *(address(replace(base, **each)) for each in changes)]
    found += [address(base, each) for each in settings]
    found += [address(base, model=ModelIdentity("a model", "1" * 64))]
    found += [
        address(replace(base, ref=(str(recording),))),
        address(replace(base, ref=(str(recording),), ref_text=("a",))),
    ]
    recording.write_bytes(b"other")
    found += [address(replace(base, ref=(str(recording),)))]
    assert len(set(found)) == len(found)
    assert address(replace(base, id="b", number=9)) == address(base)
    assert address(base, model=ModelIdentity("another name", "0" * 64)) == address(base)
