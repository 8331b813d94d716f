"""What the programs that fuzz with atheris share: a folder of their own, and the run."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import atheris

FOLDER = Path(os.path.realpath(tempfile.mkdtemp()))


def run(check: Callable[[bytes], None], seeds: Mapping[str, bytes], look: Callable[..., None]) -> None:
    """Fuzz `check`, beginning with the seeds; `look` sees each event that Python audits."""
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for name, data in seeds.items():
        (corpus / name).write_bytes(data)
    sys.addaudithook(look)
    atheris.Setup([*sys.argv, str(corpus)], check)
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
