// From a decoded picture to a tower's input, in the very bytes that Pillow's resize gives (ImagingResample, 8 bits a
// channel): two passes, the weights in fixed point of 22 bits.

import { roundHalfEven } from "./vectors.js";

const BITS = 22;

const bilinear = (x) => Math.max(0, 1 - Math.abs(x));
// Keys' cubic with a = -0.5, as Pillow has it.
const bicubic = (x) => {
  const [a, t] = [-0.5, Math.abs(x)];
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
};
const FILTERS = { bilinear: [bilinear, 1], bicubic: [bicubic, 2] };

// For each of `out` places on an axis of `size` pixels: the first pixel that counts, how many do, and their weights, each
// place's from a multiple of `most` on.
function weights(size, out, [filter, reach]) {
  const scale = size / out;
  const stretch = Math.max(scale, 1);
  const support = reach * stretch;
  const narrower = 1 / stretch; // a division in its place gives another last bit
  const most = 2 * Math.ceil(support) + 1;
  const [firsts, counts, factors] = [new Int32Array(out), new Int32Array(out), new Int32Array(out * most)];
  for (let place = 0; place < out; place += 1) {
    const center = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(size, Math.trunc(center + support + 0.5));
    const found = Array.from({ length: last - first }, (_, index) => filter((index + first - center + 0.5) * narrower));
    const sum = found.reduce((total, one) => total + one, 0);
    found.forEach((one, index) => {
      const fixed = (one / sum) * 2 ** BITS;
      factors[place * most + index] = Math.trunc(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
    });
    firsts[place] = first;
    counts[place] = last - first;
  }
  return { out, most, firsts, counts, factors };
}

const HALF = 2 ** (BITS - 1);

// [height, width, 3] -> [height, out, 3], only the rows from `top` to `bottom`. Sums fit 32 bits: `| 0` keeps them so.
function across(pixels, width, { out, most, firsts, counts, factors }, top, bottom) {
  const found = new Uint8ClampedArray((bottom - top) * out * 3);
  for (let y = top, at = 0; y < bottom; y += 1) {
    for (let place = 0; place < out; place += 1) {
      const end = place * most + counts[place];
      let r = HALF; // no destructuring here: this loop is most of the time
      let g = HALF;
      let b = HALF;
      for (let index = place * most, from = (y * width + firsts[place]) * 3; index < end; index += 1, from += 3) {
        const factor = factors[index];
        r = (r + Math.imul(pixels[from], factor)) | 0;
        g = (g + Math.imul(pixels[from + 1], factor)) | 0;
        b = (b + Math.imul(pixels[from + 2], factor)) | 0;
      }
      found[at++] = r >> BITS; // clamped by the array
      found[at++] = g >> BITS;
      found[at++] = b >> BITS;
    }
  }
  return found;
}

// [height, width, 3] -> [out, width, 3]; `top` rows of the whole picture are not among `pixels`.
function down(pixels, width, { out, most, firsts, counts, factors }, top) {
  const row = width * 3;
  const found = new Uint8ClampedArray(out * row);
  const sums = new Int32Array(row);
  for (let place = 0, at = 0; place < out; place += 1) {
    sums.fill(HALF);
    for (let index = 0; index < counts[place]; index += 1) {
      const factor = factors[place * most + index];
      for (let x = 0, from = (firsts[place] - top + index) * row; x < row; x += 1, from += 1) {
        sums[x] += Math.imul(pixels[from], factor);
      }
    }
    for (let x = 0; x < row; x += 1) found[at++] = sums[x] >> BITS;
  }
  return found;
}

/** RGB bytes [height, width, 3] -> RGB bytes [outHeight, outWidth, 3], as Pillow's Image.resize. */
export function resize(pixels, width, height, outWidth, outHeight, interpolation) {
  const filter = FILTERS[interpolation];
  if (!filter) throw new Error(`no interpolation ${interpolation}`);
  // Since Pillow 13.0 the height comes first where it loses more than twice what the width loses (python-pillow/Pillow#9549).
  if (height > outHeight && height - outHeight > 2 * (width - outWidth)) {
    const low = down(pixels, width, weights(height, outHeight, filter), 0);
    return outWidth === width ? low : across(low, width, weights(width, outWidth, filter), 0, outHeight);
  }
  const rows = weights(height, outHeight, filter);
  const [top, bottom] = [rows.firsts[0], rows.firsts[outHeight - 1] + rows.counts[outHeight - 1]];
  const narrow = outWidth === width ? pixels.subarray(top * width * 3, bottom * width * 3)
    : across(pixels, width, weights(width, outWidth, filter), top, bottom);
  return outHeight === height ? narrow : down(narrow, outWidth, rows, top);
}

/** RGB bytes [height, width, 3] -> float32 [3, S, S] in [0, 1]: resized and cropped as the bundle's manifest says. */
export function prepare(pixels, width, height, { size, resize: how, crop, crop_fraction: kept, interpolation }) {
  const side = kept ? Math.floor(size / kept) : size;
  let [outWidth, outHeight] = [side, side];
  if (how === "shorter_side") {
    const longer = Math.trunc((side * Math.max(width, height)) / Math.min(width, height));
    [outWidth, outHeight] = width <= height ? [side, longer] : [longer, side];
  } else if (how !== "squash") {
    throw new Error(`no way of resizing ${how}`);
  }
  const small = resize(pixels, width, height, outWidth, outHeight, interpolation);
  if (crop !== "center" && outWidth !== outHeight) throw new Error("this network takes square pictures");
  const [left, top] = [roundHalfEven((outWidth - size) / 2), roundHalfEven((outHeight - size) / 2)];
  const found = new Float32Array(3 * size * size);
  for (let channel = 0, at = 0; channel < 3; channel += 1) {
    for (let y = 0; y < size; y += 1) {
      for (let x = 0; x < size; x += 1) found[at++] = Math.fround(small[((y + top) * outWidth + x + left) * 3 + channel] / 255);
    }
  }
  return found;
}
