"""Check the lines of a job before work starts: ids, texts, voices, recordings, formats and languages."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from fishcli import files, text
from fishcli.errors import FishError, InputError
from fishcli.jobs.line import MAX_TEXT, Job, Line, Problem
from fishcli.jobs.marks import Speech
from fishcli.jobs.settings import FORMATS, JobSettings
from fishcli.voices import Library, is_id


def checked(job: Job, library: Library, settings: JobSettings) -> Job:
    """Return the job with its lines complete; those that cannot be spoken are among its problems.

    Raises FishError if the voice or the recordings of the settings themselves are missing.
    """
    known = _Known(library)
    known.check(settings.voice, settings.ref, settings.ref_text)
    good: dict[str, Line] = {}
    problems = list(job.problems)
    for line in job.lines:
        try:
            if (first := good.get(line.id.casefold())) is not None:
                raise InputError(f"its id {line.id!r:.70} is that of line {first.number} already")
            complete = settings.complete(line)
            _check(complete, settings, known)
            good[line.id.casefold()] = complete
        except FishError as error:
            problems.append(Problem(line.number, str(error), line.id))
    return dataclasses.replace(
        job, lines=tuple(good.values()), problems=tuple(sorted(problems, key=lambda each: each.number))
    )


def _check(line: Line, settings: JobSettings, known: _Known) -> None:
    """Raise FishError for a line that cannot be spoken."""
    if not is_id(line.id):
        raise InputError(f"its id {line.id!r:.70} cannot name a file; use 1 to 64 letters, digits, _ and -")
    if len(line.text) > MAX_TEXT:
        raise InputError(f"its text has {len(line.text):,} characters and at most {MAX_TEXT:,} are taken; split it")
    if line.format not in FORMATS:
        raise InputError(f"there is no format {line.format!r:.40}; use one of {', '.join(FORMATS)}")
    text.check_language(line.language)
    spoken = [part for part in settings.parts(line) if isinstance(part, Speech)]
    text.check("".join(part.text for part in spoken))
    if line.voice is not None and line.ref:
        raise InputError("it has both voice and ref; give one of them")
    known.check(line.voice, line.ref, line.ref_text)
    for part in spoken:
        known.check(part.voice, (), ())


class _Known:
    """The voices and recordings of a job, each looked for once."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._faults: dict[tuple[str, str], FishError | None] = {}

    def check(self, voice: str | None, ref: tuple[str, ...], ref_text: tuple[str, ...]) -> None:
        """Raise FishError for a voice or a recording that is not there, or transcripts that do not match."""
        if ref_text and len(ref_text) != len(ref):
            raise InputError(f"it has {len(ref)} ref and {len(ref_text)} ref_text; give one for each, or none")
        for kind, name in [*([("voice", voice)] if voice is not None else []), *(("ref", path) for path in ref)]:
            if (kind, name) not in self._faults:
                self._faults[kind, name] = self._fault(kind, name)
            if (fault := self._faults[kind, name]) is not None:
                raise fault

    def _fault(self, kind: str, name: str) -> FishError | None:
        try:
            if kind == "voice":
                self._library.find(name)
            else:
                files.open_regular(Path(name)).close()
        except FishError as error:
            return error
        return None
