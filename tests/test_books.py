"""Books put together: order, chapters, pauses, loudness, tags and the times of subtitles, all against the sound."""

import hashlib
import json
import re
import struct
import sys
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import sample_book
import soundfile

from fishcli.audio import ogg
from fishcli.errors import FishError, InputError, SettingError
from fishcli.jobs import books, marks, subtitles
from fishcli.jobs.books import BookSettings
from fishcli.jobs.line import Chapter, Job, Line, SpokenChunk
from fishcli.jobs.loudness import Meter
from fishcli.jobs.readers import chapters
from fishcli.jobs.readers.chapters import Block

RATE, HOP = 16_000, 640  # of the sounds here: a frame is 40 ms
SILENT = 0.01
QUIET = BookSettings(paragraph_pause=0.5, heading_pause=1.0, chapter_pause=2.0)


@dataclass(frozen=True)
class Entry:
    file: str | None
    frames: int
    chunks: tuple[SpokenChunk, ...]


def tone(number: int, frames: int) -> np.ndarray:
    """A sound that tells its line: a tone of its own frequency."""
    time = np.arange(frames * HOP) / RATE
    return (0.3 * np.sin(2 * np.pi * (300 + 50 * number) * time)).astype(np.float32)


def spoken(folder: Path, job: Job) -> dict[str, Entry]:
    """Make a tone for each line of a job, of two chunks with 12 frames and more."""
    (folder / "lines").mkdir()
    entries = {}
    for number, line in enumerate(job.lines):
        frames = 25 + 7 * (number % 4)
        file = f"lines/{line.id}.flac"
        soundfile.write(folder / file, tone(number, frames), RATE)
        said = line.text.split()
        half = (" ".join(said[: len(said) // 2]), 0, 12), (" ".join(said[len(said) // 2 :]), 12, frames - 12)
        entries[line.id] = Entry(file, frames, tuple(SpokenChunk(*each, 0) for each in half))
    return entries


def book(paragraphs: int = 9, per_chapter: int = 3) -> Job:
    blocks = [Block("The Book", 1)]
    for chapter in sample_book.chapters(paragraphs, per_chapter):
        blocks += [Block(chapter.title, 2), *(Block(marks.plain(each)) for each in chapter.paragraphs)]
    return chapters.job(blocks, "x")


@pytest.fixture
def made(tmp_path):
    job = book()
    return job, tmp_path, spoken(tmp_path, job)


def stretches(path: Path) -> tuple[np.ndarray, list[tuple[float, float, float]]]:
    """Return the samples, and start, end (s) and frequency (Hz) of each stretch of sound in a file."""
    samples, rate = soundfile.read(path, dtype="float32")
    window = rate // 200
    loud = np.abs(samples[: len(samples) // window * window]).reshape(-1, window).max(axis=1) > SILENT
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(int), [0]])))
    found = []
    for start, end in edges.reshape(-1, 2) * window:
        if end - start < rate / 5:  # an echo of the encoder before an edge
            continue
        middle = samples[start + window : end - window]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 4 * rate))
        found.append((start / rate, end / rate, spectrum.argmax() / 4))
    return samples, found


def numbers(found: list[tuple[float, float, float]]) -> list[int]:
    """Return which line each stretch is."""
    return [round((frequency - 300) / 50) for _, _, frequency in found]


def test_a_file_for_each_chapter_has_its_lines_in_order(made):
    job, folder, entries = made
    result = books.assemble(job, folder, entries, QUIET)
    assert [file.path.name[:3] for file in result.files] == ["01 ", "02 ", "03 "]
    assert [file.chapters[0][0] for file in result.files] == [chapter.title for chapter in job.chapters]
    assert result.incomplete == ()
    heard = []
    for file in result.files:
        samples, found = stretches(file.path)
        assert abs(file.seconds - len(samples) / RATE) < 1e-9
        heard += numbers(found)
        lines = [job.lines[number] for number in numbers(found)]
        for (line, after), (one, two) in zip(zip(lines, lines[1:]), zip(found, found[1:])):  # noqa: B905, RUF007
            pause = 1.0 if line.heading or after.heading else 0.5
            assert abs(two[0] - one[1] - pause) <= 0.011
    assert heard == list(range(len(job.lines)))


