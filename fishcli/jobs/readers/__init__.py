"""Read a job from a file: lines of text, of JSON or CSV, or a book. The ending of its name decides."""

from __future__ import annotations

from pathlib import Path

from fishcli.errors import InputError
from fishcli.jobs.line import Job

LINES = (".jsonl", ".csv", ".txt")
BOOKS = (".md", ".epub")


def read(path: Path, paragraphs: bool = False) -> Job:
    """Return the job of a file. `paragraphs`: a .txt has a line for each paragraph, not for each of its lines.

    Raises InputError for a file that cannot be read; a line that cannot is one of the job's problems.
    """
    ending = path.suffix.lower()
    if ending in LINES:
        from fishcli.jobs.readers import lines

        return lines.read(path, paragraphs)
    if ending == ".md":
        from fishcli.jobs.readers import markdown

        return markdown.read(path)
    if ending == ".epub":
        from fishcli.jobs.readers import epub

        return epub.read(path)
    raise InputError(f"{path} is no job; its name must end in one of {', '.join((*LINES, *BOOKS))}.")
