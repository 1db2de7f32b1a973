// Pictures as they come: bytes with or without transparency.

import { MobileCLIPError } from "./errors.js";

function checked(picture) {
  const { data, width, height } = picture ?? {};
  // Numbers from 0 to 1 would be black.
  if (!(data instanceof Uint8Array || data instanceof Uint8ClampedArray)) {
    throw new MobileCLIPError("picture", "a picture is {data, width, height}, with bytes in a Uint8Array or Uint8ClampedArray");
  }
  if (![width, height].every((side) => Number.isInteger(side) && side > 0)) throw new MobileCLIPError("picture", `a picture of ${width} x ${height}`);
  return picture;
}

/** RGB or RGBA bytes -> RGB; transparent pixels are drawn on white, as in the Python package. */
export function rgb(picture) {
  const { data, width, height } = checked(picture);
  const pixels = width * height;
  if (data.length !== 3 * pixels && data.length !== 4 * pixels) {
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

/** A picture as a person sees it: RGB or RGBA bytes turned by EXIF's orientation, 1 to 8; any other turns nothing. A
 * browser's decoder has done that already. */
export function upright(picture, orientation) {
  if (!(Number.isInteger(orientation) && orientation >= 2 && orientation <= 8)) return picture;
  const { data, width, height } = checked(picture);
  const channels = data.length / (width * height);
  const turned = orientation >= 5;
  const [across, down] = turned ? [height, width] : [width, height];
  const found = new Uint8ClampedArray(data.length);
  for (let y = 0, to = 0; y < down; y += 1) {
    for (let x = 0; x < across; x += 1) {
      let [column, row] = turned ? [y, x] : [x, y];
      if ([2, 3, 7, 8].includes(orientation)) column = width - 1 - column;
      if ([3, 4, 6, 7].includes(orientation)) row = height - 1 - row;
      const from = (row * width + column) * channels;
      for (let channel = 0; channel < channels; channel += 1) found[to++] = data[from + channel];
    }
  }
  return { data: found, width: across, height: down };
}

// Pillow's alpha_composite over opaque white, in its integers (AlphaComposite.c): seven more bits, and a division by 255
// that is rounded.
function blended(value, alpha) {
  const sum = (value * alpha + 255 * (255 - alpha)) * 128 + (128 << 7);
  return (((sum >> 8) + sum) >> 8) >> 7;
}
