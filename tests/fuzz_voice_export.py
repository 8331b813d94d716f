"""Fuzz exports of voices: an InputError, or a voice whose members have the checksums in the file; nothing is written.

    pip install atheris && python tests/fuzz_voice_export.py -runs=1000000

Further arguments are libFuzzer's: a folder to keep the corpus in, `-max_total_time=300`, ...
"""

import hashlib
import io
import json
import zipfile

import atheris

with atheris.instrument_imports(include=["fishcli", "zipfile"]):
    from fishcli.errors import InputError
    from fishcli.voices import check_id, read_export

from fuzzing import run

MEMBERS = {
    "voice.json": json.dumps({"title": "a", "id": "a", "tags": ["x"]}).encode(),
    "00.wav": b"RIFF....WAVE",
    "00.lab": b"Hi.",
    "01.flac": b"fLaC",
}
NAMES = [
    *MEMBERS,
    "SHA256SUMS",
    "../00.wav",
    "/etc/passwd",
    "00.mp3",
    "01.lab",
    "a/",
    "voice.json\0",
    "99.wav",
    "\udcff",
]
MODES = [0, 0o100644, 0o120777, 0o040755, 0o010644]
LIMIT = 2**20  # bytes that a file of some kB may hold

touched: list[str] = []


def look(event: str, arguments: tuple[object, ...]) -> None:
    """Keep what is opened, made or moved."""
    imported = str(arguments[0]).endswith((".py", ".pyc")) if arguments else False
    if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.symlink") and not imported:
        touched.append(f"{event} {arguments[0]!r}")


def packed(source: atheris.FuzzedDataProvider) -> bytes:
    """A ZIP of members that are those of a voice or not, with their checksums or others."""
    content = dict(MEMBERS)
    for _ in range(source.ConsumeIntInRange(0, 3)):
        name = NAMES[source.ConsumeIntInRange(0, len(NAMES) - 1)]
        content[name] = source.ConsumeBytes(source.ConsumeIntInRange(0, 64))
    if source.ConsumeBool():
        content.pop(list(content)[source.ConsumeIntInRange(0, len(content) - 1)])
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in content.items())
    content.setdefault("SHA256SUMS", sums.encode(errors="replace"))
    method = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[source.ConsumeBool()]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            info = zipfile.ZipInfo(name.encode(errors="replace").decode())
            info.external_attr = MODES[source.ConsumeIntInRange(0, len(MODES) - 1)] << 16
            archive.writestr(info, data, method)
    made = bytearray(file.getvalue())
    for _ in range(source.ConsumeIntInRange(0, 4)):
        made[source.ConsumeIntInRange(0, len(made) - 1)] ^= source.ConsumeIntInRange(0, 255)
    return bytes(made)


def check(data: bytes) -> None:
    source = atheris.FuzzedDataProvider(data)
    given = data[1:] if source.ConsumeBool() else packed(source)
    touched.clear()
    try:
        found = read_export(given, "x.zip")
    except InputError:
        return
    finally:
        if touched:
            raise RuntimeError(f"{touched} while an export was read")
    if found.id is not None:
        check_id(found.id)
    if len(found.recordings) != len(found.texts) or not isinstance(found.fields["title"], str):
        raise RuntimeError("half a voice")
    if sum(map(len, found.recordings)) > LIMIT:
        raise RuntimeError("a bomb was unpacked")
    if not set(found.fields) <= {"title", "description", "tags", "visibility", "languages"}:
        raise RuntimeError("an unknown field")


def main() -> None:
    whole = packed(atheris.FuzzedDataProvider(b""))
    read_export(whole, "seed")
    run(check, {"whole": b"\1" + whole, "made": b"\0" + bytes(range(64))}, look)


if __name__ == "__main__":
    main()
