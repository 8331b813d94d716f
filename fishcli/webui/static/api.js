// Requests to the server behind the page.

import { label } from "./labels.js";

const ROOT = new URL("../../", import.meta.url); // of the server
const key = { value: sessionStorage.getItem("fish.key") ?? "" };

/** Use another API key. */
export function useKey(value) {
  key.value = value;
  sessionStorage.setItem("fish.key", value);
  document.dispatchEvent(new Event("fish-key"));
}

/** Return the answer to a request with a JSON body. Throws an Error with a sentence for the reader of the page. */
export async function ask(path, body, signal) {
  const options = { signal, headers: key.value ? { Authorization: `Bearer ${key.value}` } : {} };
  if (body) {
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
    options.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(new URL(path, ROOT), options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error(label("unreachable"));
  }
  if (answer.ok) return answer;
  if (answer.status === 401) document.dispatchEvent(new Event("fish-key-needed"));
  const told = await answer.json().catch(() => ({}));
  throw new Error(told.message ?? `${answer.status} ${answer.statusText}`);
}

/** Yield the server-sent events of an answer, parsed. */
export async function* events(answer) {
  let text = "";
  const decoder = new TextDecoder();
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Error(label("broken"));
    });
    if (done) return;
    const parts = (text + decoder.decode(value, { stream: true })).split("\n\n");
    text = parts.pop();
    for (const part of parts) yield JSON.parse(part.slice("data: ".length));
  }
}
