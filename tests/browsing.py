"""A real browser for the tests of pages: it reaches nothing but the server, and what it plays can be heard."""

from __future__ import annotations

import base64
import contextlib
import importlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect, sync_playwright
from playwright.sync_api import Route as Request
from serving import Server
from starlette.responses import Response
from starlette.routing import Route

CI = os.environ.get("CI") == "true"
CHROMIUM = os.environ.get("FISHCLI_TEST_CHROMIUM") or shutil.which("chromium") or ""
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-default-apps",
    "--no-first-run",
    "--no-default-browser-check",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",  # a microphone that beeps
    "--use-fake-ui-for-media-stream",
]
RATE = 44_100
BLOCK = 4096  # samples that the ear below hears at once
# Hears what reaches the loudspeaker, on the thread of the sound, so that a busy page loses none of it. A context waits
# for its ear before it plays, and lives on for a while, so that its last samples are heard too.
EAR = """
window.heard = [];
const connect = AudioNode.prototype.connect, close = AudioContext.prototype.close;
window.AudioContext = class extends AudioContext {
  constructor(...options) {
    super(...options);
    this.mouth = new GainNode(this);
    this.suspend();
    this.audioWorklet.addModule("/static/ear.js").then(() => {
      const ear = new AudioWorkletNode(this, "ear");
      ear.port.onmessage = ({ data }) => heard.push(data);
      connect.call(this.mouth, ear);
      connect.call(ear, this.destination);
      this.resume();
    }, () => {}); // where the server is gone, there is nothing to hear
  }
  close() {
    setTimeout(() => close.call(this), 5000);
  }
};
AudioNode.prototype.connect = function (target, ...rest) {
  return connect.call(this, target === this.context.destination ? this.context.mouth : target, ...rest);
};
"""
WORKLET = """
registerProcessor("ear", class extends AudioWorkletProcessor {
  heard = new Float32Array(BLOCK);
  at = 0;
  process([[samples = new Float32Array(128)]], [outputs]) {
    outputs.forEach((output) => output.set(samples));
    this.heard.set(samples, this.at);
    this.at = (this.at + samples.length) % BLOCK;
    if (!this.at) this.port.postMessage(this.heard.slice());
    return true;
  }
});
""".replace("BLOCK", str(BLOCK))
HEARD = """async () => {
  const bytes = new Uint8Array(await new Blob(window.heard).arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}"""


def with_ear(app: FastAPI) -> None:
    """Let an app serve the ear, which no page may load from elsewhere."""
    app.router.routes.insert(
        0, Route("/static/ear.js", lambda request: Response(WORKLET, media_type="text/javascript"))
    )


def import_or_skip(name: str) -> None:
    """Skip the tests of a file without a package; where CI=true nothing may be skipped."""
    (importlib.import_module if CI else pytest.importorskip)(name)


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """Start the browser; without one the test is skipped, and fails where CI=true."""
    if not CHROMIUM:
        (pytest.fail if CI else pytest.skip)("needs chromium")
    with sync_playwright() as started, started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS) as browser:
        expect.set_options(timeout=30_000)
        yield browser


@contextlib.contextmanager
def visiting(browser: Browser, **options: Any) -> Iterator[Callable[[str], Page]]:
    """Open pages in one profile. Fails where one asks for anything from elsewhere, or breaks a rule of its own."""
    context = browser.new_context(**options)
    context.set_default_timeout(30_000)
    context.add_init_script(EAR)
    wrong: list[str] = []

    def open_page(url: str) -> Page:
        def route(asked: Request) -> None:
            if asked.request.url.startswith(url + "/"):
                asked.continue_()
            else:
                wrong.append(asked.request.url)
                asked.abort()

        context.route("**/*", route)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if "Security" in message.text else None)
        page.goto(url)
        return page

    yield open_page
    context.close()
    if wrong:
        pytest.fail(str(wrong))


def heard(page: Page) -> np.ndarray:
    """What has reached the loudspeaker, which is silent again; as `sounding`."""
    for _ in range(40):
        samples = np.frombuffer(base64.b64decode(page.evaluate(HEARD)), "<f4")
        if not samples[-BLOCK:].any():
            break
        page.wait_for_timeout(100)
    return sounding(samples)


def sounding(samples: np.ndarray) -> np.ndarray:
    """The samples that are not zero: on a busy machine there may be a pause anywhere."""
    return samples[np.abs(samples) > 2**-16]


def answer(server: Server, **fields: object) -> np.ndarray:
    """The samples that the server itself sends."""
    sent = httpx.post(f"{server.url}/v1/tts", json={"format": "pcm", **fields}, timeout=60)
    return np.frombuffer(sent.raise_for_status().content, "<i2").astype(np.float32) / 32768


def assert_heard(page: Page, expected: np.ndarray) -> None:
    np.testing.assert_allclose(heard(page), sounding(expected), atol=1e-6)


def soon(condition: Callable[[], object], seconds: float = 10) -> bool:
    """Whether a condition comes true."""
    until = time.monotonic() + seconds
    while not (met := bool(condition())) and time.monotonic() < until:
        time.sleep(0.02)
    return met
