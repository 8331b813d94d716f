"""The web page in a real browser that reaches nothing but the server: type, hear, stop, record, keep, download."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from browsing import HEARD, RATE, answer, assert_heard, heard, import_or_skip, launched, soon, visiting, with_ear
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect
from serving import Server, serving
from sounds import encoded

from fishcli.bench import listening
from fishcli.engine import Engine, load
from fishcli.request import SamplingParams
from fishcli.server.settings import ServerSettings
from fishcli.webui.mount import mount
from fishcli.webui.page import Form, labels

import_or_skip("gradio")

KEY = "open-sesame"
SHORT, SENTENCE = "Hi.", "The boat went down the river and came back in the evening."
LONG = f"{SENTENCE} " * 30
MINE = "\n"  # the value of the choice of a new recording


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with contextlib.closing(load(threads=1)) as engine:
        yield engine


@contextlib.contextmanager
def showing(engine: Engine, folder: Path, form: Form | None = None, **settings: object) -> Iterator[Server]:
    def mounted(app: FastAPI) -> None:
        mount(app, form or Form(engine.sampling), at_root=True)
        with_ear(app)

    with serving(engine, folder, ServerSettings(open_paths=("/webui",), **settings), mount=mounted) as running:
        yield running


@pytest.fixture(scope="module")
def server(engine, tmp_path_factory) -> Iterator[Server]:
    with showing(engine, tmp_path_factory.mktemp("voices")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def opened(server, browser) -> Iterator[Page]:
    with visiting(browser, permissions=["microphone"], locale="en-US") as visit:
        yield shown(visit(server.url))


@pytest.fixture
def page(opened) -> Page:
    """The page that all tests share, since it takes long to load: without results, and with no voice chosen."""
    opened.evaluate("() => { fish.stop(); heard = []; }")
    opened.wait_for_function(
        "!['Waiting for the first sound…', 'Speaking…'].includes(document.querySelector('.fish-status').innerText)"
    )
    if opened.locator(".fish-result").count():
        opened.get_by_role("button", name="Clear the history").click()
    opened.get_by_role("combobox", name="Voice", exact=True).select_option("")
    return opened


def shown(page: Page) -> Page:
    expect(page.locator("#fish-speak")).to_be_visible()
    expect(page.locator("fish-voice-choice option")).not_to_have_count(0)
    return page


def speak(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Text", exact=True).fill(text)
    page.get_by_role("button", name="Speak", exact=True).click()


def sounds(page: Page) -> bool:
    """Whether anything has reached the loudspeaker."""
    return page.evaluate("heard.some((block) => block.some((sample) => sample))")


def status(page: Page):
    return page.locator(".fish-status")


def alert(page: Page):
    return page.locator("fish-output > [role=alert]")


def seed_of(page: Page, count: int = 1) -> int:
    """The seed of the newest of so many results, when it has been heard to its end."""
    expect(page.locator(".fish-result")).to_have_count(count)
    return int(re.search(r"seed (\d+)", page.locator(".fish-result").first.inner_text())[1])


def saved(page: Page, name: str) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=name, exact=True).click()
    return Path(download.value.path()).read_bytes()


def samples_of(wav: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(wav), dtype="float32")[0]


def test_every_sample_is_heard_and_can_be_heard_again_saved_and_looked_at(server, page):
    speak(page, SHORT)
    seed = seed_of(page)
    expected = answer(server, text=SHORT, seed=seed)
    expect(status(page)).to_have_text("Done.")
    figures = rf"[\d.]+ s of speech, [\d.]+ tokens/s, real-time factor [\d.]+, first sound after [\d.]+ s, seed {seed}"
    assert re.fullmatch(figures, page.locator("fish-output > .fish-figures").inner_text())
    assert_heard(page, expected)
    for format in ("wav", "flac", "mp3", "opus"):
        samples, rate = soundfile.read(io.BytesIO(saved(page, f"Download as {format}")), dtype="float32")
        if format in ("wav", "flac"):
            assert rate == RATE
            assert np.array_equal(samples, expected)
        else:
            assert np.sum(samples**2) / rate == pytest.approx(np.sum(expected**2) / RATE, rel=0.15)
    page.get_by_text("Spectrogram and codes").click()
    codes = np.load(io.BytesIO(saved(page, "Download the codes")))
    assert codes.shape[0] == server.engine.codec_settings.codebooks
    assert np.array_equal(codes, codes_of(server, text=SHORT, seed=seed))
    shades = "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"
    assert page.locator(".fish-spectrogram").evaluate(shades) > 100
    result = page.locator(".fish-result")
    result.locator("summary", has_text="Save as voice").click()
    result.get_by_label("Name of the voice").fill("Bob")
    result.get_by_role("button", name="Save as voice").click()
    expect(result.get_by_role("status")).to_have_text("Saved as Bob.")
    voice = server.library.find("Bob")
    assert [each.text for each in voice.recordings] == [SHORT]
    assert np.array_equal(samples_of((voice.folder / voice.recordings[0].name).read_bytes()), expected)
    server.library.remove(voice.id)


def codes_of(server: Server, **fields: object) -> np.ndarray:
    """The codes that the server itself sends."""
    sent = httpx.post(f"{server.url}/v1/tts", json={"format": "pcm", "stream_format": "sse", **fields}, timeout=60)
    events = [json.loads(line[len("data: ") :]) for line in sent.text.splitlines() if line]
    return np.concatenate([np.array(event["codes"]) for event in events if "codes" in event], axis=1)


def test_sound_is_heard_while_the_rest_is_made_and_stop_ends_both(server, page):
    speak(page, LONG)
    expect(status(page)).to_have_text("Speaking…")
    assert server.engine.stats.running == 1
    assert soon(lambda: sounds(page))
    assert server.engine.stats.running == 1
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(status(page)).to_have_text("Stopped.")
    assert server.idle(10)
    assert seed_of(page) >= 0  # what was made is kept


def test_two_people_are_heard_at_once(server, browser, page):
    with visiting(browser) as visit:
        other = shown(visit(server.url))
        speak(page, LONG)
        assert soon(lambda: sounds(page))
        speak(other, LONG)
        assert soon(lambda: sounds(other))
        assert server.engine.stats.running == 2
        other.close()  # leaving frees the model
        assert soon(lambda: server.engine.stats.running == 1)
        page.get_by_role("button", name="Stop", exact=True).click()
        assert server.idle(10)


def test_a_recording_is_spoken_with_kept_as_a_voice_and_used_after_a_reload(server, page, encodings, tmp_path):
    recording = tmp_path / "me.wav"
    recording.write_bytes(encoded(answer(server, text=SENTENCE, seed=1), RATE))
    page.get_by_role("combobox", name="Voice", exact=True).select_option(MINE)
    speak(page, SHORT)
    expect(alert(page)).to_have_text("Choose an audio file, or record one.")
    page.get_by_label("Audio file").set_input_files(recording)
    page.get_by_label("What is said in the recording").fill(SENTENCE)
    speak(page, SHORT)
    sent = {"references": [{"audio": base64.b64encode(recording.read_bytes()).decode(), "text": SENTENCE}]}
    expected = answer(server, text=SHORT, seed=seed_of(page), **sent)
    assert np.array_equal(samples_of(saved(page, "Download as wav")), expected)
    own = page.locator(".fish-own")
    own.get_by_role("button", name="Save as voice").click()
    expect(page.locator("fish-voice-choice [role=alert]")).to_have_text("Give the voice a name first.")
    own.get_by_label("Name of the voice").fill("Ann")
    own.get_by_role("button", name="Save as voice").click()
    voice = page.get_by_role("combobox", name="Voice", exact=True)
    expect(voice.locator("option:checked")).to_have_text("Ann")
    kept = server.library.find("Ann")
    assert [each.text for each in kept.recordings] == [SENTENCE]
    page.reload()
    shown(page)
    assert np.array_equal(samples_of(saved(page, "Download as wav")), expected)
    page.get_by_role("button", name="Again with this seed").click()
    seed_of(page, 2)
    page.get_by_role("button", name="Clear the history").click()
    voice.select_option("Ann")
    speak(page, SHORT)
    expected = answer(server, text=SHORT, seed=seed_of(page), reference_id=kept.id)
    assert np.array_equal(samples_of(saved(page, "Download as wav")), expected)
    assert encodings == [1]  # for the recording sent along, and its voice, on the page and elsewhere
    server.library.remove(kept.id)
    speak(page, SHORT)
    expect(alert(page)).to_have_text(f"There is no voice '{kept.id}'; add it to the library first.")


@pytest.fixture
def encodings(monkeypatch) -> list[int]:
    """How many recordings have been encoded."""
    counted, encode = [0], Engine._encode_pieces

    def count(self: Engine, *given: object) -> object:
        counted[0] += 1
        return encode(self, *given)

    monkeypatch.setattr(Engine, "_encode_pieces", count)
    return counted


def test_the_microphone_records(page):
    page.get_by_role("combobox", name="Voice", exact=True).select_option(MINE)
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(1500)
    page.get_by_role("button", name="End the recording").click()
    preview = page.locator(".fish-own audio")
    expect(preview).to_be_visible()
    assert soon(lambda: preview.evaluate("audio => audio.duration") > 0.5)
    speak(page, SHORT)
    seed_of(page)


def test_the_form_reaches_the_engine(server, page):
    page.get_by_text("Sampling and language").click()
    expect(page.get_by_label("Use the chunks before as context")).to_be_visible()
    page.get_by_label("Seed").fill("seven")
    speak(page, SHORT)
    expect(alert(page)).to_have_text("The seed is a whole number, or empty.")
    page.get_by_label("Seed").fill("7")
    temperature = page.get_by_label("number input for Temperature")
    temperature.fill("0.9")
    temperature.press("Tab")
    with page.expect_request("**/v1/tts") as sent:
        page.get_by_role("textbox", name="Text", exact=True).press("Control+Enter")
    assert seed_of(page) == 7
    fields = sent.value.post_data_json
    assert fields["temperature"] == 0.9
    assert fields["top_p"] == server.engine.sampling.top_p
    assert fields["prosody"] == {"speed": 1, "volume": 0}
    assert fields["language"] is None
    expected = answer(server, **{**fields, "format": "pcm", "stream_format": "audio"})
    assert np.array_equal(samples_of(saved(page, "Download as wav")), expected)
    page.get_by_label("Seed").fill("")
    page.get_by_text("Sampling and language").click()


def test_the_settings_begin_the_form(engine, browser, tmp_path):
    sampling = SamplingParams(temperature=1.8, top_p=0.5, repetition_penalty=1.1, seed=2**40, max_new_tokens=8)
    form = Form(sampling, "Nobody <b>", "eo", chunk_length=20, iterative_prompt=False, normalize=False)
    with showing(engine, tmp_path, form) as running, visiting(browser) as visit:
        running.library.add([encoded(answer(running, text=SENTENCE, seed=1), RATE)], [SENTENCE], title="Ann")
        page = shown(visit(running.url))
        expect(page.locator("fish-voice-choice [role=alert]")).to_have_text("There is no voice Nobody <b>.")
        page.get_by_role("combobox", name="Voice", exact=True).select_option("Ann")
        with page.expect_request("**/v1/tts") as sent:
            speak(page, SHORT)
        fields = sent.value.post_data_json
        assert {name: fields[name] for name in vars(sampling)} == vars(sampling)
        assert fields["reference_id"] == running.library.find("Ann").id
        assert (fields["language"], fields["chunk_length"]) == ("eo", 20)
        assert (fields["condition_on_previous_chunks"], fields["normalize"]) == (False, False)


def test_a_server_that_is_gone_is_told_in_words(engine, browser, tmp_path):
    with visiting(browser) as visit:
        with showing(engine, tmp_path) as running:
            page = shown(visit(running.url))
            speak(page, "")
            expect(alert(page)).to_have_text("Write a text first.")
            speak(page, LONG)
            expect(status(page)).to_have_text("Speaking…")
        expect(alert(page)).to_have_text("The answer broke off before its end.")
        speak(page, SHORT)
        expect(alert(page)).to_have_text("The server cannot be reached.")


def test_a_key_is_asked_for(engine, browser, tmp_path):
    with showing(engine, tmp_path, key=KEY) as locked, visiting(browser) as visit:
        page = visit(locked.url)
        key = page.get_by_label("API key")
        expect(key).to_be_visible()
        expect(page.locator("fish-voice-choice [role=alert]")).to_contain_text("An API key is needed")
        key.fill(KEY)
        key.press("Enter")
        expect(page.locator("fish-voice-choice option")).to_have_count(2)
        speak(page, SHORT)
        seed_of(page)
        assert httpx.post(f"{locked.url}/webui/convert", json={}).status_code == 401


@pytest.mark.parametrize(
    "locale",
    ["zh-CN", *(pytest.param(each, marks=pytest.mark.slow) for each in ("ja-JP", "es-MX", "pt-BR", "ko-KR"))],
)
def test_the_labels_are_in_the_language_of_the_browser(server, browser, locale):
    words = labels()[locale[:2]]
    with visiting(browser, locale=locale) as visit:
        page = shown(visit(server.url))
        expect(page.get_by_role("button", name=words["speak"], exact=True)).to_be_visible()
        expect(page.get_by_role("textbox", name=words["text"], exact=True)).to_be_visible()
        expect(status(page)).to_have_text(words["empty"])
        assert page.evaluate("document.documentElement.lang")[:2] == locale[:2]
        page.get_by_role("combobox", name=words["page_language"], exact=True).select_option("Español")
        expect(page.get_by_role("button", name="Hablar", exact=True)).to_be_visible()
        expect(status(page)).to_have_text("Todavía no se ha dicho nada.")


def test_each_language_has_all_labels():
    found = labels()
    for language, words in found.items():
        assert words.keys() == found["en"].keys(), language
        for key, text in words.items():
            assert values(text) == values(found["en"][key]), (language, key)
    script = (Path(mount.__code__.co_filename).parent / "static").glob("*.js")
    used = {key for file in script for key in re.findall(r'\b(?:label|button)\("(\w+)"', file.read_text("utf-8"))}
    assert used <= found["en"].keys()


def values(text: str) -> list[str]:
    return sorted(re.findall(r"\{\w+\}", text))


def test_it_can_be_used_with_the_keyboard_and_every_control_has_a_name(page):
    page.get_by_text("Sampling and language").click()
    page.get_by_role("combobox", name="Voice", exact=True).select_option(MINE)
    for kind in ("textbox", "combobox", "button", "slider", "spinbutton", "checkbox", "listbox"):
        named = page.get_by_role(kind, name=re.compile(r"\w"))
        expect(named).to_have_count(page.get_by_role(kind).count())
    page.get_by_role("textbox", name="Text", exact=True).focus()
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText || document.activeElement.tagName"))
    assert {"Speak", "Stop", "Record"} <= set(reached), reached


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/file=/etc/passwd",
        "gradio_api/file=../../etc/passwd",
        "gradio_api/file%3D/etc/passwd",
        "gradio_api/file/etc/passwd",
        "file=/etc/passwd",
        "gradio_api/proxy=http://127.0.0.1:1/",
        "gradio_api/upload",
        "gradio_api/queue/data?session_hash=a",
        "gradio_api/heartbeat/a",
        "gradio_api/runs",
        "gradio_api/stream/a/1/1/playlist.m3u8",
        "monitoring",
        "static/../../../../../etc/passwd",
        "static/..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
        "static/%2e%2e/%2e%2e/routes.py",
        "assets/../../routes.py",
        "assets//etc/passwd",
        "assets/..%5c..%5croutes.py",
        "page/../labels.json",
        "page/..%2flabels.json",
        "page/%2fetc/passwd",
        "page//etc/passwd",
        "page/%00",
        "theme.css/../gradio_api/file=/etc/passwd",
        "svelte/a",
        "nothing",
    ],
)
def test_nothing_but_the_page_is_served(server, path):
    host, port = server.url.removeprefix("http://").split(":")
    with httpx.Client() as client:  # the path as it is, which a client would tidy
        request = client.build_request("GET", server.url)
        request.url = httpx.URL(scheme="http", host=host, port=int(port), raw_path=f"/webui/{path}".encode())
        refused = client.send(request)
    assert refused.status_code == 404
    assert set(refused.json()) == {"status", "message"}


def test_nothing_can_be_sent_to_gradio(server):
    for path in ("gradio_api/upload", "gradio_api/queue/join", "gradio_api/run/predict", "gradio_api/call/a", "login"):
        assert httpx.post(f"{server.url}/webui/{path}", json={}).status_code == 404, path
        assert httpx.post(f"{server.url}/webui/{path}", files={"files": b"x"}).status_code == 415, path


def test_no_page_from_elsewhere_and_no_other_host_reaches_it(server):
    for path in ("/webui/", "/webui/config", "/webui/page/page.js"):
        assert httpx.get(f"{server.url}{path}").status_code == 200
        assert httpx.get(f"{server.url}{path}", headers={"Origin": "https://evil.example"}).status_code == 403
        assert httpx.get(f"{server.url}{path}", headers={"Host": "evil.example"}).status_code == 421


def test_the_page_names_nothing_elsewhere(server):
    page = httpx.get(f"{server.url}/webui/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert not re.search("http:|https:|\\*", policy)
    text = page.text.replace(server.url, "")
    assert not re.findall(r'(?:src|href|content)="?(?:https?:)?//', text)
    config = json.loads(re.search(r"window\.gradio_config = (\{.*?\});</script>", page.text)[1])
    assert config["analytics_enabled"] is False
    assert all(each["backend_fn"] is False for each in config["dependencies"])


def test_convert_takes_what_is_right_only(server):
    url = f"{server.url}/webui/convert"
    right = {"audio": base64.b64encode(np.zeros(4410, "<i2")).decode(), "sample_rate": 44_100, "format": "flac"}
    assert len(soundfile.read(io.BytesIO(httpx.post(url, json=right).content))[0]) == 4410
    for field, value in [("audio", "a"), ("audio", "AA=="), ("audio", 1), ("sample_rate", 1), ("sample_rate", "a"),
                         ("sample_rate", True), ("format", "aac"), ("format", None), ("format", ["wav"])]:  # fmt: skip
        refused = httpx.post(url, json={**right, field: value})
        assert refused.status_code == 400, (field, value)
        assert field in refused.json()["message"]
    for body in (b"", b"[]", b"[" * 100_000, b"\xff"):
        assert httpx.post(url, content=body, headers={"Content-Type": "application/json"}).status_code == 400


@pytest.mark.slow
def test_a_player_hears_no_gap(server, page):
    speak(page, SENTENCE * 3)
    seed = seed_of(page)
    figures = page.locator("fish-output > .fish-figures").inner_text()
    if float(re.search(r"factor ([\d.]+)", figures)[1]) > 0.7:
        pytest.skip("the machine is too busy to speak faster than it is heard")
    expected = answer(server, text=SENTENCE * 3, seed=seed)
    heard(page)
    played = np.frombuffer(base64.b64decode(page.evaluate(HEARD)), "<f4")
    first, *_, last = np.nonzero(played)[0]
    spoken_first, *_, spoken_last = np.nonzero(expected)[0]
    assert (last - first) - (spoken_last - spoken_first) <= 0.1 * RATE


@pytest.mark.slow
def test_a_recogniser_understands_what_is_played(server, page):
    if not listening.is_installed():
        pytest.skip("needs the extra listen")
    speak(page, SENTENCE)
    seed_of(page)
    understood = listening.words(listening.transcribe(heard(page), RATE))
    assert len(set(understood) & set(listening.words(SENTENCE))) >= 8, understood
