// The panel on top of the page: it sends a text to POST /v1/tts and plays the sound as it arrives.
"use strict";

const RATE = 44100; // Hz
const WAV_HEADER = 44; // bytes

const at = (id) => document.getElementById(id);
const seconds = (count) => `${count.toFixed(2)} s`;
let speaking = null; // the utterance in progress

/** Plays a WAV of 16 bits as it arrives. */
class WavPlayer extends Player {
  constructor() {
    super(RATE);
    this.rest = new Uint8Array(0); // half of a sample or of the header
    this.header = WAV_HEADER; // bytes of it to come
  }

  /** Return the samples of a piece of the file that may be cut anywhere; null if there are none yet. */
  pieceOf(bytes) {
    const all = new Uint8Array(this.rest.length + bytes.length);
    all.set(this.rest);
    all.set(bytes, this.rest.length);
    if ((all.length - this.header) >> 1 <= 0) {
      this.rest = all;
      return null;
    }
    const samples = samplesOf(all.subarray(this.header));
    this.rest = all.slice(this.header + 2 * samples.length);
    this.header = 0;
    return this.piece(samples);
  }
}

/** Return the answer to a request. Throws an Error with a sentence for the reader of the page. */
async function ask(path, options = {}) {
  const key = at("key").value;
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error("The server cannot be reached.");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) at("key-field").hidden = false;
  const body = await answer.json().catch(() => ({}));
  throw new Error(body.message ?? `The server answered with ${answer.status} ${answer.statusText}.`);
}

/** Speak what the form holds, until it is heard or `signal` ends it. */
async function speak(player, signal) {
  const began = performance.now();
  const format = at("format").value;
  const fields = { text: at("text").value, reference_id: at("voice").value || null, format, streaming: true };
  const answer = await ask("v1/tts", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...fields, sample_rate: format === "opus" ? null : RATE }),
    signal,
  });
  const seed = answer.headers.get("X-Seed");
  let first = null;
  const play = (buffer) => {
    const wait = player.add(buffer);
    if (first !== null) return;
    first = (performance.now() - began) / 1000 + wait;
    at("status").textContent = `Playing… ${heard()}.`;
  };
  const heard = () => `${first === null ? "no audio" : `first audio after ${seconds(first)}`}, seed ${seed}`;
  const pieces = [];
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Error("The answer broke off before its end.");
    });
    if (done) break;
    pieces.push(value);
    const piece = format === "wav" ? player.pieceOf(value) : null;
    if (piece) play(piece);
  }
  const sound = await complete(new Blob(pieces, { type: answer.headers.get("Content-Type") }), format);
  offer(sound, `speech-${seed}.${format === "opus" ? "ogg" : format}`);
  const decoded = format === "wav" ? null : await player.context.decodeAudioData(await sound.arrayBuffer());
  signal.throwIfAborted();
  if (decoded) play(decoded);
  await Promise.race([player.last, new Promise((resolve) => signal.addEventListener("abort", resolve))]);
  signal.throwIfAborted();
  at("status").textContent = `${seconds(player.length / RATE)} of speech, ${heard()}.`;
}

/** Return a sound as a file. The header of a streamed WAV gets its sizes. */
async function complete(sound, format) {
  if (format !== "wav") return sound;
  const view = new DataView(await sound.slice(0, WAV_HEADER).arrayBuffer());
  view.setUint32(4, sound.size - 8, true);
  view.setUint32(40, sound.size - WAV_HEADER, true);
  return new Blob([view, sound.slice(WAV_HEADER)], { type: sound.type });
}

function offer(sound, name) {
  URL.revokeObjectURL(at("save").href);
  Object.assign(at("save"), { href: URL.createObjectURL(sound), download: name, hidden: false });
}

async function start(event) {
  event.preventDefault();
  speaking?.abort();
  const mine = (speaking = new AbortController());
  const player = new WavPlayer(); // browsers let a click start sound, so it is made here
  at("stop").disabled = false;
  at("save").hidden = true;
  at("error").textContent = "";
  at("status").textContent = "Waiting for the first audio…";
  try {
    await speak(player, mine.signal);
  } catch (error) {
    if (speaking !== mine) return; // the next one shows how it goes
    at("status").textContent = error.name === "AbortError" ? "Stopped." : "";
    at("error").textContent = error.name === "AbortError" ? "" : error.message;
  } finally {
    player.context.close();
    if (speaking === mine) {
      speaking = null;
      at("stop").disabled = true;
    }
  }
}

/** List the voices, and show the field for a key where one is needed. */
async function listVoices() {
  at("error").textContent = "";
  try {
    const { items } = await (await ask("model?page_size=1000")).json();
    const options = items.map((voice) => new Option(voice.title, voice._id));
    at("voice").replaceChildren(new Option("Default", ""), ...options);
  } catch (error) {
    if (at("key").value || at("key-field").hidden) at("error").textContent = error.message;
  }
}

at("speak").addEventListener("submit", start);
at("stop").addEventListener("click", () => speaking?.abort());
at("key").addEventListener("change", listVoices);
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("speak").requestSubmit();
});
listVoices();
