// The choice of a voice: one of the library, or a recording from a file or the microphone, which can be kept.

import { ask } from "./api.js";
import { base64, pcmOf, wav } from "./files.js";
import { element, label, labelled } from "./labels.js";

const RATE = 44100; // Hz, of a recording
const OWN = "\n"; // no voice has this id

/** Keep recordings and what is said in them as a voice of the library. Returns its id. */
export async function keep(title, sound, text) {
  const body = { title, voices: [await base64(await sound.arrayBuffer())], texts: text.trim() ? [text] : [] };
  const voice = await (await ask("model", body)).json();
  document.dispatchEvent(new CustomEvent("fish-voices", { detail: voice._id }));
  return voice._id;
}

class VoiceChoice extends HTMLElement {
  connectedCallback() {
    if (this.choice) return;
    this.choice = element("select", { id: "fish-voice" });
    this.choice.addEventListener("change", () => this.show());
    this.own = element("fieldset", { className: "fish-own", hidden: true }, element("legend", {}, label("voice_own")));
    this.fillOwn();
    this.error = element("p", { role: "alert", className: "fish-error" });
    this.append(labelled(label("voice"), this.choice), this.own, this.error);
    document.addEventListener("fish-voices", ({ detail }) => this.list(detail));
    const wanted = this.getAttribute("voice");
    document.addEventListener("fish-key", () => this.list(this.choice.length ? this.choice.value : wanted));
    this.list(wanted);
  }

  fillOwn() {
    this.file = element("input", { type: "file", accept: "audio/*,video/mp4,video/webm" });
    this.file.addEventListener("change", () => this.use(this.file.files[0]));
    this.button = element("button", { type: "button" }, label("record"));
    this.button.addEventListener("click", () => this.told(this.record()));
    this.preview = element("audio", { controls: true, hidden: true, "aria-label": label("voice_own") });
    this.said = element("textarea", { rows: 2 });
    this.title_ = element("input", { type: "text", maxLength: 200, autocomplete: "off" });
    const save = element("button", { type: "button" }, label("save_voice"));
    save.addEventListener("click", () => this.told(this.save()));
    this.status = element("p", { role: "status" });
    const row = (...parts) => element("div", { className: "fish-row" }, ...parts);
    this.own.append(
      row(labelled(label("file"), this.file), this.button),
      this.preview,
      labelled(label("recording_text"), this.said),
      row(labelled(label("name"), this.title_), save),
      this.status,
    );
  }

  /** Show the error of some work, once it has ended. */
  async told(work) {
    this.error.textContent = this.status.textContent = "";
    await work.catch((error) => (this.error.textContent = error.message));
  }

  /** List the voices of the library, and choose one. */
  async list(chosen) {
    await this.told(this.fetched(chosen));
  }

  async fetched(chosen) {
    const { items } = await (await ask("model?page_size=1000")).json();
    const voices = items.map((voice) => new Option(voice.title, voice._id));
    this.choice.replaceChildren(new Option(label("voice_default"), ""), ...voices, new Option(label("voice_new"), OWN));
    const known = [...this.choice.options];
    const option = known.find(({ value }) => value === chosen) ?? known.find(({ text }) => text === chosen);
    this.choice.value = option?.value ?? "";
    this.show();
    if (!option) throw new Error(label("no_voice", { name: chosen }));
  }

  show() {
    this.own.hidden = this.choice.value !== OWN;
  }

  /** Use a recording. */
  use(sound) {
    this.sound = sound;
    URL.revokeObjectURL(this.preview.src);
    this.preview.hidden = !sound;
    if (sound) this.preview.src = URL.createObjectURL(sound);
  }

  /** Start to record, or end it. */
  async record() {
    if (this.recorder) {
      this.recorder.stop();
      return;
    }
    const stream = await navigator.mediaDevices?.getUserMedia({ audio: true }).catch(() => null);
    if (!stream) throw new Error(label("no_microphone"));
    const parts = [];
    this.recorder = new MediaRecorder(stream);
    this.recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
    this.recorder.addEventListener("stop", () => {
      stream.getTracks().forEach((track) => track.stop());
      this.recorder = null;
      this.button.textContent = label("record");
      this.told(this.recorded(new Blob(parts)));
    });
    this.recorder.start();
    this.button.textContent = label("stop_recording");
  }

  /** Use what was recorded, in whatever format the browser has, as a WAV file. */
  async recorded(sound) {
    const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await sound.arrayBuffer());
    this.file.value = "";
    this.use(wav(pcmOf(decoded.getChannelData(0)), RATE));
  }

  async save() {
    const title = this.title_.value.trim();
    if (!title) throw new Error(label("no_name"));
    await keep(title, this.recording(), this.said.value);
    this.title_.value = "";
    this.use(null);
    this.file.value = "";
  }

  recording() {
    if (!this.sound) throw new Error(label("no_recording"));
    return this.sound;
  }

  /** Return the fields of a request for this voice. Throws an Error where a recording is missing. */
  async fields() {
    if (this.choice.value !== OWN) return { reference_id: this.choice.value || null };
    const audio = await base64(await this.recording().arrayBuffer());
    return { references: [{ audio, text: this.said.value }] };
  }
}

customElements.define("fish-voice-choice", VoiceChoice);
