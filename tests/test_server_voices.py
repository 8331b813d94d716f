"""The routes of the voice library, driven by Fish Audio's own clients over a real socket."""

import base64
import concurrent.futures
import json

import fish_audio_sdk
import httpx
import numpy as np
import ormsgpack
import pytest
import sounds
from conftest import TINY
from fishaudio import FishAudio
from fishaudio import exceptions as sdk_errors
from serving import serving

from fishcli import audio, load
from fishcli.server.settings import ServerSettings
from fishcli.voices import Library

RATE = 22_050
SPEECH = audio.read(TINY / "reference.wav", RATE)[: 2 * RATE]
WAV = sounds.encoded(SPEECH, RATE)
MP3 = sounds.encoded(SPEECH, RATE, "MP3")
KEYS = {
    *("_id", "type", "title", "description", "cover_image", "train_mode", "state", "tags", "samples", "created_at"),
    *("updated_at", "languages", "visibility", "lock_visibility", "like_count", "mark_count", "shared_count"),
    *("task_count", "author"),
}


@pytest.fixture(scope="module")
def server(micro, tmp_path_factory):
    settings = ServerSettings(max_audio_seconds=10)
    with serving(load(micro, threads=1), tmp_path_factory.mktemp("library") / "voices", settings) as running:
        yield running


@pytest.fixture(autouse=True)
def _empty(request):
    """Each test begins with an empty library."""
    if "server" in request.fixturenames:
        library = request.getfixturevalue("server").library
        for voice in library.list():
            library.remove(voice.id)


@pytest.fixture
def http(server):
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture
def sdk(server):
    with FishAudio(api_key="none", base_url=server.url) as client:
        yield client


@pytest.fixture
def legacy(server):
    with fish_audio_sdk.Session("none", base_url=server.url) as session:
        yield session


# The SDKs


def test_the_sdk_creates_lists_changes_and_deletes_voices(server, sdk):
    created = sdk.voices.create(
        title="Paimon",
        voices=[WAV, MP3],
        texts=["Hello there.", "How are you?"],
        tags=["high", "fairy"],
        description="A guide.",
    )
    assert (created.title, created.description, created.tags) == ("Paimon", "A guide.", ["high", "fairy"])
    assert [each.text for each in created.samples] == ["Hello there.", "How are you?"]
    assert (created.state, created.train_mode, created.visibility, created.languages) == (
        "trained",
        "fast",
        "private",
        ["en"],
    )
    kept = server.library.find(created.id)
    assert [server.library.read(kept, each) for each in kept.recordings] == [WAV, MP3]
    assert sdk.voices.get(created.id) == created
    listed = sdk.voices.list()
    assert (listed.total, listed.items) == (1, [created])

    sdk.voices.update(created.id, title="Nova", visibility="public", tags=["low"])
    changed = sdk.voices.get(created.id)
    assert (changed.title, changed.visibility, changed.tags) == ("Nova", "public", ["low"])
    assert (changed.description, changed.samples) == (created.description, created.samples)
    assert changed.updated_at > created.updated_at == created.created_at == changed.created_at
    sdk.voices.update(created.id)
    assert sdk.voices.get(created.id) == changed

    sdk.voices.delete(created.id)
    assert sdk.voices.list().total == 0
    for missing in (sdk.voices.get, sdk.voices.delete, sdk.voices.update):
        with pytest.raises(sdk_errors.NotFoundError, match="There is no voice"):
            missing(created.id)


def test_the_legacy_sdk_does_so_too(server, legacy):
    created = legacy.create_model(title="Paimon", voices=[WAV], texts=["Hello."], tags=["a"], visibility="unlist")
    assert (created.title, created.tags, created.visibility) == ("Paimon", ["a"], "unlist")
    assert legacy.get_model(created.id) == created
    assert legacy.list_models(self_only=True).items == [created]
    legacy.update_model(created.id, title="Nova")
    assert legacy.get_model(created.id).title == "Nova"
    legacy.delete_model(created.id)
    assert legacy.list_models().items == []
    with pytest.raises(fish_audio_sdk.HttpCodeErr) as missing:
        legacy.get_model(created.id)
    assert (missing.value.status, "There is no voice" in missing.value.message) == (404, True)


