"""The page at /, in a real browser that reaches nothing but the server: it speaks, plays, stops, tells of errors."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from browsing import RATE, answer, assert_heard, heard, launched, soon, visiting, with_ear
from playwright.sync_api import Browser, Locator, Page, expect
from serving import Server, serving
from sounds import encoded

import fishcli
from fishcli.bench import listening
from fishcli.engine import Engine, load
from fishcli.server.settings import ServerSettings

STATIC = Path(fishcli.__file__).parent / "server" / "static"
KEY = "open-sesame"
SHORT, LONG = "Hi.", "The boat went down the river and came back in the evening. " * 30
PLAYED = """async (audio) => {
  await audio.play();
  await new Promise((resolve) => audio.addEventListener("ended", resolve));
  return audio.duration;
}"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with contextlib.closing(load(threads=1)) as engine:
        yield engine


@pytest.fixture(scope="module")
def server(engine, tmp_path_factory) -> Iterator[Server]:
    with serving(engine, tmp_path_factory.mktemp("voices"), mount=with_ear) as running:
        yield running


@pytest.fixture(scope="module")
def locked(engine, tmp_path_factory) -> Iterator[Server]:
    with serving(engine, tmp_path_factory.mktemp("voices"), ServerSettings(key=KEY), mount=with_ear) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def visit(browser):
    """Open the page of a server."""
    with visiting(browser) as open_page:

        def opened_page(server: Server) -> Page:
            page = open_page(server.url)
            expect(page.locator(".opblock").first).to_be_visible()
            return page

        yield opened_page


def speak(page: Page, text: str, format: str = "wav") -> None:
    page.get_by_role("textbox", name="Text", exact=True).fill(text)
    page.get_by_role("combobox", name="Format", exact=True).select_option(format)
    page.get_by_role("button", name="Speak", exact=True).click()


def seed_of(page: Page) -> int:
    """The seed of what was spoken, when it has been heard to its end."""
    expect(page.get_by_role("status")).to_contain_text(" of speech, first audio after ")
    return int(re.search(r"seed (\d+)\.", page.get_by_role("status").inner_text())[1])


def opened(page: Page, path: str) -> Locator:
    """A route of the reference, tried out with its example as it is."""
    route = page.locator(".opblock", has=page.locator(f"[data-path='{path}']"))
    route.get_by_role("button").first.click()
    route.get_by_role("button", name="Try it out").click()
    route.get_by_role("button", name="Execute").click()
    return route


def idle(engine: Engine) -> bool:
    return not (engine.stats.running or engine.stats.waiting)


def test_every_sample_is_played_once_and_in_order_and_can_be_saved(server, visit):
    page = visit(server)
    speak(page, SHORT)
    seed = seed_of(page)
    expected = answer(server, text=SHORT, seed=seed)
    assert_heard(page, expected)
    with page.expect_download() as download:
        page.get_by_role("link", name="Save the sound").click()
    assert download.value.suggested_filename == f"speech-{seed}.wav"
    saved, rate = soundfile.read(download.value.path(), dtype="float32")
    assert rate == RATE
    assert np.array_equal(saved, expected)


@pytest.mark.parametrize("format", ["mp3", *(pytest.param(each, marks=pytest.mark.slow) for each in ("opus", "flac"))])
def test_other_formats_are_played_when_they_are_complete(server, visit, format):
    page = visit(server)
    speak(page, SHORT, format)
    expected = answer(server, text=SHORT, seed=seed_of(page))
    assert np.sum(heard(page) ** 2) == pytest.approx(np.sum(expected**2), rel=0.15)


def test_sound_is_heard_while_the_rest_is_made_and_stop_ends_both(server, visit):
    page = visit(server)
    speak(page, LONG)
    expect(page.get_by_role("status")).to_contain_text("Playing")
    assert server.engine.stats.running == 1
    page.get_by_role("textbox", name="Text", exact=True).press("Control+Enter")  # the next one ends the one before
    expect(page.get_by_role("status")).to_have_text("Waiting for the first audio…")
    expect(page.get_by_role("status")).to_contain_text("Playing")
    assert soon(lambda: page.evaluate("heard.some((block) => block.some((sample) => sample))"))
    assert server.engine.stats.running == 1
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_role("status")).to_have_text("Stopped.")
    assert soon(lambda: idle(server.engine))
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_disabled()


