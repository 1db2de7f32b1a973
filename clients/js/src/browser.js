// What browsers have and Node does not: pictures from files.

import { MobileCLIPError } from "./errors.js";
import { upright } from "./pictures.js";
import { browserTurns, orientation } from "./webp.js";

const MAX_BYTES = 100e6;
// Browsers make no canvas of more; Chromium's limit for one side is 65535, Safari's area is the smallest.
const MAX_PIXELS = 100e6;

/** The pixels of a picture file (a Blob), for `embedImage`; in a worker too. EXIF's orientation is applied, colours stay
 * as they are stored, transparent pixels are drawn on white. */
export async function pixels(blob) {
  if (!(blob instanceof Blob)) throw new MobileCLIPError("picture", "a picture file is a File or a Blob");
  if (blob.size > MAX_BYTES) throw new MobileCLIPError("picture", `larger than ${MAX_BYTES / 1e6} MB`);
  let picture;
  try {
    picture = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    throw new MobileCLIPError("picture", "not a picture that this browser can read");
  }
  const { width, height } = picture;
  if (width * height > MAX_PIXELS) throw new MobileCLIPError("picture", `more than ${MAX_PIXELS / 1e6} megapixels`);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(picture, 0, 0);
  picture.close();
  const found = context.getImageData(0, 0, width, height);
  const turned = blob.type === "image/webp" || !blob.type ? orientation(new Uint8Array(await blob.arrayBuffer())) : 1;
  return turned === 1 || await browserTurns() ? found : upright(found, turned);
}
