"""How soon the web page is heard: `python tests/bench_page.py [UTTERANCES]`, on the built-in voice.

Alternately the warm engine speaks a sentence, and a browser speaks it on the page. Printed are medians in ms: to the
engine's first AudioChunk, and on the page from the click to the request, to the arrival of the first sound, and to its
first sample at the loudspeaker by the browser's own clock of it. The aim is 1.5 times the engine's and the player's
buffer: what it waits for a second piece, and what the browser holds. The engine has one thread, the browser the rest.
"""

import contextlib
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("FISHCLI_CACHE_DIR", tempfile.mkdtemp())

from browsing import launched
from serving import serving

from fishcli import Request, SamplingParams, load
from fishcli.server.settings import ServerSettings
from fishcli.webui.mount import mount
from fishcli.webui.page import Form

TEXT = "The boat went down the river and came back in the evening."
WATCH = """
window.at = {};
document.addEventListener("click", () => { at = { click: performance.now() }; }, true);
const fetched = window.fetch;
window.fetch = (...given) => { at.request ??= performance.now(); return fetched(...given); };
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when, ...rest) {
  if (!at.event) Object.assign(at, { event: performance.now(), when, context: this.context });
  return start.call(this, when, ...rest);
};
"""
TIMES = """() => {
  const { contextTime, performanceTime } = at.context.getOutputTimestamp();
  const heard = performanceTime + 1000 * (at.when - contextTime);
  const buffer = 1000 * (Player.LEAD + at.context.currentTime - contextTime);
  return { request: at.request - at.click, event: at.event - at.click, heard: heard - at.click, buffer };
}"""


def first_chunk(engine, seed):
    """The milliseconds to the first AudioChunk with sound."""
    began = time.perf_counter()
    with engine.speak(Request(TEXT, sampling=SamplingParams(seed=seed))) as stream:
        next(chunk for chunk in stream if len(chunk.samples))
        took = time.perf_counter() - began
    return 1000 * took


def on_the_page(page, seed):
    """The milliseconds from the click to each event, and those of the player's buffer."""
    page.get_by_label("Seed").fill(str(seed))
    page.get_by_role("button", name="Speak", exact=True).click()
    page.wait_for_function("at.context?.currentTime > at.when + 0.1")
    times = page.evaluate(TIMES)
    page.get_by_role("button", name="Stop", exact=True).click()
    page.wait_for_function("document.querySelector('.fish-status').textContent === 'Stopped.'")
    return times


def main():
    utterances = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(contextlib.closing(load("built-in", threads=1)))
        show = partial(mount, form=Form(engine.sampling, sample_rate=engine.sample_rate), at_root=True)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(serving(engine, folder, ServerSettings(open_paths=("/webui",)), mount=show))
        page = stack.enter_context(launched()).new_page()
        page.add_init_script(WATCH)
        page.goto(server.url)
        page.get_by_text("Sampling and language").click()
        page.get_by_role("textbox", name="Text", exact=True).fill(TEXT)
        alone, shown = [], []
        for seed in range(utterances + 2):
            alone.append(first_chunk(engine, seed))
            server.idle()
            shown.append(on_the_page(page, seed))
            server.idle()
    alone, shown = alone[2:], shown[2:]  # the first ones warm up
    engine_ms = statistics.median(alone)
    median = {name: statistics.median(each[name] for each in shown) for name in shown[0]}
    aim = 1.5 * engine_ms + median["buffer"]
    print(f"engine: first AudioChunk {engine_ms:.0f}")
    print("page: " + ", ".join(f"{name} {value:.0f}" for name, value in median.items()) + f"; aim {aim:.0f}")
    return 0 if median["heard"] <= aim else 1


if __name__ == "__main__":
    sys.exit(main())
