// The page: it sends what the form holds to POST /v1/tts, plays the sound as it arrives, and keeps the results.

import { ask, events, useKey } from "./api.js";
import { fromBase64 } from "./files.js";
import { LANGUAGES, choose, element, label, labelled, language } from "./labels.js";
import { drawWaveform, peaksOf } from "./pictures.js";
import { item, removed } from "./result.js";
import { forget, keep, kept } from "./store.js";
import "./voice.js";

const SHOWN = 50; // results in the history
const REDRAWN = 80; // ms after which the waveform is drawn again
let speaking = null; // the utterance in progress

/** The bar on top: the language of the page, and the API key where one is needed. */
class Bar extends HTMLElement {
  connectedCallback() {
    if (this.firstChild) return;
    const languages = Object.entries(LANGUAGES).map(([name, code]) => new Option(name, code));
    const choice = element("select", {}, ...languages);
    choice.value = language;
    choice.addEventListener("change", () => choose(choice.value));
    const key = element("input", { type: "password", autocomplete: "off" });
    key.addEventListener("change", () => useKey(key.value));
    const asked = labelled(label("key"), key);
    asked.hidden = true;
    document.addEventListener("fish-key-needed", () => (asked.hidden = false));
    const links = element("a", { href: new URL("../../", import.meta.url).href }, "HTTP API");
    this.append(element("h1", {}, "fishcli"), asked, labelled(label("page_language"), choice), links);
  }
}

/** What is heard now: how it goes, its waveform, and the results before it. */
class Output extends HTMLElement {
  connectedCallback() {
    if (this.firstChild) return;
    this.status = element("p", { role: "status", className: "fish-status" }, label("empty"));
    this.figures = element("p", { className: "fish-figures" });
    this.error = element("p", { role: "alert", className: "fish-error" });
    this.canvas = element("canvas", { className: "fish-waveform", role: "img", "aria-label": label("waveform") });
    this.results = element("ol", { className: "fish-history", "aria-label": label("history") });
    const clear = element("button", { type: "button" }, label("clear"));
    clear.addEventListener("click", () => this.clear());
    this.heading = element("div", { className: "fish-row fish-heading", hidden: true }, element("h2", {}, label("history")), clear);
    this.append(this.status, this.canvas, this.figures, this.error, this.heading, this.results);
    kept().then((results) => results.forEach((result) => this.show(result)), lost);
  }

  /** Show how an utterance goes, until it is over. */
  follow(utterance) {
    const draw = () => {
      drawWaveform(this.canvas, utterance.peaks, utterance.player.heard / utterance.player.length);
      this.figures.textContent = utterance.figures;
    };
    const redraw = () => {
      if (utterance.first !== null) draw(); // while it waits there is nothing new, and the model needs the processor
      if (speaking === utterance) setTimeout(redraw, REDRAWN);
    };
    draw();
    setTimeout(redraw, REDRAWN);
  }

  /** Show a result, and keep it for the next time. */
  add(result) {
    this.show(result);
    keep(result).catch(lost);
  }

  show(result) {
    this.results.prepend(item(result, (request) => start(request)));
    while (this.results.children.length > SHOWN) removed(this.results.lastChild);
    this.heading.hidden = false;
  }

  clear() {
    [...this.results.children].forEach(removed);
    this.heading.hidden = true;
    this.status.textContent = label("empty");
    forget().catch(lost);
  }
}

/** Some browsers keep nothing, as in private windows: the history then lasts as long as the page. */
function lost(error) {
  console.info("The history is not kept:", error);
}

/** One text on its way from the server to the loudspeaker. */
class Utterance {
  /** `rate` is that of its sound, in Hz. */
  constructor(request, rate) {
    this.request = request;
    this.began = performance.now();
    this.abort = new AbortController();
    const body = { ...request, format: "pcm", sample_rate: rate, stream_format: "sse" };
    this.answer = ask("v1/tts", body, this.abort.signal); // sent before the sound device starts, which takes time
    this.player = new Player(rate); // browsers let a click start sound, so it is made here
    this.pcm = []; // pieces of sound, 16 bits a sample
    this.peaks = []; // of the same
    this.codes = []; // a list of frames for each codebook
    this.frames = 0;
    this.first = this.made = null; // ms from the start to the first sound, and to the newest one
    this.faults = new Set();
    this.seed = null;
  }

