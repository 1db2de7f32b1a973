// What is read of a bundle's manifest.json, and refused before anything is loaded.

import { MobileCLIPError } from "./errors.js";
import { parseJson } from "./json.js";

const NEWEST_SCHEMA = 2;
const refused = (what) => new MobileCLIPError("bundle", what);
export const text = (value) => typeof value === "string";
export const whole = (value) => Number.isInteger(value) && value > 0;

function parsed(content) {
  try {
    return parseJson(content, (key) => { throw refused(`manifest.json has the key ${key} twice: export the bundle again`); });
  } catch (error) {
    if (error instanceof MobileCLIPError) throw error;
    throw refused("manifest.json is no JSON: export the bundle again");
  }
}

/** The manifest that a text holds. */
export function understood(content) {
  const manifest = parsed(content);
  const version = manifest?.schema_version;
  if (!whole(version)) throw refused("manifest.json is no manifest of a bundle");
  if (version > NEWEST_SCHEMA) throw new MobileCLIPError("newer", `the bundle has schema version ${version}, and this package reads up to ${NEWEST_SCHEMA}: update it`);
  if (manifest.target !== "onnx") throw refused(`the bundle is for ${manifest.target}: export it with --target onnx`);
  const wrong = Object.entries(RULES).find(([name, right]) => !right(manifest[name], manifest))?.[0];
  if (wrong) throw refused(`manifest.json: \`${wrong}\` is missing or not understood: export the bundle again`);
  return manifest;
}

// A file of the bundle: as an address it leads nowhere else either.
export const plain = (path) => text(path) && !/[\\%?#:]/.test(path) && path.split("/").every((part) => !["", ".", ".."].includes(part));
export const object = (value) => value instanceof Object && !Array.isArray(value);
const ranged = (range) => range == null || (Array.isArray(range) && range.length === 2 && range.every(Number.isFinite));
const sized = (shape) => Array.isArray(shape) && shape.length > 0 && shape.every((one) => one == null || text(one) || (Number.isInteger(one) && one >= 0));

const thresholded = ({ labels, tags }) => tags == null || (tags.thresholds?.ratios?.length === labels.length - 1
  && [...tags.thresholds.ratios, tags.thresholds.share].every((one) => Number.isFinite(one) && one >= 0));

const RULES = {
  embedding_space: text,
  embed_dim: whole,
  logit_scale: Number.isFinite,
  logit_bias: (told) => told == null || Number.isFinite(told),
  template: text,
  classifier: (told) => told == null || (Array.isArray(told.labels) && told.labels.every(text) && thresholded(told)),
  towers: (towers) => object(towers) && Object.keys(towers).length > 0
    && Object.values(towers).every((tower) => plain(tower?.file) && text(tower.input?.name) && sized(tower.input.shape) && ranged(tower.input.range) && text(tower.output?.name)),
  variant: text,
  tokenizer: (told, { towers }) => !towers.text || told?.kind != null || [told?.context_length, told?.sot, told?.eot].every(whole),
  preprocess: (told) => whole(told?.size) && ["shorter_side", "squash"].includes(told.resize)
    && ["bilinear", "bicubic"].includes(told.interpolation) && ["center", "none"].includes(told.crop)
    && (told.crop_fraction == null || (told.crop_fraction > 0 && told.crop_fraction <= 1)),
  int8_scale: (told) => told == null || (Number.isFinite(told) && told > 0),
};

// Towers that take what this package makes: pixels [1, 3, S, S] in [0, 1], and ids [1, L] of CLIP's vocabulary.
export function check(manifest, tower) {
  if (!manifest.towers[tower]) throw refused(`the bundle has no ${tower} tower: export it with one`);
  const { input, file, function: part } = manifest.towers[tower];
  if (part != null) throw refused(`${file} has both towers, and this package reads a file of each: export with --joint in place of --joint only`);
  const size = manifest.preprocess.size;
  const shape = tower === "image" ? [3, size, size] : [manifest.tokenizer?.context_length];
  const whole = input.shape.length === shape.length + 1 && shape.every((one, index) => input.shape[index + 1] === one);
  const [low, high] = input.range ?? [0, 1];
  const fits = tower === "image" ? input.dtype === "float32" && low === 0 && high === 1 : ["int32", "int64"].includes(input.dtype);
  if (!whole || !fits) {
    throw refused(`the ${tower} tower takes ${input.dtype} [${input.shape}], which this package does not make: export without --layout and --input`);
  }
  if (tower === "text" && (manifest.tokenizer.kind ?? "clip") !== "clip") {
    throw refused(`a tokenizer of kind ${manifest.tokenizer.kind} is not known to this package: update it, or load the image tower alone`);
  }
}