def test_a_voice_without_texts_is_made(sdk):
    assert [each.text for each in sdk.voices.create(title="a", voices=[WAV]).samples] == [""]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(title=" "), "title is empty"),
        (dict(voices=[]), "voices"),
        (dict(voices=[WAV] * 17), "voices"),
        (dict(voices=[b"no audio at all"]), "Recording 1 is not WAV"),
        (dict(voices=[WAV, WAV[:40]]), "Recording 2"),
        (dict(voices=[sounds.encoded(np.tile(SPEECH, 6), RATE)]), "longer than 10 s"),
        (dict(texts=["a", "b"]), "2 transcripts for 1 recordings"),
        (dict(visibility="all"), "visibility"),
        (dict(train_mode="full"), "train_mode"),
        (dict(cover_image=b"\x89PNG"), "cover_image: this server keeps no pictures"),
        (dict(tags=["a"] * 40), "tags must be a list of at most 32 words"),
        (dict(description="a" * 9_000), "description has 9,000 characters"),
        (dict(description="a" * 200_000), "maximum size"),
    ],
)
def test_what_cannot_be_a_voice_is_400_that_says_why(server, sdk, given, message):
    with pytest.raises(sdk_errors.APIError, match=message) as refused:
        sdk.voices.create(**{"title": "a", "voices": [WAV]} | given)
    assert refused.value.status == 400
    assert server.library.list() == ()


def start_of(http: httpx.Client, speech: dict) -> bytes:
    """Return the first sound of an answer by OpenAI's route."""
    with http.stream("POST", "/v1/audio/speech", json=speech) as answer:
        assert answer.status_code == 200
        return next(answer.iter_bytes(4096))


def test_a_voice_speaks_as_its_recordings_sent_along_do(server, sdk, http):
    voice = sdk.voices.create(title="alloy", voices=[WAV], texts=["Hello there."])
    asked = dict(text="Hi.", seed=1, max_new_tokens=8, format="wav")
    sent = dict(audio=base64.b64encode(WAV).decode(), text="Hello there.")
    expected = http.post("/v1/tts", json={**asked, "references": [sent]}).raise_for_status().content
    for name in (voice.id, "alloy"):
        assert http.post("/v1/tts", json={**asked, "reference_id": name}).raise_for_status().content == expected
    assert http.post("/v1/tts", json=asked).content != expected
    speech = dict(model="x", input="Hi.", seed=1, response_format="pcm")
    assert start_of(http, {**speech, "voice": "alloy"}) == start_of(http, {**speech, "voice": voice.id})
    assert start_of(http, {**speech, "voice": "alloy"}) != start_of(http, {**speech, "voice": "nova"})

    sdk.voices.delete(voice.id)
    refused = http.post("/v1/tts", json={**asked, "reference_id": voice.id})
    assert (refused.status_code, refused.json()["status"]) == (404, 404)
    refused = http.post("/v1/audio/speech", json={**speech, "voice": voice.id})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "voice")


# Lists


def test_an_item_has_every_key_of_the_contract(server, http):
    voice = server.library.add([WAV], title="派蒙")
    (item,) = http.get("/model").json()["items"]
    assert item.keys() >= KEYS
    assert item.pop("author").keys() == {"_id", "nickname", "avatar"}
    assert item["samples"][0].keys() == {"title", "text", "task_id", "audio"}
    assert (item["_id"], item["type"], item["title"]) == (voice.id, "tts", "派蒙")
    assert http.get(f"/model/{voice.id}").json() == http.get("/model/派蒙").json()


def test_lists_are_paged_and_filtered(server, http, sdk):
    for number in range(5):
        server.library.add([WAV], title=f"Voice {number}", id=f"v{number}", tags=["all", f"t{number}"])
    server.library.update("v1", title="Fuchs")

    def ids(**query: object) -> list[str]:
        answer = http.get("/model", params=query).json()
        return [each["_id"] for each in answer["items"]]

    assert ids() == ["v4", "v3", "v2", "v1", "v0"]
    assert ids(page_size=2, page_number=2) == ["v2", "v1"]
    assert ids(page_size=2, page_number=4) == []
    assert http.get("/model", params=dict(page_size=2, page_number=9)).json() == {"total": 5, "items": []}
    assert ids(title="voice") == ["v4", "v3", "v2", "v0"]
    assert ids(title="FUCHS", self=True) == ["v1"]
    assert ids(tag=["all", "t2"]) == ["v2"]
    assert ids(tag="none") == []
    assert ids(author_id="somebody") == []
    assert ids(language="de") == []
    assert [each.id for each in sdk.voices.list(page_size=1, tags=["all"], sort_by="created_at").items] == ["v4"]
    for query in (dict(page_size=0), dict(page_number=0), dict(page_size="x"), dict(page_size=10**9)):
        refused = http.get("/model", params=query)
        assert (refused.status_code, refused.json().keys()) == (400, {"status", "message"})
        assert next(iter(query)) in refused.json()["message"]


