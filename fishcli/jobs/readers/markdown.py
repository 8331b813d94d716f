"""A book in Markdown: its headings are chapters."""

from __future__ import annotations

from pathlib import Path

from fishcli.jobs.line import Job


def read(path: Path) -> Job:
    """Return the job of a Markdown file. Raises InputError for a file that cannot be read, or without words."""
    raise NotImplementedError(path)