def test_a_server_with_a_key_is_used_with_it(locked, visit):
    page = visit(locked)
    key = page.get_by_label("API key", exact=True)
    expect(key).to_be_visible()
    speak(page, SHORT)
    expect(page.get_by_role("alert")).to_have_text("An API key is needed: Authorization: Bearer KEY.")
    key.fill("wrong")
    page.get_by_role("button", name="Speak", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("The API key is wrong.")
    key.fill(KEY)
    page.get_by_role("button", name="Speak", exact=True).click()
    seed_of(page)
    expect(page.get_by_role("alert")).to_be_empty()
    route = opened(page, "/v1/models")  # the reference uses it too
    expect(route.locator(".live-responses-table tbody .response-col_status")).to_have_text("200")


def test_a_voice_of_the_library_speaks_until_it_is_removed(server, visit):
    recording = encoded(answer(server, text=SHORT, seed=1), RATE)
    voice = server.library.add([recording], ["Some words."], title="Ann")
    page = visit(server)
    page.get_by_role("combobox", name="Voice", exact=True).select_option("Ann")
    speak(page, SHORT)
    expected = answer(server, text=SHORT, seed=seed_of(page), reference_id=voice.id)
    assert_heard(page, expected)
    server.library.remove(voice.id)
    speak(page, SHORT)
    expect(page.get_by_role("alert")).to_have_text(f"There is no voice '{voice.id}'; add it to the library first.")


@pytest.mark.slow
def test_the_reference_takes_a_key_of_its_own(locked, visit):
    page = visit(locked)
    page.get_by_role("button", name="Authorize").click()
    page.locator(".auth-container input").fill(KEY)
    page.locator(".auth-container").get_by_role("button", name="Apply credentials").click()
    page.locator(".auth-container").get_by_role("button", name="Close").click()
    route = opened(page, "/v1/models")
    expect(route.locator(".live-responses-table tbody .response-col_status")).to_have_text("200")


@pytest.mark.slow
def test_a_server_that_is_gone_is_told_in_words(engine, visit, tmp_path):
    with serving(engine, tmp_path, mount=with_ear) as running:
        page = visit(running)
        speak(page, LONG)
        expect(page.get_by_role("status")).to_contain_text("Playing")
    expect(page.get_by_role("alert")).to_have_text("The answer broke off before its end.")
    speak(page, SHORT)
    expect(page.get_by_role("alert")).to_have_text("The server cannot be reached.")


def test_the_reference_has_every_route_and_plays_an_answer(server, visit):
    page = visit(server)
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    expect(page.locator(".opblock")).to_have_count(sum(map(len, paths.values())))
    shown = {path.replace("\u200b", "") for path in page.locator(".opblock-summary-path").all_inner_texts()}
    assert shown == set(paths)
    for path in ("/v1/tts", "/v1/audio/speech"):
        assert opened(page, path).locator("audio").evaluate(PLAYED) > 0.5, path


def test_the_page_and_its_files_need_no_key_and_nothing_from_elsewhere(locked):
    page = httpx.get(f"{locked.url}/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert not re.search("unsafe|http:|https:|\\*", policy)
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {name.partition("?")[0] for name in linked} >= {"static/page.js", "static/page.css", "static/favicon.svg"}
    for name in linked:
        file = httpx.get(f"{locked.url}/{name}")
        assert file.status_code == 200, name
        assert "immutable" in file.headers["cache-control"] or name == "openapi.json"
    assert httpx.get(f"{locked.url}/v1/models").status_code == 401


def test_static_files_are_served_as_files_are(server):
    url = f"{server.url}/static/page.js"
    whole = httpx.get(url)
    assert whole.headers["content-type"] == "text/javascript; charset=utf-8"
    assert whole.content == (STATIC / "page.js").read_bytes()
    head = httpx.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))
    known = httpx.get(url, headers={"If-None-Match": whole.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    part = httpx.get(url, headers={"Range": "bytes=3-12"})
    assert (part.status_code, part.content) == (206, whole.content[3:13])
    assert httpx.post(url, json={}).status_code == 405


@pytest.mark.parametrize(
    "path", ["../page.html", "%2e%2e/page.html", "..%2fapp.py", "..%5capp.py", "/etc/passwd", "%00", "swagger-ui", ""]
)
def test_nothing_else_is_served(server, path):
    host, port = server.url.removeprefix("http://").split(":")
    with httpx.Client() as client:  # the path as it is, which a client would tidy
        request = client.build_request("GET", server.url)
        request.url = httpx.URL(scheme="http", host=host, port=int(port), raw_path=f"/static/{path}".encode())
        refused = client.send(request)
    assert refused.status_code == 404
    assert set(refused.json()) == {"status", "message"}


def test_swagger_ui_is_as_it_was_published():
    folder = STATIC / "swagger-ui"
    for line in (folder / "README.txt").read_text(encoding="utf-8").splitlines()[2:]:
        checksum, name = line.split()
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == checksum
    assert {"LICENSE", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt"} <= {file.name for file in folder.iterdir()}


@pytest.mark.slow
def test_a_recogniser_understands_what_is_played(server, visit):
    if not listening.is_installed():
        pytest.skip("needs the extra listen")
    text = "The boat went down the river and came back in the evening."
    page = visit(server)
    speak(page, text)
    seed_of(page)
    understood = listening.words(listening.transcribe(heard(page), RATE))
    assert len(set(understood) & set(listening.words(text))) >= 8, understood
