// Pictures of a sound: its waveform and its mel spectrogram, in the colours of the page.

const WINDOW = 2048; // samples, as the codec has it
const BANDS = 160;
const STEP = 256; // samples of a peak
const FLOOR = 1e-5;
const DECADES = 3.5; // between the loudest and black

/** Fit a canvas to its place and return its context and size, in CSS pixels. */
function prepared(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = window.devicePixelRatio;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  return { context, width, height };
}

/** Return the loudest sample, without its sign, of each `STEP` samples. */
export function peaksOf(samples) {
  const peaks = new Float32Array(Math.ceil(samples.length / STEP));
  samples.forEach((sample, index) => {
    const at = Math.floor(index / STEP);
    peaks[at] = Math.max(peaks[at], Math.abs(sample));
  });
  return Array.from(peaks);
}

/** Draw the peaks of a sound; the heard part of it, from 0 to 1, in the stronger colour. */
export function drawWaveform(canvas, peaks, heard) {
  const { context, width, height } = prepared(canvas);
  const columns = Math.max(1, Math.floor(width / 2));
  const style = getComputedStyle(canvas);
  const [accent, soft] = [style.getPropertyValue("--fish-accent"), style.getPropertyValue("--fish-soft")];
  for (let column = 0; column < columns; column++) {
    const from = Math.floor((column * peaks.length) / columns);
    const to = Math.max(from + 1, Math.floor(((column + 1) * peaks.length) / columns));
    const tall = Math.max(1, Math.min(1, Math.max(0, ...peaks.slice(from, to))) * height);
    context.fillStyle = (column + 0.5) / columns < heard ? accent : soft;
    context.fillRect(2 * column, (height - tall) / 2, 1.5, tall);
  }
}

/** Draw the mel spectrogram of samples: low tones at the bottom, loud ones light. */
export function drawSpectrogram(canvas, samples, rate) {
  const columns = Math.min(600, Math.max(1, Math.floor(samples.length / 512)));
  const [bands, picture] = [melBands(rate), new ImageData(columns, BANDS)];
  const hann = Float32Array.from({ length: WINDOW }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / WINDOW));
  const levels = Array.from({ length: columns }, (_, column) => {
    const start = Math.floor((column * samples.length) / columns) - WINDOW / 2;
    const power = magnitudes(hann.map((weight, index) => weight * (samples[start + index] ?? 0)));
    const sum = (band) => band.weights.reduce((all, weight, bin) => all + weight * (power[band.first + bin] ?? 0), 0);
    return bands.map((band) => Math.log10(Math.max(FLOOR, sum(band))));
  });
  const loudest = Math.max(...levels.map((column) => Math.max(...column)));
  levels.forEach((column, x) =>
    column.forEach((level, band) => {
      const shade = Math.max(0, 1 + (level - loudest) / DECADES);
      picture.data.set(colour(shade), 4 * ((BANDS - 1 - band) * columns + x));
    }),
  );
  Object.assign(canvas, { width: columns, height: BANDS });
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

/** Return the colour of a level from 0 to 1: from night blue over violet to yellow. */
function colour(level) {
  return [255 * level ** 0.8, 230 * level ** 2, 40 + 130 * Math.sin(Math.PI * level), 255];
}

/** Return the triangles of the mel scale: the first bin of each, and the weights from there. */
function melBands(rate) {
  const [toMel, toHz] = [(hz) => 2595 * Math.log10(1 + hz / 700), (mel) => 700 * (10 ** (mel / 2595) - 1)];
  const edges = Array.from({ length: BANDS + 2 }, (_, n) => toHz((toMel(rate / 2) * n) / (BANDS + 1)));
  const bins = edges.map((hz) => (hz * WINDOW) / rate);
  return Array.from({ length: BANDS }, (_, band) => {
    const [low, top, high] = bins.slice(band, band + 3);
    const first = Math.floor(low);
    const weights = Array.from({ length: Math.ceil(high) - first + 1 }, (_, bin) => {
      const at = first + bin;
      return Math.max(0, Math.min((at - low) / (top - low), (high - at) / (high - top))) / (high - low);
    });
    return { first, weights };
  });
}

/** Return the magnitudes of the spectrum of real samples, whose number is a power of two. */
function magnitudes(real) {
  const count = real.length;
  const imaginary = new Float32Array(count);
  for (let index = 1, mirrored = 0; index < count; index++) {
    let bit = count >> 1;
    for (; mirrored & bit; bit >>= 1) mirrored ^= bit;
    mirrored ^= bit;
    if (index < mirrored) [real[index], real[mirrored]] = [real[mirrored], real[index]];
  }
  for (let size = 2; size <= count; size *= 2) {
    for (let pair = 0; pair < size / 2; pair++) {
      const [cosine, sine] = [Math.cos((2 * Math.PI * pair) / size), -Math.sin((2 * Math.PI * pair) / size)];
      for (let low = pair; low < count; low += size) {
        const high = low + size / 2;
        const turnedReal = cosine * real[high] - sine * imaginary[high];
        const turnedImaginary = cosine * imaginary[high] + sine * real[high];
        real[high] = real[low] - turnedReal;
        imaginary[high] = imaginary[low] - turnedImaginary;
        real[low] += turnedReal;
        imaginary[low] += turnedImaginary;
      }
    }
  }
  return real.subarray(0, count / 2 + 1).map((value, index) => Math.hypot(value, imaginary[index]));
}
