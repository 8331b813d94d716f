"""Finding checkpoint folders: names, defaults, and that incomplete folders are never used."""

import json
import os
import re
from pathlib import Path

import pytest

from fishcli.checkpoints import local
from fishcli.checkpoints.local import File, Found, IncompleteModel, Record
from fishcli.doctor.check import repair_command
from fishcli.engine import load
from fishcli.errors import InputError, ModelMissing


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """A working folder and a data folder of this test; the path of the latter."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("FISHCLI_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data" / "models"


def make(folder: Path, without: tuple[str, ...] = ()) -> Path:
    folder.mkdir(parents=True)
    for name in local.NEEDED:
        if name not in without:
            (folder / name).write_bytes(b"content")
    return folder


def write_record(folder: Path, state: str, size: int = 7) -> None:
    (folder / local.STATE).mkdir(parents=True, exist_ok=True)
    files = tuple(File(name, size, "sha256:" + "0" * 64) for name in local.NEEDED)
    Record("owner/name", "0" * 40, files).write(folder / state)


def test_the_built_in_voice_is_complete_and_the_default_without_a_model():
    assert local.find() == Found(local.built_in(), "built-in", built_in=True) == local.find("built-in")


def test_default_prefers_the_working_folder_then_the_downloaded_model(data):
    far = make(data / "fishaudio" / "fish-speech-1.5")
    assert local.find() == Found(far, "fishaudio/fish-speech-1.5")
    make(Path("checkpoints/fish-speech-1.5"))
    assert local.find() == Found(Path("checkpoints/fish-speech-1.5"), "checkpoints/fish-speech-1.5")


def test_a_folder_or_a_name_leads_to_a_model(data, tmp_path):
    folder, far = make(tmp_path / "mine"), make(data / "owner" / "tuned")
    assert local.find(folder).path == local.find(str(folder)).path == folder
    assert local.find("owner/tuned") == local.find("tuned") == Found(far, "owner/tuned")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "owner/absent",
            "no downloaded model of that name; run `fish download owner/absent`",
        ),
        (
            "absent",
            "no folder absent and no downloaded model of that name; there is first/twice, second/twice, built-in.",
        ),
        ("fish-speech-1.5", "no downloaded model of that name; run `fish download`."),
        ("checkpoints/fish-speech-1.5", "There is no folder checkpoints/fish-speech-1.5."),
        ("models/mine", "There is no folder models/mine."),
        ("here/mine", "There is no folder here/mine."),
        ("./ck", "There is no folder ./ck."),
        ("/no/such", "There is no folder /no/such."),
        ("a/b/c", "There is no folder a/b/c."),
        ("there/", "There is no folder there/."),
        ("absent.pth", "no folder absent.pth and no downloaded model"),
        ("../../etc", "no folder ../../etc"),
        ("..\0", "no folder"),
        ("~nobody", "no folder ~nobody"),
        ("a" * 5000, "no folder aaa"),
        ("a" * 2000 + "/" + "b" * 2000, "no folder aaa"),
        ("twice", "Several downloaded models are called twice: name one as first/twice or second/twice"),
        ("file", "file is a file, and a model is a folder"),
    ],
)
def test_an_unknown_name_is_one_clear_sentence(name, message, data):
    make(data / "first" / "twice")
    make(data / "second" / "twice")
    Path("file").write_text("")
    Path("here").mkdir()
    with pytest.raises(ModelMissing, match=re.escape(message)):
        local.find(name)


def test_a_weights_file_names_its_folder(tmp_path):
    folder = make(tmp_path / "mine")
    for name, codec in (("model.pth", None), (local.CODEC, folder / local.CODEC), ("", None)):
        assert local.find(folder / name).path == folder
        assert local.codec_of(folder / name) == codec
    assert local.codec_of(None) is local.codec_of("built-in") is local.codec_of("absent.pth") is None


def test_the_codec_of_the_documentation_loads_its_folder(micro):
    assert load(micro / local.CODEC, device="cpu") is load(micro, device="cpu")
    assert load(micro / local.CODEC, codec=local.built_in() / local.CODEC, device="cpu") is not load(
        micro, device="cpu"
    )


def incomplete(name: str | Path | None, reason: str) -> Found:
    """Check that a model cannot be used for that reason, and return the folder in the error."""
    with pytest.raises(IncompleteModel, match=f"cannot be used: {reason}") as caught:
        local.find(name)
    return caught.value.found


def test_missing_files_are_named_with_the_folder_to_repair(tmp_path, data):
    folder = make(tmp_path / "a model", without=("model.pth", "config.json"))
    found = incomplete(folder, r"it lacks config.json, model.pth\.$")
    assert repair_command(found) == f"fish download --local-dir '{folder}'"
    make(data / "fishaudio" / "fish-speech-1.5", without=("tokenizer.tiktoken",))
    assert repair_command(incomplete(None, r"it lacks tokenizer.tiktoken\.$")) == "fish download"


def test_a_codec_that_lies_elsewhere_need_not_be_in_the_folder(tmp_path):
    folder = make(tmp_path / "model", without=(local.CODEC,))
    assert local.find(folder, needed=tuple(set(local.NEEDED) - {local.CODEC})).path == folder


def test_a_half_downloaded_folder_is_never_used(data):
    folder = make(data / "owner" / "name", without=("model.pth",))
    write_record(folder, local.PLAN)
    assert repair_command(incomplete("owner/name", r"its download is not finished\.$")) == "fish download owner/name"


def test_an_unfinished_first_download_leaves_the_built_in_voice(data):
    write_record(data / "fishaudio" / "fish-speech-1.5", local.PLAN)
    assert local.find().built_in
    assert [local.fault(found.path) for found in local.models()] == ["its download is not finished", None]


def test_a_folder_whose_files_are_of_two_commits_is_never_used(data):
    folder = make(data / "owner" / "name")
    write_record(folder, local.RECORD)
    assert local.find("name").path == folder
    (folder / local.MIXED).touch()
    incomplete("name", "its download is not finished")


def test_an_unfinished_newer_commit_leaves_the_older_one_in_use(data):
    folder = make(data / "owner" / "name")
    write_record(folder, local.RECORD)
    write_record(folder, local.PLAN, size=9)
    assert local.find("name").path == folder


def test_a_changed_file_is_named(data):
    folder = make(data / "owner" / "name")
    write_record(folder, local.RECORD)
    (folder / "model.pth").write_bytes(b"cont")
    found = incomplete("name", r"model.pth changed since the download\.$")
    assert repair_command(found) == "fish download owner/name"


FILE = {"name": "model.pth", "size": 7, "digest": "sha256:" + "0" * 64}
RECORD = {"repo": "owner/name", "commit": "0" * 40, "files": [FILE]}


@pytest.mark.parametrize(
    "record",
    [
        [],
        {},
        RECORD | {"repo": "../name"},
        RECORD | {"commit": "main"},
        RECORD | {"files": [FILE | {"name": "../../model.pth"}]},
        RECORD | {"files": [FILE | {"size": -1}]},
        RECORD | {"files": [FILE | {"size": 7.5}]},
        RECORD | {"files": [FILE | {"digest": "md5:0"}]},
        RECORD | {"files": [FILE | {"more": 1}]},
        RECORD | {"files": [FILE | {"\x1b[2J\n": 1}]},
    ],
)
def test_an_invalid_record_is_rejected(record, tmp_path):
    rejected(tmp_path, json.dumps(record))


@pytest.mark.parametrize("text", ["", "\xff", "[" * 60_000, json.dumps(RECORD) + " " * 65_536], ids=len)
def test_a_record_other_than_small_json_is_rejected(text, tmp_path):
    rejected(tmp_path, text)


def rejected(tmp_path: Path, text: str) -> None:
    """Check that a record with that content makes the folder unusable, and that the error says what to do."""
    folder = make(tmp_path / "model")
    (folder / local.STATE).mkdir()
    (folder / local.RECORD).write_text(text, encoding="latin-1")
    with pytest.raises(InputError) as caught:
        local.find(folder)
    assert str(caught.value) == f"{folder / local.RECORD} is damaged; delete it and download the model again."


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_record_other_than_a_regular_file_is_none(tmp_path):
    os.mkfifo(tmp_path / "record.json")
    for path in (tmp_path / "record.json", tmp_path, tmp_path / "absent"):
        assert Record.read(path) is None


def test_models_lists_all_folders(data):
    make(data / "owner" / "name")
    make(Path("checkpoints/mine"))
    Path("checkpoints/notes").mkdir()
    assert [found.name for found in local.models()] == ["checkpoints/mine", "owner/name", "built-in"]
