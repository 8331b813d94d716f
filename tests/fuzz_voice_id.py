"""Fuzz names of voices: one of the library's own voices or one FishError, and nothing outside is opened or made.

    pip install atheris && python tests/fuzz_voice_id.py -runs=1000000

Further arguments are libFuzzer's: a folder to keep the corpus in, `-max_total_time=300`, ... With TMPDIR in memory it
takes minutes.
"""

import os
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fishcli"]):
    from fishcli.errors import FishError
    from fishcli.voices import Library, check_id

from fuzzing import FOLDER, run

OWN, ALSO, OUTSIDE = FOLDER / "data" / "voices", FOLDER / "references", FOLDER / "outside"
KNOWN = {"paimon", "Nova-2_b"}
PARTS = ["..", "/", "\\", "\0", ".", "paimon", "fox", "outside", "link", "pipe", str(OUTSIDE), "%2e%2e", "voice.json"]

touched: set[str] = set()


def look(event: str, arguments: tuple[object, ...]) -> None:
    """Keep the paths of what is opened, listed, made, moved or removed."""
    if event in ("open", "os.scandir", "os.listdir", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link"):
        touched.update(os.fsdecode(path) for path in arguments[:2] if isinstance(path, (str, bytes, os.PathLike)))


def voice(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / "00.wav").write_bytes(b"RIFF")
    (folder / "00.lab").write_text(text)


def furnish() -> None:
    """Make a library, a folder beside it that nobody may reach, and links and a pipe that lead there."""
    voice(OUTSIDE / "secret", "secret")
    for root in (OWN, ALSO):
        for name in KNOWN if root == OWN else ["paimon"]:
            voice(root / name, "known")
        (root / "link").symlink_to(OUTSIDE / "secret")
        (root / "file").write_text("secret")
        os.mkfifo(root / "pipe")
        (root / "paimon" / "01.wav").symlink_to(OUTSIDE / "secret" / "00.wav")
        (root / "paimon" / "02.wav").write_bytes(b"RIFF")
        (root / "paimon" / "02.lab").symlink_to(OUTSIDE / "secret" / "00.lab")
        os.mkfifo(root / "paimon" / "03.wav")


def name_from(source: atheris.FuzzedDataProvider) -> str:
    if source.ConsumeBool():
        return source.ConsumeUnicode(80)
    return "".join(PARTS[source.ConsumeIntInRange(0, len(PARTS) - 1)] for _ in range(source.ConsumeIntInRange(0, 4)))


def check(data: bytes) -> None:
    source = atheris.FuzzedDataProvider(data)
    kind, name = source.ConsumeIntInRange(0, 15), name_from(source)
    library = Library(OWN, [ALSO])
    touched.clear()
    try:
        if kind == 0:
            library.update(name, title="x")
        elif kind == 1 and name not in KNOWN:
            library.remove(name)
        elif kind == 2:
            check_id(name)
            if any(each in name for each in "/\\.\0"):
                raise RuntimeError("a path passed for an id")
        else:
            found = library.find(name)
            if found.id not in KNOWN or any(each.text == "secret" for each in found.recordings):
                raise RuntimeError("a voice that is not of the library")
    except FishError:
        pass
    outside = [path for path in touched if not allowed(path)]
    if outside:
        raise RuntimeError(f"{outside} was touched")


def allowed(path: str) -> bool:
    """Return whether a path lies in the library, or is relative to an open folder of it."""
    if not os.path.isabs(path):
        return os.sep not in path and path not in (".", "..")
    return any(Path(os.path.normpath(path)).is_relative_to(root) for root in (OWN, ALSO))


def main() -> None:
    furnish()
    Library(OWN).update("Nova-2_b", title="fox")  # imports what a writer needs
    names = [*PARTS, *KNOWN, "../../outside/secret", "a" * 64, "a" * 65, "con"]
    run(check, {str(number): b"\1" + name.encode() + b"\1\3" for number, name in enumerate(names)}, look)  # 1: ASCII


if __name__ == "__main__":
    main()