@pytest.mark.parametrize(("format", "speed"), [("flac", 1.0), ("flac", 1.3), ("mp3", 1.0), ("opus", 0.8)])
def test_subtitles_lie_within_a_frame_of_the_sound(made, format, speed):
    job, folder, entries = made
    settings = replace(QUIET, format=format, speed=speed, one_file=True, subtitles=("srt", "vtt", "json"))
    [file] = books.assemble(job, folder, entries, settings).files
    assert [path.suffix for path in file.subtitles] == [".srt", ".vtt", ".json"]
    _, found = stretches(file.path)
    assert numbers(found) == list(range(len(job.lines)))
    said = json.loads(file.subtitles[2].read_text(encoding="utf-8"))["chunks"]
    assert [chunk["text"] for chunk in said] == [chunk.text for line in job.lines for chunk in entries[line.id].chunks]
    for (start, end, _), first, second in zip(found, said[::2], said[1::2], strict=True):
        assert abs(first["start"] - start) < HOP / RATE
        assert abs(second["end"] - end) < HOP / RATE
        assert abs(first["end"] - first["start"] - 12 * HOP / RATE / speed) < 0.002
        assert first["end"] == second["start"]
    times = re.findall(r"(\d\d):(\d\d):(\d\d),(\d{3})", file.subtitles[0].read_text(encoding="utf-8"))
    seconds = [int(h) * 3600 + int(m) * 60 + int(s) + int(ms) / 1000 for h, m, s, ms in times]
    assert seconds == sorted(seconds)
    assert seconds[-1] <= file.seconds + 0.001
    starts = [start for start, _, _ in found]
    for title, at in file.chapters:
        first = next(index for index, line in enumerate(job.lines) if job.chapters[line.chapter].title == title)
        assert abs(starts[first] - at) < HOP / RATE


@pytest.mark.parametrize("format", ["flac", "mp3", "opus"])
def test_the_same_lines_give_the_same_bytes(made, format):
    job, folder, entries = made
    settings = replace(QUIET, format=format, loudness=-20.0, one_file=True, subtitles=("json",))
    digests = []
    for _ in range(2):
        result = books.assemble(job, folder, entries, settings)
        paths = sorted(path for path in folder.iterdir() if path.is_file())
        assert len(paths) == 2 + len(result.files)
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])
    assert digests[0] == digests[1]


def comments(path: Path) -> list[str]:
    """Return the Vorbis comments of a FLAC or Opus file."""
    if path.suffix == ".opus":
        with path.open("rb") as file:
            found = ogg.pages(file)
            next(found)
            data = b""
            for page in found:
                data += page.body
                if page.sizes[-1] < 255:
                    break
        assert data[:8] == b"OpusTags"
        data = data[8:]
    else:
        data = path.read_bytes()[4:]
        while data[0] & 127 != 4:
            data = data[4 + int.from_bytes(data[1:4], "big") :]
        data = data[4:]
    at = 4 + struct.unpack_from("<I", data)[0]
    [count], at, found = struct.unpack_from("<I", data, at), at + 4, []
    for _ in range(count):
        [size] = struct.unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return found


def frames(data: bytes) -> list[tuple[str, bytes]]:
    """Return the frames of ID3."""
    found = []
    while data:
        size = int("".join(f"{byte:07b}" for byte in data[4:8]), 2)
        found.append((data[:4].decode(), data[10 : 10 + size]))
        data = data[10 + size :]
    return found


def tag(path: Path) -> list[tuple[str, bytes]]:
    data = path.read_bytes()
    assert data[:6] == b"ID3\4\0\0"
    return frames(data[10 : 10 + int("".join(f"{byte:07b}" for byte in data[6:10]), 2)])


@pytest.mark.parametrize("format", ["flac", "opus"])
def test_comments_name_title_and_chapters(made, format):
    job, folder, entries = made
    titles = [chapter.title for chapter in job.chapters]
    files = books.assemble(job, folder, entries, replace(QUIET, format=format)).files
    for number, (file, title) in enumerate(zip(files, titles, strict=True), 1):
        assert comments(file.path) == [f"TITLE={title}", "ALBUM=The Book", f"TRACKNUMBER={number}", "TRACKTOTAL=3"]
    [file] = books.assemble(job, folder, entries, replace(QUIET, format=format, one_file=True)).files
    found = comments(file.path)
    assert file.path.name == f"The Book.{format}"
    assert found[:2] == ["TITLE=The Book", "ALBUM=The Book"]
    assert found[3::2] == [f"CHAPTER{number:03}NAME={title}" for number, title in enumerate(titles, 1)]
    for said, (_, start) in zip(found[2::2], file.chapters, strict=True):
        hours, minutes, seconds = said.partition("=")[2].split(":")
        assert abs(int(hours) * 3600 + int(minutes) * 60 + float(seconds) - start) <= 0.0005


