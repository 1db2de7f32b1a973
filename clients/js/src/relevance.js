// From when on a match counts (docs/search.md): background pictures, and what was learned from them.

import { MobileCLIPError } from "./errors.js";
import { parse } from "./safetensors.js";
import { dot } from "./vectors.js";

export class Relevance {
  /** `told`: the manifest's `relevance`; `dimension`: numbers per embedding; `file`: relevance.safetensors. */
  constructor(told, dimension, file) {
    const { background, weights } = parse(file, "relevance.safetensors").tensors;
    const numbers = [told.scale, told.spread, told.intercept, told.slope];
    const shapes = JSON.stringify([background?.shape, background?.dtype, weights?.shape, weights?.dtype]);
    if (shapes !== JSON.stringify([[told.images, dimension], "I8", [dimension], "F32"]) || ![...numbers, ...weights.data].every(Number.isFinite)) {
      throw new MobileCLIPError("bundle", "relevance.safetensors does not hold what the manifest says: export the bundle again");
    }
    Object.assign(this, { told, background: background.data, weights: weights.data });
  }

  /** The cosine that a match of a text (of length 1) needs in a library of `size` pictures. */
  needed(text, size) {
    const { scale, spread, intercept, slope, images } = this.told;
    const scores = Float64Array.from({ length: images }, (_, row) => {
      return scale * dot(text, this.background.subarray(row * text.length, (row + 1) * text.length));
    });
    const mean = scores.reduce((sum, one) => sum + one, 0) / images;
    const deviation = Math.sqrt(scores.reduce((sum, one) => sum + (one - mean) ** 2, 0) / images);
    return intercept + slope * Math.log(Math.max(size, 1)) - dot(text, this.weights) - spread * deviation;
  }
}
