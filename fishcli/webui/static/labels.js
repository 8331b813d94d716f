// The words of the page, in the language of the browser or the one that was chosen.

const KEPT = "fish.language"; // in localStorage; head.js reads it before Gradio starts
const labels = window.gradio_config.i18n_translations;

/** Language codes of the page, by their names in their own languages. */
export const LANGUAGES = { English: "en", 中文: "zh", 日本語: "ja", Español: "es", Português: "pt", 한국어: "ko" };
export const language = [navigator.language.split("-")[0]].find((code) => code in labels) ?? "en";

/** Return a label; `{name}` in it is replaced by a value. */
export function label(key, values = {}) {
  return labels[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Show the page in another language. */
export function choose(code) {
  localStorage.setItem(KEPT, code);
  location.reload();
}

/** Return a new element: its tag, its properties (`data-` and `aria-` ones are attributes), and what is in it. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** Return a form control with its label. */
export function labelled(text, control) {
  return element("label", {}, element("span", {}, text), control);
}
