"""The voice library: layouts, hostile names and folders, races, kills, a full disk, and the codes of recordings."""

import json
import os
import subprocess
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import sounds
from conftest import TESTS, TINY

from fishcli import audio, load
from fishcli.engine import engine as engine_module
from fishcli.errors import FishError, InputError, SettingError
from fishcli.voices import Library, VoiceExists, VoiceMissing, VoiceReadOnly, check_id
from fishcli.voices import library as library_module

RATE = 22_050
SPEECH = audio.read(TINY / "reference.wav", RATE)[: 2 * RATE]
WAV = sounds.encoded(SPEECH, RATE)
MP3 = sounds.encoded(SPEECH, RATE, "MP3")
FLAC = sounds.encoded(SPEECH[RATE // 2 :], RATE, "FLAC")

posix = pytest.mark.skipif(os.name == "nt", reason="needs links, pipes and modes")


@pytest.fixture
def library(tmp_path) -> Library:
    return Library(tmp_path / "voices")


def folder_of(root: Path, name: str, **contents: bytes | str) -> Path:
    """Make a voice as a person does: folder_of(root, "paimon", a_wav=WAV, a_lab="Hello.")."""
    (root / name).mkdir(parents=True)
    for each, content in contents.items():
        data = content.encode() if isinstance(content, str) else content
        (root / name / each.replace("_", ".")).write_bytes(data)
    return root / name


def texts(voice) -> dict[str, str]:
    return {each.name: each.text for each in voice.recordings}


# The layouts


def test_a_voice_is_found_by_its_id_and_by_its_title(library):
    added = library.add([WAV, MP3], ["Hello.", ""], title="Paimon 派蒙", description="A\nb", tags=["a", "a", "b"])
    assert len(added.id) == 32
    assert int(added.id, 16) >= 0
    assert library.find(added.id) == library.find("Paimon 派蒙") == added
    assert library.list() == (added,)
    assert texts(added) == {"00.wav": "Hello.", "01.mp3": ""}
    assert [library.read(added, each) for each in added.recordings] == [WAV, MP3]
    assert (added.title, added.description, added.tags) == ("Paimon 派蒙", "A\nb", ("a", "b"))
    assert (added.visibility, added.languages, added.writable) == ("private", (), True)
    assert added.created_at == added.updated_at
    assert added.created_at.tzinfo == timezone.utc


@pytest.mark.parametrize(
    ("format", "subtype", "suffix"),
    [
        ("WAV", None, ".wav"),
        ("RF64", None, ".wav"),
        ("FLAC", None, ".flac"),
        ("AIFF", None, ".aiff"),
        ("OGG", "VORBIS", ".ogg"),
        ("OGG", "OPUS", ".ogg"),
        ("MP3", None, ".mp3"),
    ],
)
def test_a_recording_keeps_its_format(library, format, subtype, suffix):
    data = sounds.encoded(SPEECH, 24_000, format, subtype)
    voice = library.add([data], title="a")
    assert [each.name for each in voice.recordings] == ["00" + suffix]
    assert library.read(voice, voice.recordings[0]) == data


def test_the_layout_of_the_documentation_is_read_as_it_is(library, tmp_path):
    root = tmp_path / "references"
    path = folder_of(root, "paimon", b_wav=WAV, b_lab=" Hi.\n", a_MP3=MP3, a_txt="\ufeffHo.", x_npy=b"", y_wav_old=b"")
    (path / ".hidden.wav").write_bytes(WAV)
    (path / "sub.wav").mkdir()
    os.utime(path / "b.wav", (2**30, 2**30))
    os.utime(path / "a.MP3", (2**30 + 60, 2**30 + 60))
    folder_of(root, "no recordings", note_txt="x")
    folder_of(root, ".hidden", a_wav=WAV)
    (root / "file.wav").write_bytes(WAV)
    (voice,) = Library(library.folder, [root]).list()
    assert (voice.id, voice.title, voice.writable) == ("paimon", "paimon", False)
    assert texts(voice) == {"a.MP3": "Ho.", "b.wav": "Hi."}
    assert voice.created_at == datetime.fromtimestamp(2**30, timezone.utc)
    assert (voice.updated_at - voice.created_at).seconds == 60
    assert not library.folder.exists()


def test_a_voice_gets_another_name(library):
    library.add([WAV], ["x"], title="Fox", id="fox", tags=["a"])
    library.add([WAV], title="owl", id="owl")
    drawn = library.add([MP3], title="Nobody")
    voice = library.rename("fox", "bear")
    assert (voice.id, voice.title, voice.name, voice.tags) == ("bear", "bear", "bear", ("a",))
    assert texts(voice) == {"00.wav": "x"}
    assert not (library.folder / "fox").exists()
    assert library.rename("bear", "Paimon 派蒙").id == "bear"  # which cannot be an id
    renamed = library.rename(drawn.id, "somebody")
    assert (renamed.id, renamed.title, renamed.name) == (drawn.id, "somebody", "somebody")  # clients know its id
    with pytest.raises(VoiceExists, match="There is a voice owl already"):
        library.rename("bear", "owl")
    with pytest.raises(SettingError, match="title is empty"):
        library.rename("bear", " ")
    with pytest.raises(VoiceMissing):
        library.rename("fox", "wolf")
    folder_of(library.folder, "made by hand", a_wav=WAV)
    assert library.rename(library.find("made by hand").id, "hand").name == "hand"


def test_the_library_of_the_user_has_the_references_of_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FISHCLI_DATA_DIR", str(tmp_path / "data"))
    folder_of(tmp_path / "references", "fox", a_wav=WAV, a_lab="Hi.")
    library = Library.of_user()
    assert library.folder == tmp_path / "data" / "voices"
    (voice,) = library.list()
    assert (voice.name, voice.writable) == ("fox", False)
    assert library.contents(voice) == ((voice.recordings[0], WAV),)


def test_a_lab_file_goes_before_a_txt_file_unless_it_is_empty(library):
    folder_of(library.folder, "a", a_wav=WAV, a_lab="lab", a_txt="txt", b_wav=WAV, b_lab="\n", b_txt="txt")
    assert texts(library.find("a")) == {"a.wav": "lab", "b.wav": "txt"}


def test_a_folder_whose_name_cannot_be_an_id_has_a_digest_for_one(library):
    folder_of(library.folder, "派蒙 1.5", a_wav=WAV)
    (voice,) = library.list()
    assert voice.title == "派蒙 1.5"
    assert check_id(voice.id) == voice.id
    assert library.find("派蒙 1.5") == library.find(voice.id) == voice
    assert library.update(voice.id, title="Paimon").title == "Paimon"
    library.remove(voice.id)
    assert library.list() == ()


@posix
@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\x1b[2Jb", b"\n", b"-rf", b"x" * 255])
def test_any_name_of_a_folder_is_text_in_the_library(library, name):
    path = os.path.join(os.fsencode(library.folder), name)
    try:
        os.makedirs(path)
    except OSError:
        pytest.skip("the file system has no such names")
    Path(os.fsdecode(path), "a.wav").write_bytes(WAV)
    (voice,) = library.list()
    assert voice.title.encode().decode().replace("\ufffd", "").isprintable()
    assert library.find(voice.id) == voice


def test_a_voice_of_the_library_hides_one_that_is_only_read(library, tmp_path):
    folder_of(tmp_path / "references", "fox", a_wav=MP3)
    folder_of(tmp_path / "more", "fox", a_wav=FLAC)
    folder_of(tmp_path / "more", "owl", a_wav=FLAC)
    library = Library(library.folder, [tmp_path / "references", tmp_path / "more"])
    assert library.read(library.find("fox"), library.find("fox").recordings[0]) == MP3
    library.add([WAV], title="Fox", id="fox")
    assert [voice.id for voice in library.list()] == ["fox", "owl"]
    assert library.read(library.find("fox"), library.find("fox").recordings[0]) == WAV
    library.remove("fox")
    assert library.find("fox").folder == tmp_path / "references" / "fox"
    for change in (library.remove, library.update):
        with pytest.raises(VoiceReadOnly, match=r"The voice fox lies in .*references, which is only read") as refused:
            change("fox")
        assert refused.value.status == 403
    assert library.find("fox")


def test_an_id_goes_before_a_title_and_an_ambiguous_title_is_refused(library, tmp_path):
    library.add([WAV], title="b", id="a")
    library.add([WAV], title="x", id="b")
    assert library.find("b").id == "b"
    library.add([WAV], title="x", id="c")
    with pytest.raises(InputError, match="2 voices have the title 'x'; choose one by its id: b, c"):
        library.find("x")
    folder_of(tmp_path / "references", "d", a_wav=WAV, voice_json='{"title": "b"}')
    folder_of(tmp_path / "references", "e", a_wav=WAV, voice_json='{"title": "a title"}')
    library = Library(library.folder, [tmp_path / "references"])
    library.update("b", title="y")
    library.remove("a")
    library.add([WAV], title="a title", id="f")
    assert library.find("a title").id == "f"


def test_the_default_folder_is_the_users():
    assert Library().folder == Path(os.environ["FISHCLI_DATA_DIR"]) / "voices"


# Hostile names, folders and descriptions

HOSTILE = [
    "",
    ".",
    "..",
    "../outside",
    "../outside/secret",
    "outside/../../outside/secret",
    "/etc",
    "/etc/passwd",
    "\0",
    "a\0",
    "a/b",
    "a\\b",
    "..\\outside",
    "C:",
    "C:\\",
    "a" * 65,
    "a" * 100_000,
    "a ",
    " a",
    "a\n",
    "ａ",
    "é",
    "\ud800",
    "١",
    ".lock",
    ".hidden",
    "con",
    "NUL",
    "Com1",
    "~",
    "*",
    "%2e%2e",
]


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:20])
def test_a_hostile_name_is_no_voice_and_nothing_is_made(library, tmp_path, name):
    folder_of(tmp_path / "outside", "secret", a_wav=WAV)
    folder_of(tmp_path, "voices")
    folder_of(library.folder, ".hidden", a_wav=WAV)
    before = sorted(tmp_path.rglob("*"))
    library = Library(library.folder, [tmp_path / "voices"])
    for look in (library.find, library.remove, library.update):
        with pytest.raises(VoiceMissing) as missing:
            look(name)
        assert (missing.value.status, missing.value.exit_code, missing.value.field) == (404, 3, "voice")
        str(missing.value).encode()
        assert len(str(missing.value)) < 800
    for refuse in (check_id, lambda id: library.add([WAV], title="a", id=id)):
        with pytest.raises(SettingError, match="use 1 to 64 letters, digits, _ and -") as refused:
            refuse(name)
        str(refused.value).encode()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("id", [None, 1, b"a", ["a"]])
def test_an_id_is_text(id):
    with pytest.raises(SettingError):
        check_id(id)


@pytest.mark.parametrize("id", ["a", "A-b_9", "-", "a" * 64, "0", "console", "com", "nul-"])
def test_ids(library, id):
    assert library.add([WAV], title="t", id=id).id == id == library.find(id).id


@posix
def test_links_and_pipes_are_not_followed(library, tmp_path):
    outside = folder_of(tmp_path / "outside", "secret", a_wav=WAV, a_lab="secret", voice_json='{"title": "secret"}')
    path = folder_of(library.folder, "a", z_wav=WAV)
    for name in ("a.wav", "z.lab", "voice.json"):
        (path / name).symlink_to(outside / name.replace("z", "a"))
    os.mkfifo(path / "b.wav")
    os.mkfifo(path / "z.txt")
    (path / "c.wav").symlink_to("/dev/zero")
    (library.folder / "link").symlink_to(outside)
    (library.folder / "loop").symlink_to("loop")
    os.mkfifo(library.folder / "pipe")
    (library.folder / "file").write_bytes(WAV)
    (voice,) = library.list()
    assert (voice.title, texts(voice)) == ("a", {"z.wav": ""})
    for name in ("link", "loop", "pipe", "file"):
        with pytest.raises(VoiceMissing):
            library.find(name)
        with pytest.raises(VoiceMissing):
            library.remove(name)
        with pytest.raises(VoiceExists, match="choose another id"):
            library.add([WAV], title="a", id=name)
    assert library.update("a", title="b").title == "b"
    assert json.loads((outside / "voice.json").read_text())["title"] == "secret"
    library.remove("a")
    assert sorted(each.name for each in outside.iterdir()) == ["a.lab", "a.wav", "voice.json"]
    assert sorted(each.name for each in library.folder.iterdir()) == [".lock", "file", "link", "loop", "pipe"]


@posix
def test_links_in_the_places_of_our_own_files_lead_nowhere(library, tmp_path):
    outside = folder_of(tmp_path / "outside", "secret", a_wav=WAV)
    library.folder.mkdir()
    (library.folder / ".link.tmp").symlink_to(outside)
    (library.folder / ".file.tmp").symlink_to(outside / "a.wav")
    assert library.add([WAV], title="a", id="a")
    (library.folder / ".lock").unlink()
    (library.folder / ".lock").symlink_to(outside / "a.wav")
    with pytest.raises(FishError, match="cannot be written"):
        library.add([WAV], title="b", id="b")
    assert {path.name for path in library.folder.iterdir()} == {"a", ".lock"}
    assert (outside / "a.wav").read_bytes() == WAV


@posix
def test_a_file_that_becomes_a_link_or_goes_is_an_error(library, tmp_path):
    voice = library.add([WAV, FLAC], title="a", id="a")
    first, second = voice.recordings
    (tmp_path / "outside.wav").write_bytes(WAV)
    (voice.folder / first.name).unlink()
    (voice.folder / first.name).symlink_to(tmp_path / "outside.wav")
    (voice.folder / second.name).unlink()
    for recording in voice.recordings:
        with pytest.raises(InputError, match="of the voice a cannot be read"):
            library.read(voice, recording)
    with pytest.raises(VoiceMissing):
        library.references(voice, lambda samples: pytest.fail("encoded"), RATE)


NOTES = [
    b"",
    b"null",
    b"[]",
    b'"x"',
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"title": 1}',
    b'{"title": ""}',
    b'{"title": "a\\u001b[2J"}',
    b'{"title": "\\ud800"}',
    b'{"tags": "a"}',
    b'{"tags": [1]}',
    b'{"visibility": "all"}',
    b'{"visibility": []}',
    b'{"created_at": 5}',
    b'{"created_at": "2026-01-01"}',
    b'{"created_at": "0001-01-01T00:00:00+14:00"}',
    b'{"updated_at": "never"}',
    b'{"title": "' + b"a" * 300_000 + b'"}',
    b"1" * 5_000,
]