  /** Receive and play, until all is heard. */
  async run() {
    const { signal } = this.abort;
    const answer = await this.answer;
    this.seed = Number(answer.headers.get("X-Seed"));
    for await (const event of events(answer)) {
      if (event.type === "speech.audio.done") this.complete = true;
      else this.take(event);
    }
    if (!this.complete) throw new Error(label("broken"));
    await Promise.race([this.player.last, new Promise((resolve) => signal.addEventListener("abort", resolve))]);
    signal.throwIfAborted();
  }

  take(event) {
    const bytes = fromBase64(event.audio);
    if (event.codes) {
      event.codes.forEach((line, book) => (this.codes[book] = [...(this.codes[book] ?? []), ...line]));
      this.frames += event.codes[0]?.length ?? 0;
    }
    if (event.fault) this.faults.add(event.fault);
    this.made = performance.now() - this.began;
    if (bytes.length < 2) return;
    const samples = samplesOf(bytes);
    const wait = this.player.add(this.player.piece(samples));
    this.first ??= this.made + 1000 * wait;
    this.peaks.push(...peaksOf(samples));
    this.pcm.push(bytes);
  }

  get seconds() {
    return this.player.length / this.player.rate;
  }

  /** The figures, in words; empty before there is sound. */
  get figures() {
    if (this.first === null) return "";
    return label("figures", {
      seconds: this.seconds.toFixed(1),
      tokens: ((1000 * this.frames) / this.made).toFixed(1),
      factor: (this.made / 1000 / this.seconds).toFixed(2),
      first: (this.first / 1000).toFixed(2),
      seed: this.seed,
    });
  }

  /** The result so far; null before there is sound. */
  async result() {
    if (this.first === null) return null;
    const pcm = new Uint8Array(await new Blob(this.pcm).arrayBuffer());
    const { request, seed, codes, player } = this;
    return { request, seed, codes, rate: player.rate, pcm };
  }
}

/** Speak a request, and show how it goes. */
async function start(request) {
  const output = document.querySelector("fish-output");
  speaking?.abort.abort();
  const mine = (speaking = new Utterance(request, Number(output.getAttribute("rate"))));
  output.error.textContent = "";
  output.status.textContent = label("waiting");
  output.follow(mine);
  const playing = setInterval(() => mine.first === null || (output.status.textContent = label("speaking")), 100);
  let ended = label("done");
  try {
    await mine.run();
  } catch (error) {
    const stopped = error.name === "AbortError";
    ended = stopped ? label("stopped") : "";
    if (!stopped && speaking === mine) output.error.textContent = error.message;
  } finally {
    clearInterval(playing);
    mine.player.context.close();
  }
  const result = await mine.result();
  if (result) output.add(result);
  if (speaking !== mine) return; // the next one shows how it goes
  speaking = null;
  output.status.textContent = ended;
  if (mine.faults.size) output.error.textContent = label("fault", { reason: [...mine.faults].join(", ") });
}

/** Speak what the form holds. */
async function speak({ speed, volume, language, ...fields }) {
  const output = document.querySelector("fish-output");
  try {
    if (!fields.text.trim()) throw new Error(label("no_text"));
    const seed = (fields.seed ?? "").trim();
    if (!/^\d{0,15}$/.test(seed)) throw new Error(label("no_seed"));
    const voice = await document.querySelector("fish-voice-choice").fields();
    const chosen = { seed: seed ? Number(seed) : null, language: language || null, prosody: { speed, volume } };
    await start({ ...fields, ...voice, ...chosen });
  } catch (error) {
    output.error.textContent = error.message;
  }
}

window.fish = { speak, stop: () => speaking?.abort.abort() };
customElements.define("fish-bar", Bar);
customElements.define("fish-output", Output);
document.addEventListener("keydown", (event) => {
  const inText = event.target.closest?.("#fish-text");
  if (inText && event.key === "Enter" && (event.ctrlKey || event.metaKey)) document.getElementById("fish-speak").click();
});