def test_an_mp3_has_id3_chapters(made):
    job, folder, entries = made
    titles = [chapter.title for chapter in job.chapters]
    one, *_ = books.assemble(job, folder, entries, replace(QUIET, format="mp3")).files
    assert tag(one.path) == [
        ("TIT2", b"\3" + titles[0].encode()),
        ("TALB", b"\3The Book"),
        ("TRCK", b"\x031/3"),
    ]
    [file] = books.assemble(job, folder, entries, replace(QUIET, format="mp3", one_file=True)).files
    found = tag(file.path)
    assert [id for id, _ in found] == ["TIT2", "TALB", "CTOC", *["CHAP"] * 3]
    assert found[2][1] == b"toc\0\3\3chp0\0chp1\0chp2\0"
    ends = [start for _, start in file.chapters[1:]] + [file.seconds]
    for number, (_, body) in enumerate(found[3:]):
        assert body[:5] == f"chp{number}\0".encode()
        start, end = struct.unpack(">2I", body[5:13])
        assert (start, end) == (round(1000 * file.chapters[number][1]), round(1000 * ends[number]))
        assert frames(body[21:]) == [("TIT2", b"\3" + titles[number].encode())]


def test_a_cue_sheet_lies_beside_one_file(made):
    job, folder, entries = made
    [file] = books.assemble(job, folder, entries, replace(QUIET, one_file=True)).files
    assert file.paths == (file.path, folder / "The Book.cue")
    lines = file.paths[1].read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ['TITLE "The Book"', 'FILE "The Book.flac" WAVE']
    assert lines[3::3] == [f'    TITLE "{chapter.title}"' for chapter in job.chapters]
    for line, (_, start) in zip(lines[4::3], file.chapters, strict=True):
        minutes, seconds, count = map(int, line.removeprefix("    INDEX 01 ").split(":"))
        assert 0 <= start - (minutes * 60 + seconds + count / 75) < 1 / 75


def test_one_gain_brings_the_book_to_its_loudness(made):
    pyloudnorm = pytest.importorskip("pyloudnorm")
    job, folder, entries = made
    for target in (-30.0, -23.0):
        result = books.assemble(job, folder, entries, replace(QUIET, loudness=target))
        whole = np.concatenate([soundfile.read(file.path)[0] for file in result.files])
        assert abs(pyloudnorm.Meter(RATE, "DeMan").integrated_loudness(whole) - target) < 0.1
    result = books.assemble(job, folder, entries, replace(QUIET, loudness=-5.0))
    assert abs(result.gain - 20 * np.log10(10 ** (-1 / 20) / 0.3)) < 0.1  # as far as the peak of -1 dBTP


def test_the_meter_is_that_of_pyloudnorm_in_blocks_of_any_size():
    pyloudnorm = pytest.importorskip("pyloudnorm")
    draw = np.random.default_rng(0)
    for rate in (16_000, 44_100):
        samples = (
            draw.standard_normal(7 * rate + 123)
            * np.repeat([0.2, 0.001, 0.05, 0.0, 0.1, 0.3, 0.02, 0.2], rate)[: 7 * rate + 123]
        )
        meter, at = Meter(rate), 0
        while at < len(samples):
            size = int(draw.integers(0, rate))
            meter.add(samples[at : at + size].astype(np.float32))
            meter.add(np.zeros(0, np.float32))
            at += size
        assert abs(meter.loudness - pyloudnorm.Meter(rate, "DeMan").integrated_loudness(samples)) < 0.05
    silent = Meter(16_000)
    silent.add(np.zeros(16_000, np.float32))
    assert silent.gain(-20) == 0


def test_a_chapter_that_lacks_a_line_is_named_and_not_written(made):
    job, folder, entries = made
    missing = next(line.id for line in job.lines if line.chapter == 1)
    rest = {**entries, missing: replace(entries[missing], file=None)}
    result = books.assemble(job, folder, rest, QUIET)
    assert [file.path.name[:2] for file in result.files] == ["01", "03"]
    assert result.incomplete == (job.chapters[1].title,)
    assert books.assemble(job, folder, rest, replace(QUIET, one_file=True)).files == ()


def test_lines_without_chapters_are_one(tmp_path):
    job = Job((Line("a", "One two.", 1), Line("b", "Three four.", 2)))
    [file] = books.assemble(job, tmp_path, spoken(tmp_path, job), QUIET).files
    assert numbers(stretches(file.path)[1]) == [0, 1]
    assert file.path.name == f"01 {tmp_path.name}.flac"


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("../../etc/passwd", "01 etc passwd.flac"),
        ("CON", "01 CON_.flac"),
        ("...", "01 Untitled.flac"),
        ("a\0b/c\\d:e*f?", "01 a b c d e f.flac"),
        ("第一章 " * 40, None),
    ],
)
def test_a_title_is_a_safe_name(tmp_path, title, name):
    job = Job((Line("a", "One two.", 1, chapter=0),), chapters=(Chapter(title),))
    [file] = books.assemble(job, tmp_path, spoken(tmp_path, job), QUIET).files
    assert file.path.parent == tmp_path
    assert file.path.name == name if name else len(file.path.name.encode()) < 140


