// Arithmetic on embeddings.

import { MobileCLIPError } from "./errors.js";

/** A vector scaled to length 1, float32 [D]. NaN, infinite numbers and length 0 are refused. */
export function unit(values) {
  let sum = 0;
  for (const value of values) sum += value * value;
  if (!Number.isFinite(sum) || sum === 0) throw new MobileCLIPError("query", "an embedding holds NaN or infinite numbers, or has length 0");
  const length = Math.sqrt(sum);
  return Float32Array.from(values, (value) => value / length);
}

/** A number to the nearest whole one, halves to the even neighbour: as Python's round and numpy's rint. */
export function roundHalfEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}

/** The sum of products of two vectors. */
export function dot(one, other) {
  let sum = 0;
  for (let index = 0; index < one.length; index += 1) sum += one[index] * other[index];
  return sum;
}

/** The probability of each label: softmax of `scale` times the cosines; all vectors have length 1. With a `bias` the
 * sigmoid of each, and of it. */
export function probabilities(embedding, labels, scale, bias) {
  const logits = labels.map((label) => scale * dot(embedding, label));
  return bias == null ? softmax(logits) : logits.map((one) => 1 / (1 + Math.exp(-one - bias)));
}

export function softmax(logits) {
  const top = logits.reduce((most, one) => Math.max(most, one), -Infinity);
  const shares = logits.map((one) => Math.exp(one - top));
  const sum = shares.reduce((total, one) => total + one, 0);
  return shares.map((one) => one / sum);
}