def test_names_are_listed_as_openai_s_clients_read_them(server, http):
    server.library.add([WAV], title="Paimon", id="p")
    expected = [{"id": "default", "name": "default"}, {"id": "p", "name": "Paimon"}]
    for path in ("/v1/audio/voices", "/v1/voices"):
        assert http.get(path).json() == {"voices": expected}
    models = http.get("/v1/audio/models").json()
    assert models["voices"] == expected
    assert [each["id"] for each in models["models"]] == [http.get("/v1/models").json()["data"][0]["id"]]
    server.library.update("p", title="default")
    assert http.get("/v1/audio/voices").json() == {"voices": [{"id": "p", "name": "default"}]}


# Bodies


def test_a_change_may_be_json_msgpack_or_a_form(server, http):
    server.library.add([WAV], title="a", id="a", tags=["x"])
    http.patch("/model/a", json=dict(title="b", later=1, tags=None)).raise_for_status()
    assert (server.library.find("a").title, server.library.find("a").tags) == ("b", ("x",))
    packed = ormsgpack.packb(dict(title="c", tags=["y", "z"]))
    http.patch("/model/a", content=packed, headers={"Content-Type": "application/msgpack"}).raise_for_status()
    assert (server.library.find("a").title, server.library.find("a").tags) == ("c", ("y", "z"))
    http.patch("/model/a", data=dict(title="d é", tags=["v", "w"])).raise_for_status()
    assert (server.library.find("a").title, server.library.find("a").tags) == ("d é", ("v", "w"))
    http.patch("/model/a", files=dict(title=(None, "e é"), tags=(None, "u"))).raise_for_status()
    assert (server.library.find("a").title, server.library.find("a").tags) == ("e é", ("u",))
    assert http.patch("/model/a").json()["title"] == "e é"
    assert http.patch("/model/a", json=dict(tags=[])).json()["tags"] == []


def test_a_voice_may_be_json_or_msgpack(server, http):
    encoded = base64.b64encode(WAV).decode()
    made = http.post("/model", json=dict(title="a", voices=[encoded], texts=["Hi."]))
    assert made.status_code == 201
    voice = server.library.find(made.json()["_id"])
    assert server.library.read(voice, voice.recordings[0]) == WAV
    packed = ormsgpack.packb(dict(title="b", voices=[WAV, MP3]))
    made = http.post("/model", content=packed, headers={"Content-Type": "application/msgpack"})
    assert (made.status_code, len(made.json()["samples"])) == (201, 2)


