// A result in the history: its sound, its figures, and what can be done with it.

import { ask } from "./api.js";
import { base64, npy, wav } from "./files.js";
import { element, label, labelled } from "./labels.js";
import { drawSpectrogram } from "./pictures.js";
import { keep } from "./voice.js";

const FORMATS = { wav: "wav", flac: "flac", mp3: "mp3", opus: "ogg" }; // and the ends of their names

/** Return a result as an item of the history. `again` speaks its request once more. */
export function item(result, again) {
  const { request, seed, rate, pcm } = result;
  const sound = wav(pcm, rate);
  const error = element("p", { role: "alert", className: "fish-error" });
  const told = (work) => {
    error.textContent = "";
    work.catch((reason) => (error.textContent = reason.message));
  };
  const repeat = button("again", () => again({ ...request, seed }));
  const audio = element("audio", { controls: true, src: URL.createObjectURL(sound), "aria-label": request.text });
  return element(
    "li",
    { className: "fish-result" },
    element("p", { className: "fish-text" }, shortened(request.text)),
    element("p", { className: "fish-figures" }, label("brief", { seconds: (pcm.length / 2 / rate).toFixed(1), seed })),
    audio,
    element("div", { className: "fish-row" }, repeat, ...downloads(result, sound, told)),
    keeping(result, sound, told),
    pictures(result),
    error,
  );
}

/** Take an item out of the history. */
export function removed(item) {
  URL.revokeObjectURL(item.querySelector("audio").src);
  item.remove();
}

function button(name, action) {
  const made = element("button", { type: "button" }, label(name));
  made.addEventListener("click", action);
  return made;
}

function shortened(text) {
  return text.length > 160 ? `${text.slice(0, 157)}…` : text;
}

function save(file, name) {
  const link = element("a", { href: URL.createObjectURL(file), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function downloads({ seed, rate, pcm }, sound, told) {
  const converted = async (format) => {
    const body = { audio: await base64(pcm), sample_rate: rate, format };
    return (await ask("webui/convert", body)).blob();
  };
  return Object.entries(FORMATS).map(([format, end]) => {
    const made = element("button", { type: "button", "aria-label": label("download", { format }) }, `↓ ${format}`);
    const download = async () => save(format === "wav" ? sound : await converted(format), `speech-${seed}.${end}`);
    made.addEventListener("click", () => told(download()));
    return made;
  });
}

function keeping({ request }, sound, told) {
  const title = element("input", { type: "text", maxLength: 200, autocomplete: "off" });
  const status = element("p", { role: "status" });
  const kept = async () => {
    if (!title.value.trim()) throw new Error(label("no_name"));
    await keep(title.value.trim(), sound, request.text);
    status.textContent = label("saved_voice", { name: title.value.trim() });
  };
  const row = element("div", { className: "fish-row" }, labelled(label("name"), title));
  row.append(button("save_voice", () => told(kept())));
  return element("details", {}, element("summary", {}, label("save_voice")), row, status);
}

/** The spectrogram and the codes, drawn when they are opened. */
function pictures({ seed, pcm, codes, rate }) {
  const canvas = element("canvas", { className: "fish-spectrogram", role: "img", "aria-label": label("spectrogram") });
  const table = element("pre", { tabIndex: 0, "aria-label": label("codes") });
  const file = button("download_codes", () => save(npy(codes), `codes-${seed}.npy`));
  const details = element("details", {}, element("summary", {}, label("details")), canvas, table, file);
  const open = () => {
    drawSpectrogram(canvas, samplesOf(pcm), rate);
    table.textContent = codes.map((line) => line.map((code) => String(code).padStart(4)).join("")).join("\n");
  };
  details.addEventListener("toggle", open, { once: true });
  return details;
}