@pytest.mark.parametrize("notes", NOTES, ids=lambda notes: str(notes[:30]))
def test_a_damaged_description_is_a_warning_and_not_used(library, caplog, notes):
    path = folder_of(library.folder, "a", a_wav=WAV, voice_json=notes)
    for _ in range(2):
        assert library.find("a").title == "a"
    (said,) = caplog.messages
    assert said.startswith(f"{path / 'voice.json'} cannot be used (")
    assert len(said) < 400
    assert library.update("a", title="b").title == "b"
    assert library.find("b").tags == ()


@pytest.mark.parametrize("text", [b"\xff", b"a\x1b[2J", b"a" * 10_001, b"a" * 300_000], ids=lambda text: str(text[:9]))
def test_a_damaged_transcript_is_a_warning_and_none(library, caplog, text):
    folder_of(library.folder, "a", a_wav=WAV, a_lab=text)
    assert [texts(library.find("a")) for _ in range(2)] == [{"a.wav": ""}] * 2
    (said,) = caplog.messages
    assert said.endswith("a.lab is no transcript: it is too long or not UTF-8 text; correct it.")


def test_a_voice_has_sixteen_recordings_at_most(library, caplog):
    path = folder_of(library.folder, "a")
    for number in range(20):
        (path / f"{number:02}.wav").write_bytes(WAV)
    assert [each.name for each in library.find("a").recordings] == [f"{number:02}.wav" for number in range(16)]
    assert ["more than 16 recordings" in message for message in caplog.messages] == [True]