BOUNDARY = {"Content-Type": "multipart/form-data; boundary=x"}
BAD = {
    "no boundary": ({"Content-Type": "multipart/form-data"}, b"--x--"),
    "no form": (BOUNDARY, b"hello"),
    "no name": (BOUNDARY, b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n"),
    "no disposition": (BOUNDARY, b"--x\r\nA: b\r\n\r\na\r\n--x--\r\n"),
    "a bad header": (BOUNDARY, b"--x\r\n\0: b\r\n\r\na\r\n--x--\r\n"),
    "cut off": (BOUNDARY, b'--x\r\nContent-Disposition: form-data; name="title"\r\n\r\na'),
    "a strange encoding": (
        {"Content-Type": "multipart/form-data; boundary=x; charset=undefined"},
        b'--x\r\nContent-Disposition: form-data; name="title"\r\n\r\na\r\n--x--\r\n',
    ),
    "surrogates": (
        {"Content-Type": "multipart/form-data; boundary=x; charset=unicode_escape"},
        b'--x\r\nContent-Disposition: form-data; name="title"\r\n\r\n\\ud800\r\n--x--\r\n',
    ),
    "many fields": ({"Content-Type": "application/x-www-form-urlencoded"}, b"&".join([b"a=1"] * 500)),
    "a large field": ({"Content-Type": "application/x-www-form-urlencoded"}, b"title=" + b"a" * 200_000),
    "no UTF-8": ({"Content-Type": "application/x-www-form-urlencoded"}, b"title=%00%ff"),
    "text for a recording": ({"Content-Type": "application/x-www-form-urlencoded"}, b"title=a&voices=%ff&voices=a"),
    "no JSON": ({"Content-Type": "application/json"}, b"{"),
    "deep JSON": ({"Content-Type": "application/json"}, b"[" * 50_000),
    "a list": ({"Content-Type": "application/json"}, b"[]"),
    "NaN": ({"Content-Type": "application/json"}, b'{"title": NaN}'),
    "a number": ({"Content-Type": "application/json"}, b'{"title": 1}'),
    "half a pair": ({"Content-Type": "application/json"}, b'{"title": "\\ud800"}'),
    "no msgpack": ({"Content-Type": "application/msgpack"}, b"\xc1"),
    "nothing": ({}, b""),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_broken_body_is_400(server, http, kind):
    headers, content = BAD[kind]
    refused = http.post("/model", headers=headers, content=content)
    assert refused.status_code == 400
    assert refused.json().keys() == {"status", "message"}
    assert server.library.list() == ()


def test_mutated_forms_are_never_a_failure_of_the_server(server, http):
    draw = np.random.default_rng(0)
    form = http.build_request("POST", "/model", data=dict(title="a", texts=["b"]), files=[("voices", WAV[:2_000])])
    whole, kind = form.read(), form.headers["Content-Type"]
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(draw.integers(1, 6)):
            place = int(draw.integers(0, min(len(data), 600)))
            data[place : place + int(draw.integers(0, 3))] = draw.bytes(int(draw.integers(0, 4)))
        answer = http.post("/model", content=bytes(data), headers={"Content-Type": kind})
        assert answer.status_code in (201, 400)


@pytest.mark.parametrize("id", ["%2e%2e", "..%2f..%2fetc", "%00", "%ff", "a" * 300, "con", "%F0%9F%90%9F", "*"])
def test_a_hostile_id_is_404(server, http, id):
    for method in ("GET", "DELETE", "PATCH"):
        refused = http.request(method, f"/model/{id}")
        assert (refused.status_code, refused.json()["status"]) == (404, 404)


def test_a_voice_of_the_working_folder_is_shown_and_not_changed(micro, tmp_path):
    folder = tmp_path / "references" / "fox"
    folder.mkdir(parents=True)
    (folder / "a.wav").write_bytes(WAV)
    (folder / "a.lab").write_text("Hello.")
    with serving(load(micro, threads=1), tmp_path / "voices", also=[tmp_path / "references"]) as running:
        (item,) = httpx.get(f"{running.url}/model").json()["items"]
        assert (item["_id"], item["samples"][0]["text"]) == ("fox", "Hello.")
        for method in ("PATCH", "DELETE"):
            refused = httpx.request(method, f"{running.url}/model/fox")
            assert (refused.status_code, "only read" in refused.json()["message"]) == (403, True)
    assert Library(tmp_path / "voices").list() == ()


def test_many_clients_at_once_see_whole_voices_alone(server, http):
    def session(number: int) -> int:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for _ in range(3):
                made = client.post("/model", data=dict(title=f"v{number}"), files=[("voices", WAV), ("voices", MP3)])
                assert made.status_code == 201
                assert {len(each["samples"]) for each in client.get("/model").json()["items"]} <= {2}
                assert client.get("/v1/health").json() == {"status": "ok"}
                assert client.delete(f"/model/{made.json()['_id']}").status_code == 204
        return number

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(session, range(6))) == list(range(6))
    assert http.get("/model").json() == {"total": 0, "items": []}


def test_the_document_describes_the_forms(http):
    document = http.get("/openapi.json").json()
    form = document["paths"]["/model"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["voices"]["items"] == {"type": "string", "format": "binary"}
    assert set(form["required"]) == {"title", "voices"}
    assert "$ref" not in json.dumps(form)
