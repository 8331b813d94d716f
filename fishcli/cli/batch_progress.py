"""The progress of a job while its lines are spoken, and the report at its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence, Set
from pathlib import Path
from types import TracebackType

from fishcli import text
from fishcli.cli import console
from fishcli.jobs.binding import Bound
from fishcli.jobs.line import Line, Problem
from fishcli.jobs.manifest import Entry
from fishcli.jobs.marks import Speech
from fishcli.jobs.settings import JobSettings

_EVERY = 15.0  # seconds between two lines of progress where there is no live terminal
_SHOWN = 20  # problems of one kind
_LEAD = 0.5  # seconds around the words of a line


def expected(line: Line) -> float:
    """Return about how long a line will last, in seconds."""
    return _LEAD + text.seconds(line.text)


class JobProgress:
    """Follows the lines that are made. Live on a terminal, a line now and then elsewhere."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._total = len(lines)
        self._left = self._all = sum(map(expected, lines)) or 1.0
        self.made: list[Entry] = []
        self.failed: list[Problem] = []
        self.seconds = 0.0
        self._began = self._said = time.monotonic()

    def __enter__(self) -> JobProgress:
        self._stack = contextlib.ExitStack()
        return self

    def begin(self) -> None:
        """Start the clock and the bar, once the model is loaded."""
        self._began = self._said = time.monotonic()
        if console.is_live():
            self._stack.enter_context(console.job_bar(self._state))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.elapsed = time.monotonic() - self._began
        self._stack.__exit__(kind, error, trace)

    @property
    def ended(self) -> int:
        """Lines that were made or have failed."""
        return len(self.made) + len(self.failed)

    def saw(self, line: Line, entry: Entry) -> None:
        """Count a line that has ended."""
        self._left -= expected(line)
        self.seconds += entry.seconds
        if entry.error is None:
            self.made.append(entry)
        else:
            self.failed.append(Problem(line.number, entry.error, line.id))
        now = time.monotonic()
        if not console.is_live() and now - self._said > _EVERY and self.ended < self._total:
            self._said = now
            console.note(", ".join(self._state()[1:]))

    def _state(self) -> tuple[float, str, str]:
        elapsed = time.monotonic() - self._began
        done = self._all - self._left
        figures = []
        if self.seconds:
            figures = [f"{console.clock(self.seconds)} of sound", f"real-time factor {elapsed / self.seconds:.2f}"]
        if done > 0:
            figures.append(f"about {console.clock(elapsed * max(self._left, 0.0) / done)} left")
        return done / self._all, f"{self.ended:,} of {self._total:,} lines", ", ".join(figures)


def report(
    folder: Path, lines: int, seen: JobProgress, problems: Sequence[Problem], left_over: Sequence[Entry], bound: Bound
) -> int:
    """Show what was made and what was not, or print it as JSON. Return the exit code: 6 if a part has failed."""
    failed = sorted([*problems, *seen.failed], key=lambda each: each.number)
    faults = [(entry, chunk) for entry in seen.made for chunk in entry.faults]
    factor = round(seen.elapsed / seen.seconds, 3) if seen.seconds else 0.0
    console.result(
        {
            "folder": str(folder),
            "lines": lines,
            "made": len(seen.made),
            "seconds": round(seen.seconds, 3),
            "real_time_factor": factor,
            "retries": sum(entry.retries for entry in seen.made),
            "failed": [{"number": each.number, "id": each.id, "reason": each.message} for each in failed],
            "faults": [{"id": entry.id, "text": chunk.text, "fault": chunk.fault} for entry, chunk in faults],
            "left_over": [each.file for each in left_over],
            "files": bound.files,
            "incomplete": bound.incomplete,
        }
    )
    _show("of no line of the job any more", [str(folder / str(each.file)) for each in left_over])
    for entry, chunk in faults[:_SHOWN]:
        console.warn(f'{entry.id}: "{shortened(chunk.text)}" came out {chunk.fault}.')
    if len(faults) > _SHOWN:
        console.warn(f"{len(faults) - _SHOWN:,} more chunks came out wrong; the manifest names them.")
    said = f"Saved {counted(len(seen.made), 'line')} in {folder}" if seen.made else f"Nothing to make in {folder}"
    kept = lines - len(seen.made) - len(seen.failed)
    figures = f"{console.clock(seen.seconds)} of sound, real-time factor {factor:.2f}" if seen.made else ""
    there = f"{counted(kept, 'line')} there already" if kept else ""
    console.note(f"{said} ({'; '.join(filter(None, (figures, there)))})" if figures or there else said)
    _show_bound(folder, bound)
    if not failed:
        return 0
    for each in seen.failed[:_SHOWN]:
        console.error(described(each))
    console.error(f"{counted(len(failed), 'line')} failed; correct them and run the same command again.")
    return 6 if seen.made or kept else 1


