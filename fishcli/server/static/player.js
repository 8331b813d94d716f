// Plays pieces of sound through Web Audio as they arrive: for the pages that this server shows.
"use strict";

/** Plays pieces of sound one after another, without a gap where they come in time. */
class Player {
  static LEAD = 0.05; // seconds from the arrival of a first piece to its start: the next one shall be there in time
  static LATE = 0.02; // seconds before its start at which a piece is too late: the clock moves on in steps

  constructor(rate) {
    this.rate = rate; // Hz
    this.context = new AudioContext({ sampleRate: rate });
    this.end = 0; // where the sound so far ends, in samples of the context's clock
    this.length = 0; // samples in all
    this.last = Promise.resolve(); // the end of the last piece
  }

  /** Add a piece. Returns the seconds until it is heard. */
  add(buffer) {
    const now = this.context.currentTime * this.rate;
    const start = this.end > now + Player.LATE * this.rate ? this.end : Math.ceil(now + Player.LEAD * this.rate);
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(this.context.destination);
    source.start(start / this.rate);
    this.last = new Promise((resolve) => source.addEventListener("ended", resolve));
    this.end = start + buffer.length;
    this.length += buffer.length;
    return (start - now) / this.rate + (this.context.outputLatency || 0);
  }

  /** Return samples as a piece. */
  piece(samples) {
    const buffer = this.context.createBuffer(1, samples.length, this.rate);
    buffer.copyToChannel(samples, 0);
    return buffer;
  }

  /** The samples heard so far. */
  get heard() {
    const left = this.end - this.context.currentTime * this.rate;
    return Math.max(0, Math.min(this.length, this.length - left));
  }
}

/** Return the samples in the whole samples of 16 bits at the start of some bytes. */
function samplesOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.byteLength >> 1 }, (_, index) => view.getInt16(2 * index, true) / 32768);
}
