"""Compare the files of a whole book with its text: each paragraph once, in order, chapters right, all times exact."""

import json

import numpy as np
import soundfile

from fishcli.jobs import manifest, marks, readers
from fishcli.jobs.marks import Pause

PARAGRAPH, HEADING = 0.6, 1.2  # seconds between lines, the defaults


def check(path, folder, book):
    """Compare the chapters of a book with its text, its lines' files and their manifest."""
    job, entries = readers.read(path), manifest.entries(folder)
    assert [marks.plain(line.text) for line in job.lines if not line.heading] == [
        marks.plain(each) for chapter in book for each in chapter.paragraphs
    ]
    assert len(entries) == len(job.lines)
    files = sorted(folder.glob("*.flac"))
    assert [file.stem[3:] for file in files] == [chapter.title.strip() for chapter in book]
    for index, file in enumerate(files):
        lines = [line for line in job.lines if line.chapter == index]
        check_chapter(folder, file, lines, entries)


def check_chapter(folder, file, lines, entries):
    whole, rate = soundfile.read(file, dtype="float32")
    said = iter(json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["chunks"])
    at, before = 0, None
    for line in lines:
        if before is not None:
            pause = round(rate * (HEADING if before.heading or line.heading else PARAGRAPH))
            assert not whole[at : at + pause].any()
            at += pause
        entry = entries[line.id]
        own, _ = soundfile.read(folder / entry.file, dtype="float32")
        np.testing.assert_allclose(whole[at : at + len(own)], own, atol=2 / 2**15)
        frame = len(own) // entry.frames
        assert len(own) == frame * entry.frames
        for chunk in entry.chunks:
            spoken = next(said)
            assert spoken["text"] == chunk.text
            assert abs(spoken["start"] - (at + chunk.start * frame) / rate) < 0.001
            assert abs(spoken["end"] - (at + (chunk.start + chunk.frames) * frame) / rate) < 0.001
        check_pauses(own, line, entry, frame, rate)
        at, before = at + len(own), line
    assert at == len(whole)
    assert next(said, None) is None


def check_pauses(own, line, entry, frame, rate):
    """Look for the silences of a line where its chunks leave room."""
    wanted = [round(part.seconds * rate / frame) for part in marks.parse(line.text) if isinstance(part, Pause)]
    ends = [chunk.start + chunk.frames for chunk in entry.chunks]
    starts = [chunk.start for chunk in entry.chunks[1:]] + [entry.frames]
    gaps = [(end, start) for end, start in zip(ends, starts, strict=True) if start > end]
    assert [start - end for end, start in gaps] == wanted
    assert not any(own[end * frame : start * frame].any() for end, start in gaps)
