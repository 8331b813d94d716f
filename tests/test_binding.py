"""The files that a job puts together from its lines: made once, made again where they changed, and none outdated."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fishcli.jobs.binding import Bound, bind
from fishcli.jobs.books import BookSettings
from fishcli.jobs.identity import Addresses, ModelIdentity
from fishcli.jobs.line import Chapter, Job, Line, SpokenChunk
from fishcli.jobs.output import Output
from fishcli.jobs.render import Sound
from fishcli.jobs.settings import JobSettings
from fishcli.voices import Library

RATE, FRAMES = 22_050, 20
FLAC = BookSettings(subtitles=("srt",))


def book(*titles: str) -> Job:
    """Return a job of one line a chapter."""
    said = (Line(f"{i + 1:02}-0001", "One two.", i + 1, chapter=i, format="flac") for i in range(len(titles)))
    return Job(tuple(said), chapters=tuple(map(Chapter, titles)))


def flac() -> Sound:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(FRAMES * 1024, np.float32), RATE, format="FLAC")
    return Sound(file.getvalue(), FRAMES, FRAMES * 1024 / RATE, (SpokenChunk("One two.", 0, FRAMES, 0),), 0)


def run(job: Job, folder: Path, settings: BookSettings, failing: str = "") -> Bound:
    """Do what `fish batch` does with a job whose lines are silent, and of which one may fail."""
    addresses = Addresses(ModelIdentity("a model", "0" * 64), Library(folder / "voices"), JobSettings())
    with Output(folder / "out") as output:
        output.begin(job, job.lines, addresses)
        for line in output.pending:
            output.fail(line, "it failed") if line.id == failing else output.put(line, flac())
        bound = bind(job, output, settings)
        output.finish()
        return bound


def made(folder: Path) -> list[str]:
    return sorted(each.name for each in (folder / "out").iterdir() if each.suffix in (".flac", ".mp3", ".srt"))


def test_files_are_put_together_once(tmp_path):
    job = book("Dawn", "Noon")
    assert run(job, tmp_path, FLAC).fresh
    assert made(tmp_path) == ["01 Dawn.flac", "01 Dawn.srt", "02 Noon.flac", "02 Noon.srt"]
    assert not run(job, tmp_path, FLAC).fresh
    (tmp_path / "out" / "01 Dawn.srt").unlink()
    assert run(job, tmp_path, FLAC).fresh
    assert len(made(tmp_path)) == 4


def test_a_chapter_with_another_title_leaves_no_file_of_the_old_one(tmp_path):
    run(book("Dawn", "Noon"), tmp_path, FLAC)
    run(book("Dawn", "Midday"), tmp_path, FLAC)
    assert made(tmp_path) == ["01 Dawn.flac", "01 Dawn.srt", "02 Midday.flac", "02 Midday.srt"]
    run(book("Dawn"), tmp_path, FLAC)
    assert made(tmp_path) == ["01 Dawn.flac", "01 Dawn.srt"]


def test_a_run_that_was_killed_before_it_put_the_chapters_together_forgets_no_file(tmp_path):
    run(book("Dawn", "Noon"), tmp_path, FLAC)
    job = book("Dawn", "Midday")
    addresses = Addresses(ModelIdentity("a model", "0" * 64), Library(tmp_path / "voices"), JobSettings())
    with Output(tmp_path / "out") as output:
        output.begin(job, job.lines, addresses)
    run(job, tmp_path, FLAC)
    assert made(tmp_path) == ["01 Dawn.flac", "01 Dawn.srt", "02 Midday.flac", "02 Midday.srt"]


@pytest.mark.parametrize("settings", [replace(FLAC, format="mp3"), replace(FLAC, speed=1.5), BookSettings()])
def test_other_settings_keep_the_files_of_another_title(tmp_path, settings):
    run(book("Dawn", "Noon"), tmp_path, FLAC)
    run(book("Dawn", "Midday"), tmp_path, settings)
    assert {"01 Dawn.flac", "02 Noon.flac", "02 Noon.srt"} <= set(made(tmp_path))


def test_a_file_that_somebody_changed_is_kept(tmp_path):
    run(book("Dawn", "Noon"), tmp_path, FLAC)
    (tmp_path / "out" / "02 Noon.srt").write_text("better")
    run(book("Dawn", "Midday"), tmp_path, FLAC)
    assert made(tmp_path) == ["01 Dawn.flac", "01 Dawn.srt", "02 Midday.flac", "02 Midday.srt", "02 Noon.srt"]


def test_a_chapter_that_fails_does_not_cost_the_file_from_before(tmp_path):
    run(book("Dawn", "Noon"), tmp_path, FLAC)
    job = book("Dawn", "Midday")
    changed = Job((job.lines[0], replace(job.lines[1], text="Three four.")), chapters=job.chapters)
    assert run(changed, tmp_path, FLAC, failing="02-0001").incomplete == ("Midday",)
    assert "02 Noon.flac" in made(tmp_path)