def test_files_that_are_no_lines_are_refused(made):
    job, folder, entries = made
    first, second = (folder / entries[line.id].file for line in job.lines[:2])
    for data, said in ((b"no sound", "cannot be decoded"), (None, "cannot be read")):
        first.unlink(missing_ok=True)
        if data is not None:
            first.write_bytes(data)
        with pytest.raises(InputError, match=said):
            books.assemble(job, folder, entries, QUIET)
    soundfile.write(first, np.zeros((100, 2)), RATE)
    with pytest.raises(InputError, match="not mono"):
        books.assemble(job, folder, entries, QUIET)
    soundfile.write(first, np.zeros(100), 8_000)
    with pytest.raises(InputError, match="8000 Hz"):
        books.assemble(job, folder, entries, QUIET)
    soundfile.write(first, np.random.default_rng(0).standard_normal(20_000) / 9, RATE)
    first.write_bytes(first.read_bytes()[:20_000])
    with pytest.raises(InputError, match=r"cut off|cannot be decoded"):
        books.assemble(job, folder, entries, QUIET)
    assert second.is_file()
    assert [path.name for path in folder.iterdir()] == ["lines"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": "wav"},
        {"paragraph_pause": -1},
        {"heading_pause": float("nan")},
        {"chapter_pause": 61},
        {"speed": 5},
        {"loudness": 0},
        {"subtitles": ("ass",)},
    ],
)
def test_settings_are_checked(wrong):
    with pytest.raises(SettingError):
        BookSettings(**wrong)


def test_without_the_extra_the_error_names_it(made, monkeypatch):
    job, folder, entries = made
    monkeypatch.setitem(sys.modules, "pyloudnorm.iirfilter", None)
    with pytest.raises(FishError, match=r"pip install 'fishcli\[books\]'"):
        books.assemble(job, folder, entries, replace(QUIET, loudness=-20))


@pytest.mark.slow
def test_a_long_book_is_not_held_in_memory(tmp_path):
    job = Job(tuple(Line(f"{number}", "One two.", number, chapter=0) for number in range(20)), chapters=(Chapter("A"),))
    (tmp_path / "lines").mkdir()
    soundfile.write(tmp_path / "lines" / "0.flac", tone(1, 25 * 60), RATE)
    chunk = SpokenChunk("One two.", 0, 25 * 60, 0)
    entries = {line.id: Entry("lines/0.flac", 25 * 60, (chunk,)) for line in job.lines}
    Meter(RATE).add(np.zeros(1, np.float32))  # imports scipy, which takes more than a book
    tracemalloc.start()
    [file] = books.assemble(job, tmp_path, entries, replace(QUIET, format="mp3", loudness=-20)).files
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert file.seconds > 1200
    assert peak < 8 * 2**20 < 4 * file.seconds * RATE / 8


def test_ogg_pages_have_the_checksums_of_libogg(tmp_path):
    path = tmp_path / "a.opus"
    soundfile.write(path, tone(1, 50), RATE, format="OGG", subtype="OPUS")
    data = path.read_bytes()
    serial = int.from_bytes(data[14:18], "little")
    with path.open("rb") as file:
        assert b"".join(ogg.packed(ogg.pages(file), serial)) == data
    with path.open("rb") as file:
        packet = b"OpusTags" + bytes(4) + struct.pack("<I", 1) + struct.pack("<I", 200_000) + b"A=" + b"x" * 199_998
        changed = b"".join(ogg.packed(ogg.with_packet(ogg.pages(file), packet)))
    (tmp_path / "b.opus").write_bytes(changed)
    assert comments(tmp_path / "b.opus") == ["A=" + "x" * 199_998]
    np.testing.assert_array_equal(soundfile.read(path)[0], soundfile.read(tmp_path / "b.opus")[0])
    for size in (0, 254, 255, 255 * 255 - 1, 255 * 255, 255 * 256):
        with path.open("rb") as file:
            found = list(ogg.with_packet(ogg.pages(file), bytes(size)))
        assert sum(len(page.body) for page in found[1 : 2 + size // (255 * 255)]) == size
    (tmp_path / "c.opus").write_bytes(data[:300] + data[310:])
    with (tmp_path / "c.opus").open("rb") as file, pytest.raises(InputError, match="damaged"):
        list(ogg.pages(file))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_files_can_be_made_again(tmp_path, subtype):
    made = []
    for name in "ab":
        soundfile.write(tmp_path / name, tone(1, 50), 48_000, format="OGG", subtype=subtype)
        made.append(ogg.repeatable((tmp_path / name).read_bytes()))
    assert made[0] == made[1]
    (tmp_path / "c").write_bytes(made[0])
    np.testing.assert_array_equal(soundfile.read(tmp_path / "a")[0], soundfile.read(tmp_path / "c")[0])


def test_kinds_of_subtitles_have_writers():
    assert subtitles.KINDS == ("srt", "vtt", "json")