def _show_bound(folder: Path, bound: Bound) -> None:
    """Show the files that were put together from the lines, and the chapters that lack one."""
    if bound.incomplete:
        names = ", ".join(map(shortened, bound.incomplete[:3])) + ("..." if len(bound.incomplete) > 3 else "")
        console.warn(f"{counted(len(bound.incomplete), 'chapter')} cannot be put together yet: {names}.")
    if bound.files and bound.fresh:
        more = f" and {len(bound.files) - 1:,} more" if len(bound.files) > 1 else ""
        length = f" ({console.clock(bound.seconds)})" if bound.seconds else ""
        console.note(f"Saved {folder / bound.files[0]}{more}{length}")


def show_plan(
    folder: Path,
    lines: Sequence[Line],
    made: Set[str],
    problems: Sequence[Problem],
    settings: JobSettings,
    factor: float | None,
) -> None:
    """Show the lines of a job, their characters and the expected hours; `factor` is the real-time factor, if known."""
    texts = [part.text for line in lines for part in settings.parts(line) if isinstance(part, Speech)]
    pending = [line for line in lines if line.id not in made]
    seconds = {line.id: expected(line) for line in lines}
    left = sum(seconds[line.id] for line in pending)
    figures: dict[str, object] = {
        "folder": str(folder),
        "lines": len(lines),
        "characters": sum(map(len, texts)),
        "hours": round(sum(seconds.values()) / 3600, 4),
        "to_make": len(pending),
        "hours_to_work": None if factor is None else round(left * factor / 3600, 4),
    }
    listed = [{"number": each.number, "id": each.id, "made": each.id in made} for each in lines]
    failed = [{"number": each.number, "id": each.id, "reason": each.message} for each in problems]
    console.result(figures | {"failed": failed, "items": listed})
    if console.flags.json:
        return
    total = console.clock(sum(seconds.values()))
    said = f"{counted(len(lines), 'line')}, {figures['characters']:,} characters, about {total} of sound"
    console.listing(f"{said}, for {folder}")
    if made:
        console.listing(f"{counted(len(pending), 'line')} to make, about {console.clock(left)} of sound")
    if factor is not None:
        console.listing(f"about {console.clock(left * factor)} to work, at the speed of the last job with this model")


def described(problem: Problem) -> str:
    """Return a line's place and what is wrong with it."""
    named = f" ({problem.id})" if problem.id and not problem.id.isdigit() and problem.id.isprintable() else ""
    return f"line {problem.number}{named}: {problem.message}"


def show_problems(problems: Sequence[Problem]) -> None:
    """Warn of lines that cannot be spoken."""
    for each in problems[:_SHOWN]:
        console.warn(described(each))
    if len(problems) > _SHOWN:
        console.warn(f"{len(problems) - _SHOWN:,} more lines cannot be spoken; --json lists them all.")


def counted(count: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def shortened(words: str) -> str:
    """Return the start of a text."""
    return words if len(words) <= 40 else f"{words[:37]}..."


def _show(what: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
        console.note(f"{counted(len(names), 'file')} {what}: {', '.join(names[:3])}{more}.")
