"""The content address of a line: a digest of all that its sound depends on. The same address, the same sound."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import fishcli
from fishcli import files
from fishcli.checkpoints import local
from fishcli.jobs import sources
from fishcli.jobs.line import Line, with_voice
from fishcli.jobs.marks import Speech
from fishcli.jobs.settings import JobSettings
from fishcli.voices import Library

_BLOCK = 2**20  # bytes


@dataclass(frozen=True)
class ModelIdentity:
    """A model by the contents of its files, and how it runs, as the settings have it."""

    name: str
    digest: str
    device: str = "auto"
    dtype: str = "auto"
    quantize: str = "auto"

    @classmethod
    def of(
        cls,
        model: str | Path | None = None,
        codec: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        quantize: str = "auto",
    ) -> ModelIdentity:
        """Return the identity of the model that `load` would load with these arguments. Raises ModelMissing.

        The first call for a model reads all its files, which takes seconds for a large one.
        """
        codec = codec or local.codec_of(model)
        found = local.find(model, tuple(name for name in local.NEEDED if codec is None or name != local.CODEC))
        codec_path = Path(codec) if codec else found.path / local.CODEC
        own = (found.path / name for name in local.FILES if name not in (local.CODEC, "codec.json"))
        paths = [path for path in (*own, codec_path, codec_path.with_name("codec.json")) if path.is_file()]
        digest = hashlib.sha256(" ".join(map(_digest_of, paths)).encode()).hexdigest()
        return cls(found.name, digest, device, dtype, quantize)


def _digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, remembered in the cache by its place, size and time."""
    status = path.stat()
    known = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    kept = files.folder("cache") / "digests" / hashlib.sha256(known.encode()).hexdigest()
    if kept.is_file() and len(digest := kept.read_text(encoding="ascii", errors="replace")) == 64:
        return digest
    digest = sha256_of(path)
    with contextlib.suppress(OSError):  # a cache that cannot be written: the file is read again next time
        kept.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(kept, durable=False) as temporary:
            temporary.write_text(digest, encoding="ascii")
    return digest


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a regular file. Raises InputError if it cannot be opened."""
    digest = hashlib.sha256()
    with files.open_regular(path) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def voices_of(line: Line, settings: JobSettings) -> list[Line]:
    """Return the line with each of its voices: its own, and those that its marks name."""
    named = [part.voice for part in settings.parts(line) if isinstance(part, Speech) and part.voice is not None]
    return [line, *(with_voice(line, name) for name in dict.fromkeys(named))]


class Addresses:
    """The content addresses of the lines of a job, which are complete: see `JobSettings.complete`."""

    def __init__(self, model: ModelIdentity, library: Library, settings: JobSettings) -> None:
        self.model, self.settings, self._library = model, settings, library
        self._voices: dict[sources.Key, str] = {}

    def of(self, line: Line) -> str:
        """Return the address of a line, 64 hexadecimal digits. Raises FishError if its recordings cannot be read."""
        settings = self.settings
        parts = {
            "version": fishcli.__version__,
            "model": dataclasses.astuple(self.model)[1:],
            "text": self.settings.parts(line),
            "voices": [self._voice(each) for each in voices_of(line, self.settings)],
            "language": line.language,
            "format": line.format,
            "sampling": dataclasses.astuple(line.sampling),
            "chunk_length": settings.chunk_length,
            "iterative_prompt": settings.iterative_prompt,
            "normalize": settings.normalize,
            "check": settings.check,
            "retries": settings.retries,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _voice(self, line: Line) -> str:
        """Return a digest of the recordings and transcripts of a line; "" where it has none."""
        key = sources.key(line)
        if key not in self._voices:
            digest, found = hashlib.sha256(), sources.read(line, self._library)
            for each in found:
                digest.update(hashlib.sha256(each.data).digest() + hashlib.sha256(each.text.encode()).digest())
            self._voices[key] = digest.hexdigest() if found else ""
        return self._voices[key]