# Adding, changing and removing

SILENCE = sounds.encoded(np.zeros(RATE, np.float32), RATE)
REFUSED = {
    "no recording": (dict(recordings=[]), "A voice has 1 to 16 recordings, not 0"),
    "too many": (dict(recordings=[WAV] * 17), "A voice has 1 to 16 recordings, not 17"),
    "no audio": (dict(recordings=[WAV, b"hello hello hello"]), "Recording 2 is not WAV"),
    "an empty file": (dict(recordings=[b""]), "Recording 1 is empty"),
    "a playlist": (dict(recordings=[b"#EXTM3U\nfile:///etc/passwd"]), "Recording 1 is not WAV"),
    "silence": (dict(recordings=[SILENCE]), "Recording 1 contains only silence"),
    "a long one": (dict(max_seconds=1.0), "Recording 1 is longer than 1 s"),
    "texts": (dict(texts=["a", "b"]), "There are 2 transcripts for 1 recordings"),
    "a long text": (dict(texts=["a" * 10_001]), "texts has 10,001 characters; use at most 10,000"),
    "half a pair": (dict(texts=["\ud800"]), "half a surrogate pair"),
    "no title": (dict(title=" \n "), "title has a control character"),
    "an empty title": (dict(title=" "), "title is empty"),
    "a title of bytes": (dict(title=b"a"), "title must be text, not bytes"),
    "a long title": (dict(title="a" * 201), "title has 201 characters"),
    "many tags": (dict(tags=["a"] * 33), "tags must be a list of at most 32 words"),
    "one tag": (dict(tags="abc"), "tags must be a list"),
    "a tag of another type": (dict(tags=[None]), "tags must be text, not NoneType"),
    "a visibility": (dict(visibility="all"), "visibility must be public, unlist, private, not 'all'"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_a_voice_is_refused_and_leaves_nothing(library, kind):
    given, message = REFUSED[kind]
    with pytest.raises((SettingError, InputError), match=message) as refused:
        library.add(**{"recordings": [WAV], "title": "a"} | given)
    assert refused.value.status == 400
    str(refused.value).encode()
    assert not library.folder.exists()


def test_an_id_is_taken_once(library):
    first = library.add([WAV], title="a", id="a")
    with pytest.raises(VoiceExists) as refused:
        library.add([MP3], title="b", id="a")
    assert refused.value.status == 409
    assert library.list() == (first,)


def test_a_library_has_a_limit(library, monkeypatch):
    monkeypatch.setattr(library_module, "MAX_VOICES", 2)
    for id in "ab":
        library.add([WAV], title=id, id=id)
    with pytest.raises(InputError, match="The library holds 2 voices and no more; remove one first"):
        library.add([WAV], title="c")
    library.remove("a")
    assert library.add([WAV], title="c")


def test_a_change_keeps_all_else(library):
    before = library.add([WAV], ["Hi."], title="a", id="a", tags=["x"], description="d", languages=["en"])
    path = before.folder / "voice.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"later": "\ud800"}))
    after = library.update("a", title="b", visibility="public")
    assert (after.title, after.visibility, after.tags, after.description) == ("b", "public", ("x",), "d")
    assert (after.created_at, after.languages, after.recordings) == (before.created_at, ("en",), before.recordings)
    assert after.updated_at > before.updated_at
    assert json.loads(path.read_text())["later"] == "\ud800"
    with pytest.raises(SettingError, match="title is empty"):
        library.update("a", title="", tags=["y"])
    assert library.find("a") == after


@posix
def test_recordings_are_for_their_owner_alone(library):
    old = os.umask(0)
    try:
        voice = library.add([WAV], ["Hi."], title="a", id="a")
        library.update("a", title="b")
    finally:
        os.umask(old)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [library.folder, voice.folder, *voice.folder.iterdir()]}
    assert modes == {"voices": 0o700, "a": 0o700, "00.wav": 0o600, "00.lab": 0o600, "voice.json": 0o600}
    assert (library.folder / ".lock").stat().st_mode & 0o777 == 0o600


# Races, kills and a full disk


def test_of_many_threads_that_add_one_id_one_wins(library):
    outcomes: list[object] = []
    start = threading.Barrier(8)

    def add(number: int) -> None:
        start.wait()
        try:
            outcomes.append(Library(library.folder).add([WAV, MP3], [str(number)] * 2, title=str(number), id="a"))
        except VoiceExists as error:
            outcomes.append(error)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (won,) = [each for each in outcomes if not isinstance(each, VoiceExists)]
    assert library.list() == (won,)
    assert set(texts(won).values()) == {won.title}
    assert len(outcomes) == 8


RACE = """
import sys
from pathlib import Path
from fishcli.voices import Library, VoiceExists, VoiceMissing
library, audio = Library(Path(sys.argv[1])), Path(sys.argv[2]).read_bytes()
for round in range(20):
    try:
        library.add([audio, audio], ["one", "two"], title=sys.argv[3], id=f"v{round % 3}")
        print("added", end=" ")
    except VoiceExists:
        pass
    for voice in library.list():
        assert [each.text for each in voice.recordings] == ["one", "two"], voice
    try:
        library.update(f"v{round % 3}", description=sys.argv[3])
        library.remove(f"v{round % 3}")
        print("removed", end=" ")
    except VoiceMissing:
        pass
"""


def test_processes_that_add_and_remove_see_whole_voices_alone(library, tmp_path):
    (tmp_path / "a.wav").write_bytes(WAV)
    command = [sys.executable, "-c", RACE, library.folder, tmp_path / "a.wav"]
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    running = [
        subprocess.Popen([*command, title], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for title in "ab"
    ]
    ended = [(*process.communicate(timeout=120), process.returncode) for process in running]
    assert [(err, code) for _, err, code in ended] == [("", 0)] * 2
    said = " ".join(out for out, _, _ in ended).split()
    assert said.count("added") == said.count("removed") + len(library.list()) > 20
    assert {path.name for path in library.folder.iterdir()} == {".lock"} | {voice.id for voice in library.list()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_kill_9_leaves_whole_voices_alone():
    kills = os.environ.get("FISHCLI_TEST_KILLS", "9")
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    command = [sys.executable, TESTS / "kill_voice.py", kills]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{kills} kills" in result.stdout


@posix
def test_a_full_disk_is_one_clear_sentence_and_leaves_nothing(library):
    import resource

    kept = library.add([FLAC], title="kept", id="kept")
    # A limit on file sizes simulates a full disk.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(WAV) - 1, limits[1]))
    try:
        with pytest.raises(FishError, match=r"voices cannot be written \(File too large\); use another path") as failed:
            library.add([MP3, WAV], title="a", id="a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failed.value.status == 500
    assert library.list() == (kept,)
    assert {path.name for path in library.folder.iterdir()} == {".lock", "kept"}


@pytest.mark.skipif(os.name == "nt" or not os.geteuid(), reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_clear_sentence(library):
    library.add([WAV], title="a", id="a")
    library.folder.chmod(0o500)
    try:
        with pytest.raises(FishError, match="cannot be written"):
            library.add([WAV], title="b", id="b")
        assert library.find("a")
    finally:
        library.folder.chmod(0o700)


def test_a_library_that_is_a_file_is_one_clear_sentence(tmp_path):
    (tmp_path / "voices").write_bytes(b"")
    library = Library(tmp_path / "voices")
    assert library.list() == ()
    with pytest.raises(FishError, match="voices cannot be written"):
        library.add([WAV], title="a")


# References


@pytest.fixture(scope="module")
def engine():
    return load(TINY)


def test_references_are_the_codes_and_texts_of_the_recordings(library, engine):
    voice = library.add([WAV, FLAC], ["Hello there.", "there."], title="a", id="a")
    references = library.references(voice, engine.encode, engine.sample_rate)
    expected = [engine.encode(audio.read(data, engine.sample_rate)) for data in (WAV, FLAC)]
    assert [each.text for each in references] == ["Hello there.", "there."]
    assert all(np.array_equal(each.codes, codes) for each, codes in zip(references, expected, strict=True))
    (voice.folder / "00.lab").write_text("Another text.")
    assert [each.text for each in library.references(voice, engine.encode, RATE)] == ["Another text.", "there."]
    with engine.speak("Hi.") as stream:
        assert next(iter(stream)).samples.size


def test_another_model_encodes_the_recordings_anew(library, engine, micro):
    voice = library.add([WAV], ["Hello there."], title="a", id="a")
    for each in (engine, load(micro), engine):
        (reference,) = library.references(voice, each.encode, each.sample_rate)
        assert np.array_equal(reference.codes, each.encode(audio.read(WAV, each.sample_rate)))


def test_a_missing_text_is_said_once_and_not_replaced(library, caplog):
    voice = library.add([WAV], title="a", id="a")
    assert caplog.messages == []
    codes = np.ones((8, 4), np.int16)
    for _ in range(2):
        (reference,) = library.references(voice, lambda samples: codes, RATE)
        assert reference.text == ""
    assert caplog.messages == [
        "00.wav of the voice a has no transcript, which makes the voice less similar; put it in a .lab file."
    ]


ENCODE = """
import sys
from pathlib import Path
from fishcli import load
from fishcli.voices import Library
engine = load(sys.argv[1])
engine._encode_pieces = lambda samples: sys.exit("encoded again")
library = Library(Path(sys.argv[2]))
print([each.codes.tolist() for each in library.references(library.find("a"), engine.encode, engine.sample_rate)])
"""


def test_another_process_does_not_encode_a_voice_again(library, engine, monkeypatch):
    monkeypatch.setattr(engine_module._RECORDINGS, "_held", type(engine_module._RECORDINGS._held)())
    voice = library.add([WAV, FLAC], title="a", id="a")
    references = library.references(voice, engine.encode, engine.sample_rate)
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    command = [sys.executable, "-c", ENCODE, TINY, library.folder]
    out = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120).stdout
    assert json.loads(out) == [each.codes.tolist() for each in references]


@pytest.mark.parametrize("bad", [SILENCE, WAV[:30], b"RIFF", b""], ids=["silence", "cut off", "magic", "empty"])
def test_a_bad_recording_of_a_person_is_an_error_that_names_it(library, bad):
    folder_of(library.folder, "paimon", a_wav=bad, a_lab="x")
    with pytest.raises(InputError, match=r"a\.wav of the voice paimon"):
        library.references(library.find("paimon"), lambda samples: pytest.fail("encoded"), RATE)


def test_a_voice_that_was_removed_meanwhile_is_missing(library):
    voice = library.add([WAV], title="a", id="a")
    library.remove("a")
    with pytest.raises(VoiceMissing, match="There is no voice 'a'; add it to the library first"):
        library.references(voice, lambda samples: pytest.fail("encoded"), RATE)


def test_the_library_is_imported_without_numpy_or_torch():
    program = "import sys, fishcli.voices; print({'numpy', 'torch', 'filelock', 'soundfile'} & sys.modules.keys())"
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "set()"


def test_a_hundred_thousand_hostile_ids_touch_nothing_outside(library, tmp_path):
    """A thousandth by default; FISHCLI_TEST_IDS=100000 is all of it, and tests/fuzz_voice_id.py more."""
    folder_of(tmp_path / "outside", "secret", a_wav=WAV)
    folder_of(library.folder, "a", a_wav=WAV)
    draw = np.random.default_rng(0)
    parts = ["..", "/", "\\", "\0", ".", "a", "outside", "secret", str(tmp_path), "\ud800", "派", "%2e", "~", "\n"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for _ in range(int(os.environ.get("FISHCLI_TEST_IDS", "1000"))):
        name = "".join(parts[each] for each in draw.integers(0, len(parts), draw.integers(0, 6)))
        if name != "a":
            for look in (library.find, library.remove, library.update):
                with pytest.raises(VoiceMissing):
                    look(name)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
