"""A book in EPUB 2 or 3: chapters from its spine and headings."""

from __future__ import annotations

from pathlib import Path

from fishcli.jobs.line import Job


def read(path: Path) -> Job:
    """Return the job of an EPUB. Raises InputError for a file that is none, is locked, or is not safe to open."""
    raise NotImplementedError(path)
