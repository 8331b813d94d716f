"""Fuzz manifests of jobs: damaged lines by number, or entries whose files stay in the folder; none is opened.

    pip install atheris && python tests/fuzz_manifest.py -runs=1000000

Further arguments are libFuzzer's: a folder to keep the corpus in, `-max_total_time=300`, ...
"""

import json
import math

import atheris

with atheris.instrument_imports(include=["fishcli.jobs"]):
    from fishcli.errors import InputError
    from fishcli.jobs import manifest
    from fishcli.jobs.manifest import Entry

from fuzzing import FOLDER, run

OUTSIDE = FOLDER.parent
MANIFEST = FOLDER / manifest.NAME
ENTRY = {
    "id": "01-0001",
    "number": 1,
    "address": "0" * 64,
    "file": "lines/01-0001.flac",
    "sha256": "1" * 64,
    "bytes": 10,
    "seed": 1,
    "frames": 4,
    "seconds": 0.2,
    "chunks": [{"text": "a", "start": 0, "frames": 4, "seed": 1}],
}
VALUES = [
    *(
        "",
        "a",
        "../x",
        "/etc/passwd",
        "lines/../../x",
        "a\\b",
        "C:x",
        "a\0",
        "link/x",
        "\ud800",
        "x" * 300,
        "con",
        "a//b",
    ),
    *(None, True, -1, 0, 2**70, 1e308, math.nan, math.inf, -0.5, [], {}, [1], {"text": "a"}, [{"start": -1}]),
    [{"text": "a", "start": -1, "frames": 2**70, "seed": None}],
]
NAMES = [*ENTRY, "error", "voice", "manifest", "retries", "x"]

touched: list[str] = []


def look(event: str, arguments: tuple[object, ...]) -> None:
    """Keep what is opened, made or moved, other than the manifest and modules."""
    known = arguments and (str(arguments[0]) == str(MANIFEST) or str(arguments[0]).endswith((".py", ".pyc", ".so")))
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.symlink") and not known:
        touched.append(f"{event} {arguments[0]!r}")


def lines(source: atheris.FuzzedDataProvider) -> bytes:
    """A manifest of a few entries, some of their fields changed, some of their bytes too."""
    made = [b'{"manifest": 1}']
    for _ in range(source.ConsumeIntInRange(0, 4)):
        entry = dict(ENTRY)
        for _ in range(source.ConsumeIntInRange(0, 3)):
            name = NAMES[source.ConsumeIntInRange(0, len(NAMES) - 1)]
            entry[name] = VALUES[source.ConsumeIntInRange(0, len(VALUES) - 1)]
        if source.ConsumeBool():
            entry.pop(NAMES[source.ConsumeIntInRange(0, len(NAMES) - 1)], None)
        line = bytearray(json.dumps(entry).encode())
        for _ in range(source.ConsumeIntInRange(0, 2)):
            line[source.ConsumeIntInRange(0, len(line) - 1)] = source.ConsumeIntInRange(0, 255)
        made.append(bytes(line))
    return b"\n".join(made) + b"\n" * source.ConsumeBool()


def check(data: bytes) -> None:
    source = atheris.FuzzedDataProvider(data)
    MANIFEST.write_bytes(data[:-1] if source.ConsumeBool() else lines(source))
    touched.clear()
    try:
        records = manifest.read(MANIFEST)
    except InputError:
        return
    finally:
        if touched:
            raise RuntimeError(f"{touched} while a manifest was read")
    json.dumps(records.header)
    for id, entry in records.entries.items():
        if entry.id != id or Entry.from_dict(entry.as_dict()) != entry:
            raise RuntimeError("an entry is not what its manifest says")
        for value in (entry.number, entry.bytes, entry.seed, entry.frames, entry.seconds):
            if not 0 <= value < math.inf:
                raise RuntimeError(f"a number that no line has, {value}")
        for chunk in entry.chunks:
            if chunk.start < 0 or chunk.frames < 0 or chunk.start + chunk.frames > entry.frames:
                raise RuntimeError("a chunk outside its line")
        if entry.file is not None:
            check_place(entry.file)


def check_place(name: str) -> None:
    """Look where a file lies: in the folder, though `link` there leads out of it."""
    try:
        path = manifest.place(FOLDER, name)
    except ValueError:
        return
    if FOLDER not in path.resolve().parents:
        raise RuntimeError(f"{name!r} lies outside the folder")


def main() -> None:
    (FOLDER / "link").symlink_to(OUTSIDE)
    # The provider takes numbers from the end.
    run(check, {"whole": json.dumps(ENTRY).encode() + b"\n\1", "made": bytes(range(64, -1, -1))}, look)


if __name__ == "__main__":
    main()
