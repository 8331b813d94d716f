// Samples and codes as files.

/** Return bytes as base64. */
export async function base64(bytes) {
  const url = await new Promise((resolve) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.readAsDataURL(new Blob([bytes]));
  });
  return url.slice(url.indexOf(",") + 1);
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** Return 16-bit samples, as bytes, as a WAV file. */
export function wav(pcm, rate) {
  const view = new DataView(new ArrayBuffer(44));
  const write = (at, text) => [...text].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + pcm.length, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channel
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, pcm.length, true);
  return new Blob([view, pcm], { type: "audio/wav" });
}

/** Return samples between -1 and 1 as bytes of 16 bits. */
export function pcmOf(samples) {
  const bytes = new DataView(new ArrayBuffer(2 * samples.length));
  samples.forEach((sample, index) => {
    bytes.setInt16(2 * index, Math.max(-32768, Math.min(32767, Math.round(32768 * sample))), true);
  });
  return new Uint8Array(bytes.buffer);
}

/** Return codes, a list of frames for each codebook, as a file of numpy. */
export function npy(codes) {
  const shape = `(${codes.length}, ${codes[0].length})`;
  const head = `{'descr': '<i4', 'fortran_order': False, 'shape': ${shape}, }`;
  const padded = `${head.padEnd(128 - 10 - 1)}\n`; // with the ten bytes in front, a multiple of 64
  const front = Uint8Array.from([0x93, ..."NUMPY"].map((each) => (each.charCodeAt ? each.charCodeAt(0) : each)));
  const size = Uint8Array.from([1, 0, padded.length & 255, padded.length >> 8]);
  return new Blob([front, size, padded, Int32Array.from(codes.flat())], { type: "application/octet-stream" });
}
