"""Exports of voices: the way there and back, and files that are none, damaged, or made to harm."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import sounds

from fishcli.errors import InputError
from fishcli.voices import Library, VoiceExists, export_voice, read_export
from fishcli.voices import exports as module

RATE = 16_000
WAV = sounds.encoded(np.sin(np.arange(RATE) / 9) / 3, RATE)
FLAC = sounds.encoded(np.sin(np.arange(RATE) / 5) / 3, RATE, "FLAC")


@pytest.fixture
def library(tmp_path) -> Library:
    return Library(tmp_path / "voices")


@pytest.fixture
def exported(library) -> bytes:
    voice = library.add(
        [WAV, FLAC], ["Hello 派蒙.", ""], title="Paimon 派蒙", id="paimon", tags=["a"], languages=["en"]
    )
    return export_voice(library, voice)


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(content: dict[str, bytes], sums: bool = True, method: int = zipfile.ZIP_STORED, mode: int = 0) -> bytes:
    """A ZIP of members, with checksums that are right."""
    if sums:
        lines = [
            f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in content.items() if name != "SHA256SUMS"
        ]
        content = {**content, "SHA256SUMS": "".join(lines).encode()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, data, method)
    return file.getvalue()


def test_a_voice_survives_the_journey(library, exported, tmp_path):
    found = read_export(exported, "paimon.zip")
    there = Library(tmp_path / "there")
    voice = there.add(found.recordings, found.texts, id=found.id, **found.fields)
    here = library.find("paimon")
    assert (voice.id, voice.title, voice.tags, voice.languages) == ("paimon", "Paimon 派蒙", ("a",), ("en",))
    assert voice.recordings == here.recordings
    assert there.contents(voice) == library.contents(here)
    assert export_voice(there, voice) == exported
    with pytest.raises(VoiceExists):
        there.add(found.recordings, found.texts, id=found.id, **found.fields)


def test_an_export_can_be_checked_and_opened_without_us(exported, tmp_path):
    with zipfile.ZipFile(io.BytesIO(exported)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["voice.json", "00.wav", "00.lab", "01.flac", "SHA256SUMS"]
    for line in members(exported)["SHA256SUMS"].decode().splitlines():
        digest, _, name = line.partition("  ")
        assert hashlib.sha256(members(exported)[name]).hexdigest() == digest


def test_one_that_was_packed_again_by_another_program_is_read(exported):
    again = packed(members(exported), sums=False, method=zipfile.ZIP_DEFLATED, mode=0o100644)
    assert read_export(again, "x.zip") == read_export(exported, "x.zip")


def test_a_voice_of_the_documentation_s_folder_is_exported_under_names_of_ours(tmp_path):
    folder = tmp_path / "references" / "fox"
    folder.mkdir(parents=True)
    (folder / "x y.WAV").write_bytes(WAV)
    (folder / "x y.lab").write_text("Hello.")
    library = Library(tmp_path / "voices", [tmp_path / "references"])
    found = read_export(export_voice(library, library.find("fox")), "fox.zip")
    assert (found.id, found.texts, found.recordings) == ("fox", ["Hello."], [WAV])


NOTES = json.dumps({"title": "a", "id": "a"}).encode()
GOOD = {"voice.json": NOTES, "00.wav": WAV, "00.lab": b"Hi."}


def bomb() -> bytes:
    """64 MiB of zeros in 64 kB."""
    return packed({**GOOD, "01.wav": bytes(2**26)}, method=zipfile.ZIP_DEFLATED)


def overlapping() -> bytes:
    """A directory whose entries all lead to one member."""
    data = packed(GOOD)
    return data.replace(b"00.lab", b"00.wav")


def crowded() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(3000):
            archive.writestr(f"{number}.wav", b"")
    return file.getvalue()


HOSTILE = {
    "empty": b"",
    "no ZIP": b"RIFF" + bytes(100),
    "cut off": packed(GOOD)[:-30],
    "a comment": packed(GOOD)[:-2] + b"\1\0x",
    "of the next size": packed(GOOD)[:-22] + b"PK\6\7" + bytes(16) + packed(GOOD)[-22:],
    "no checksums": packed(GOOD, sums=False),
    "a wrong checksum": packed({**GOOD, "SHA256SUMS": b"0" * 64 + b"  voice.json\n"}, sums=False),
    "a member without a checksum": packed({**members(packed(GOOD)), "01.wav": WAV}, sums=False),
    "up": packed({**GOOD, "../00.wav": WAV}),
    "absolute": packed({**GOOD, "/tmp/00.wav": WAV}),
    "a folder": packed({**GOOD, "a/": b""}),
    "a device": packed({**GOOD, "con.wav": WAV}),
    "a link": packed(GOOD, mode=0o120777),
    "a pipe": packed(GOOD, mode=0o010644),
    "a strange name": packed({**GOOD, "00.wav\n": WAV}),
    "two recordings of one number": packed({**GOOD, "00.flac": FLAC}),
    "a text alone": packed({**GOOD, "01.lab": b"Hi."}),
    "no description": packed({"00.wav": WAV}),
    "no title": packed({**GOOD, "voice.json": b"{}"}),
    "a wrong title": packed({**GOOD, "voice.json": b'{"title": 3}'}),
    "a wrong id": packed({**GOOD, "voice.json": b'{"title": "a", "id": "../a"}'}),
    "an id that is no text": packed({**GOOD, "voice.json": b'{"title": "a", "id": {}}'}),
    "deep": packed({**GOOD, "voice.json": b"[" * 100_000}),
    "a text that is none": packed({**GOOD, "00.lab": b"\xff"}),
    "a bomb": bomb(),
    "one member twice": overlapping(),
    "too many members": crowded(),
    "another method": packed(GOOD, method=zipfile.ZIP_BZIP2),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_no_export_is_one_clear_sentence(name):
    with pytest.raises(
        InputError, match=r"^x\.zip is no export of a voice, or damaged \(.+\); export the voice again\.$"
    ):
        read_export(HOSTILE[name], "x.zip")


def test_the_good_one_is_read():
    assert read_export(packed(GOOD), "x.zip").recordings == [WAV]


def test_each_flipped_byte_is_found(exported):
    """But in dates and attributes of the ZIP, which nobody reads; what is read is what was exported."""
    before = read_export(exported, "x.zip")
    for at in range(0, len(exported), 211):
        damaged = bytearray(exported)
        damaged[at] ^= 0x55
        with contextlib.suppress(InputError):
            assert read_export(bytes(damaged), "x.zip") == before


def test_too_much_is_not_exported(library, exported, monkeypatch):
    monkeypatch.setattr(module, "MAX_EXPORT", 10_000)
    with pytest.raises(InputError, match="The voice paimon has over 0 MiB; shorten its recordings"):
        export_voice(library, library.find("paimon"))
    with pytest.raises(InputError, match="it has over 0 MiB"):
        read_export(exported, "x.zip")


def test_audio_that_is_none_is_not_added(library):
    found = read_export(packed({"voice.json": NOTES, "00.wav": b"RIFF no sound"}), "x.zip")
    with pytest.raises(InputError, match="Recording 1"):
        library.add(found.recordings, found.texts, id=found.id, **found.fields)
    assert library.list() == ()


def test_nothing_is_written_while_an_export_is_read(exported, tmp_path):
    before = set(Path(tmp_path).rglob("*"))
    read_export(exported, "x.zip")
    assert set(Path(tmp_path).rglob("*")) == before
