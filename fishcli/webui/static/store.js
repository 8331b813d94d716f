// The history, kept in this browser alone, so that it is there after a reload.

const MOST = 50; // results
const BYTES = 64e6; // of their sounds and requests; the oldest go first
const sizes = new Map(); // of what is kept, by key, the oldest first
let opening = null;

function settled(request) {
  return new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error));
  });
}

async function results(mode) {
  opening ??= (() => {
    const request = indexedDB.open("fish", 1);
    request.addEventListener("upgradeneeded", () => request.result.createObjectStore("results", { autoIncrement: true }));
    return settled(request);
  })();
  return (await opening).transaction("results", mode).objectStore("results");
}

function sizeOf({ pcm, request }) {
  return pcm.length + JSON.stringify(request).length;
}

/** Keep a result. Throws where the browser keeps nothing, or has no room. */
export async function keep(result) {
  const store = await results("readwrite");
  sizes.set(await settled(store.add(result)), sizeOf(result));
  for (const key of tooMany()) {
    sizes.delete(key);
    await settled(store.delete(key));
  }
}

function tooMany() {
  let [count, bytes] = [0, 0];
  const newestFirst = [...sizes].reverse();
  return newestFirst.filter(([, size]) => ++count > MOST || (bytes += size) > BYTES).map(([key]) => key);
}

/** Return the results that are kept, the oldest first. Throws as `keep` does. */
export async function kept() {
  const store = await results("readonly");
  const [keys, found] = await Promise.all([settled(store.getAllKeys()), settled(store.getAll())]);
  keys.forEach((key, index) => sizes.set(key, sizeOf(found[index])));
  return found;
}

/** Forget all results. */
export async function forget() {
  sizes.clear();
  await settled((await results("readwrite")).clear());
}
