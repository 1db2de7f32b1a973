// Everything that takes long, away from the page: the towers, the golden answers, pictures and texts to embeddings.

import { prepare } from "./resize.js";
import { parse } from "./safetensors.js";
import { Tokenizer } from "./tokenizer.js";

const MAX_BYTES = 100e6;
// Browsers make no canvas of more; Chromium's limit for one side is 65535, Safari's area is the smallest.
const MAX_PIXELS = 100e6;

let settings;
let ort;
let tokenizer;
const sessions = {};

async function load(name, as) {
  const answer = await fetch(`bundle/${name}`);
  if (!answer.ok) throw new Error(`${name} cannot be loaded (${answer.status})`);
  return answer[as]();
}

// Golden rows of an input, one after the other, against the checkpoint's answers: the worst of all rows.
async function check(tower, golden) {
  const inputs = golden[settings.golden[tower].inputs];
  const wanted = golden[settings.golden[tower].outputs];
  const [count, width] = wanted.shape;
  const size = inputs.data.length / inputs.shape[0];
  let [cosine, relative] = [1, 0];
  for (let row = 0; row < count; row += 1) {
    const given = inputs.data.slice(row * size, (row + 1) * size);
    // Golden pixels are kept as bytes.
    const found = await embed(tower, inputs.dtype === "U8" ? Float32Array.from(given, (byte) => byte / 255) : given);
    const truth = wanted.data.subarray(row * width, (row + 1) * width);
    let [dot, own, theirs, away] = [0, 0, 0, 0];
    for (let index = 0; index < width; index += 1) {
      dot += found[index] * truth[index];
      own += found[index] ** 2;
      theirs += truth[index] ** 2;
      away += (found[index] - truth[index]) ** 2;
    }
    cosine = Math.min(cosine, dot / Math.sqrt(own * theirs) || -1);
    relative = Math.max(relative, Math.sqrt(away / theirs));
  }
  const { metric, bound } = settings.golden[tower];
  const passed = metric === "cosine" ? cosine >= bound : relative <= bound;
  return { tower, count, cosine, relative, passed, metric, bound };
}

async function embed(tower, values) {
  const { input, output } = settings.towers[tower];
  const shape = input.shape.map((one, index) => (index === 0 ? 1 : one));
  const Values = { float32: Float32Array, int32: Int32Array, int64: BigInt64Array }[input.dtype];
  const data = values instanceof Values ? values : Values.from(values, Values === BigInt64Array ? BigInt : Number);
  const answer = await sessions[tower].run({ [input.name]: new ort.Tensor(input.dtype, data, shape) });
  return answer[output.name].data;
}

const unit = (values) => {
  const length = Math.hypot(...values);
  return Float32Array.from(values, (one) => one / length);
};

async function pixels(blob) {
  if (blob.size > MAX_BYTES) throw new Error(`larger than ${MAX_BYTES / 1e6} MB`);
  let picture;
  try {
    picture = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    throw new Error("not a picture that this browser can read");
  }
  const { width, height } = picture;
  if (width * height > MAX_PIXELS) throw new Error(`more than ${MAX_PIXELS / 1e6} megapixels`);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // what is transparent stands on white, as in the Python package
  context.fillRect(0, 0, width, height);
  context.drawImage(picture, 0, 0);
  picture.close();
  const { data } = context.getImageData(0, 0, width, height);
  const found = new Uint8ClampedArray(width * height * 3);
  for (let from = 0, to = 0; to < found.length; from += 4, to += 3) {
    found[to] = data[from];
    found[to + 1] = data[from + 1];
    found[to + 2] = data[from + 2];
  }
  return { data: found, width, height };
}

const DO = {
  async start({ settings: given }) {
    settings = given;
    ort = await import("./runtime/ort.wasm.min.mjs");
    ort.env.wasm.wasmPaths = new URL("runtime/", self.location.href).href;
    ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
    ort.env.logLevel = "error";
    const [vocabulary, merges, golden, ...models] = await Promise.all([
      load("tokenizer/vocab.json", "json"), load("tokenizer/merges.txt", "text"),
      load("golden.safetensors", "arrayBuffer"),
      ...Object.values(settings.towers).map(({ file }) => load(file, "arrayBuffer")),
    ]);
    tokenizer = new Tokenizer(vocabulary, merges, settings.tokenizer);
    const names = Object.keys(settings.towers);
    for (const [index, name] of names.entries()) {
      sessions[name] = await ort.InferenceSession.create(new Uint8Array(models[index]), { executionProviders: ["wasm"] });
    }
    const parsed = parse(golden);
    const checks = [];
    for (const name of names) checks.push(await check(name, parsed));
    return { checks, threads: ort.env.wasm.numThreads };
  },
  async image({ blob }) {
    const { data, width, height } = await pixels(blob);
    return unit(await embed("image", prepare(data, width, height, settings.preprocess)));
  },
  async texts({ texts }) {
    const length = settings.tokenizer.context_length;
    const ids = tokenizer.encode(texts);
    const found = [];
    for (let row = 0; row < texts.length; row += 1) {
      found.push(unit(await embed("text", ids.slice(row * length, (row + 1) * length))));
    }
    return found;
  },
};

// One after the other: a session runs one inference at a time.
let queue = Promise.resolve();
self.onmessage = ({ data: { id, what, ...given } }) => {
  queue = queue.then(async () => {
    try {
      self.postMessage({ id, found: await DO[what](given) });
    } catch (error) {
      self.postMessage({ id, error: String(error?.message ?? error).split("\n")[0].slice(0, 300) });
    }
  });
};
