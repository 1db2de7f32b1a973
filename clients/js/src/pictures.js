// Pictures as they come: bytes with or without transparency.

import { MobileCLIPError } from "./errors.js";

/** RGB or RGBA bytes -> RGB; what is transparent stands on white, as in the Python package. */
export function rgb({ data, width, height }) {
  const pixels = width * height;
  if (!(pixels > 0) || (data.length !== 3 * pixels && data.length !== 4 * pixels)) {
    throw new MobileCLIPError("picture", `${data.length} bytes are no picture of ${width} x ${height} with 3 or 4 channels`);
  }
  if (data.length === 3 * pixels) return data;
  const found = new Uint8ClampedArray(3 * pixels);
  for (let from = 0, to = 0; to < found.length; from += 4, to += 3) {
    const alpha = data[from + 3];
    for (let channel = 0; channel < 3; channel += 1) found[to + channel] = blended(data[from + channel], alpha);
  }
  return found;
}

// Pillow's alpha_composite over opaque white, in its integers (AlphaComposite.c): seven more bits, and a division by 255
// that is rounded.
function blended(value, alpha) {
  const sum = (value * alpha + 255 * (255 - alpha)) * 128 + (128 << 7);
  return (((sum >> 8) + sum) >> 8) >> 7;
}
