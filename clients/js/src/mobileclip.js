// A bundle that mobileclip-deploy exported for ONNX, in a browser or in Node: the same pixels, tokens and answers as in
// Python. onnxruntime is the app's: `onnxruntime-web` or `onnxruntime-node`.

import { MobileCLIPError } from "./errors.js";
import { GATES } from "./gates.js";
import { Labels, present, ranked } from "./labels.js";
import { locked } from "./lock.js";
import { check, understood } from "./manifest.js";
import { rgb } from "./pictures.js";
import { checkedTexts, checkLabels, checkPrompts, checkQuery, checkThreshold } from "./refusals.js";
import { Relevance } from "./relevance.js";
import { prepare } from "./resize.js";
import { parse } from "./safetensors.js";
import { Tokenizer } from "./tokenizer.js";
import { dot, unit } from "./vectors.js";

export { MobileCLIPError } from "./errors.js";
export { Index } from "./index_file.js";
export { IndexWriter } from "./index_writer.js";
export { LearnedLabels } from "./labels.js";
export { upright } from "./pictures.js";
export { Tokenizer } from "./tokenizer.js";
export { prepare, resize } from "./resize.js";
export { probabilities, unit } from "./vectors.js";

const GOLDEN = { image: ["pixels", "image_embeddings"], text: ["ids", "text_embeddings"] };
const TYPES = { float32: Float32Array, int32: Int32Array, int64: BigInt64Array };

/** One loaded bundle. Make it once: loading takes as long as many inferences. */
export class MobileCLIP {
  /**
   * @param bundle the bundle's address (a string or URL that ends in its folder), or a function that gives a file's
   *   bytes by its name in the bundle: `(name) => Promise<ArrayBuffer>`. In Node: `folder(path)` of mobileclip/node.
   * @param ort onnxruntime-web or onnxruntime-node
   * @param options `towers`: ["image"] or ["text"] alone; `session`: options of ort.InferenceSession.create; `lock`: the
   *   object in OWNER--NAME.lock.json of `publish`, which each file is held to
   */
  static async load(bundle, ort, { towers, session, lock } = {}) {
    const source = typeof bundle === "function" ? bundle : fetched(bundle);
    const read = lock === undefined ? source : locked(source, lock);
    const manifest = understood(new TextDecoder().decode(await read("manifest.json")));
    const wanted = towers ?? Object.keys(manifest.towers);
    const own = new MobileCLIP();
    Object.assign(own, { manifest, ort, read, sessions: {}, queue: Promise.resolve() });
    for (const tower of wanted) check(manifest, tower);
    if (wanted.includes("text")) {
      const merges = new TextDecoder().decode(await read("tokenizer/merges.txt"));
      own.tokenizer = new Tokenizer(await json(read, "tokenizer/vocab.json"), merges, manifest.tokenizer);
      if (manifest.relevance) own.relevance = new Relevance(manifest.relevance, manifest.embed_dim, await read("relevance.safetensors"));
    }
    for (const tower of wanted) {
      const { file } = manifest.towers[tower];
      const model = new Uint8Array(await read(file));
      own.sessions[tower] = await running(`${file} cannot be loaded`, () => ort.InferenceSession.create(model, session));
    }
    return own;
  }

  /** Embeddings of spaces with other names cannot be compared. */
  get embeddingSpace() { return this.manifest.embedding_space; }

  /** The side of the square that a picture is cut to, in pixels. */
  get imageSize() { return this.manifest.preprocess.size; }

  /** A picture as the image tower takes it, float32 [3, S, S] in [0, 1], for an app that runs it by itself. `picture`: as
   * `embedImage` takes it. */
  prepare(picture) {
    return prepare(rgb(picture), picture.width, picture.height, this.manifest.preprocess);
  }

  /** The embedding of a text, as `embedTexts` gives one. */
  async embedText(text) {
    return (await this.embedTexts([text]))[0];
  }

  /** One embedding per text, each of length 1: {values: Float32Array [D], embeddingSpace, tokens, cut, rest}.
   * `cut`: the text has more tokens than the network reads, and `rest` was left out. */
  async embedTexts(texts) {
    this.#has("text");
    const length = this.manifest.tokenizer.context_length;
    const found = [];
    for (const text of checkedTexts(texts)) {
      const { ids, tokens, rest } = this.tokenizer.ids(text);
      const values = unit(await this.#run("text", ids));
      found.push({ values, embeddingSpace: this.embeddingSpace, tokens, cut: tokens > length, rest });
    }
    return found;
  }

  /** The embedding of a picture, of length 1. `picture`: {data, width, height} with RGB or RGBA bytes, row by row, as
   * ImageData has them; transparent pixels are drawn on white. */
  async embedImage(picture) {
    this.#embeds();
    return { values: unit(await this.#run("image", this.prepare(picture))), embeddingSpace: this.embeddingSpace };
  }

  #embeds() {
    this.#has("image");
    if (this.manifest.classifier) throw new MobileCLIPError("bundle", "the bundle is a classifier, which gives probabilities: ask classify");
  }

  /** What a classifier (`export --labels`) says of a picture: [{label, probability}], the most probable first. */
  async classify(picture) {
    const { labels, shares } = await this.#shares(picture);
    return ranked(labels, shares);
  }

  /** The labels of a picture that are present, of a bundle of `export --examples`: [{label, probability}], the most
   * probable first; empty where none of them is. */
  async tags(picture) {
    const thresholds = this.manifest.classifier?.tags?.thresholds;
    if (!thresholds) throw new MobileCLIPError("bundle", "the bundle has no labels that were learned from pictures: export it with --examples");
    const { labels, shares } = await this.#shares(picture);
    return present(thresholds, shares).map((index) => ({ label: labels[index], probability: shares[index] }));
  }

  async #shares(picture) {
    this.#has("image");
    const { classifier } = this.manifest;
    if (!classifier) throw new MobileCLIPError("bundle", "the bundle is no classifier: ask labels for labels, and those to classify");
    const shares = await this.#run("image", this.prepare(picture));
    if (shares.length !== classifier.labels.length || !shares.every((one) => one >= 0)) {
      throw new MobileCLIPError("bundle", `the classifier gives no probabilities of its ${classifier.labels.length} labels: do not use it here`);
    }
    return { labels: classifier.labels, shares };
  }

  /** The same for many, one after the other. `pictures`: an iterable, async too; `onProgress(done)` after each; `signal`:
   * an AbortSignal, which ends it with the code "cancelled". */
  async embedImages(pictures, { onProgress, signal } = {}) {
    const found = [];
    for await (const picture of pictures) {
      if (signal?.aborted) throw new MobileCLIPError("cancelled", `cancelled after ${found.length} pictures`);
      found.push(await this.embedImage(picture));
      onProgress?.(found.length);
    }
    return found;
  }

  /** The embedding of a tower's own input: float32 [3, S, S] with values in [0, 1]. Values outside are refused: networks
   * answer them plausibly and wrongly. */
  async embedPixels(values) {
    this.#embeds();
    const size = 3 * this.imageSize ** 2;
    if (values?.length !== size || typeof values.every !== "function") throw new MobileCLIPError("range", `${values?.length} values, where the network takes ${size}`);
    if (!values.every((one) => one >= 0 && one <= 1)) throw new MobileCLIPError("range", "pixel values lie outside [0, 1]: divide bytes by 255");
    return { values: unit(await this.#run("image", values)), embeddingSpace: this.embeddingSpace };
  }

  /** Labels to classify pictures with, two or more. `template`: with {} where the label goes; the network's own if left
   * out. */
  async labels(names, template = this.manifest.template) {
    checkLabels(names, template);
    this.#has("text");
    const prompts = names.map((name) => template.replaceAll("{}", () => name));
    checkPrompts(names, prompts.map((prompt) => this.tokenizer.ids(prompt).ids));
    const embedded = await this.embedTexts(prompts);
    const vectors = embedded.map(({ values }) => values);
    const { logit_scale: scale, logit_bias: bias } = this.manifest;
    return new Labels({ names, vectors, scale, bias, embeddingSpace: this.embeddingSpace });
  }

  /** The cosine that a match of a text's embedding needs in a library of `size` pictures; undefined where the bundle says
   * none: it was exported without --background. */
  async needed(text, size) {
    if (text.embeddingSpace !== this.embeddingSpace) {
      throw new MobileCLIPError("space", `the embedding is of ${text.embeddingSpace} and the bundle of ${this.embeddingSpace}: they cannot be compared`);
    }
    return this.relevance?.needed(text.values, size);
  }

  /** The nearest of an index: {matches, found, needed, best, bridgedFrom}. `query`: a text, or an embedding. `found`:
   * false, and no matches, where the nearest's score `best` is below what the query needs. `threshold`: that in place of
   * the bundle's own; -1 shows everything. `bridgedFrom`: the space that the index was brought from. */
  async search(index, query, options) {
    return answer(this, index, query, options);
  }

  /** The bundle's golden inputs through each loaded tower, against the checkpoint's answers: [{tower, inputs, cosine,
   * relative, passed}], the worst of all inputs. A tower that does not pass answers wrongly on this device. `gates`: by
   * tower {metric, bound}; those of its precision if left out. Its golden texts go through the tokenizer: a vocabulary of
   * another checkpoint has the same form. */
  async selfTest({ gates = {} } = {}) {
    const { tensors, prompts } = parse(await this.read("golden.safetensors"), "golden.safetensors");
    if (this.tokenizer && prompts) this.#checkTokens(prompts, tensors.ids);
    const found = [];
    for (const tower of Object.keys(this.sessions)) found.push(await this.#golden(tower, tensors, gates[tower]));
    return found;
  }

  #checkTokens(prompts, ids) {
    const length = this.manifest.tokenizer.context_length;
    const same = prompts.every((prompt, row) => {
      return this.tokenizer.ids(prompt).ids.every((id, place) => id === ids?.data[row * length + place]);
    });
    if (!same) throw new MobileCLIPError("bundle", "tokenizer/ is not the checkpoint's: it gives other ids of the golden texts; export the bundle again");
  }

  async #golden(tower, golden, gate) {
    const names = tower === "image" && this.manifest.classifier ? ["pixels", "image_probabilities"] : GOLDEN[tower];
    const [inputs, wanted] = names.map((name) => golden[name]);
    if (!inputs || wanted?.shape.length !== 2 || !(wanted.shape[0] > 0) || inputs.shape[0] !== wanted.shape[0]) throw new MobileCLIPError("bundle", `golden.safetensors has no answers of the ${tower} tower: export again`);
    const [count, width] = wanted.shape;
    const size = inputs.data.length / inputs.shape[0];
    let [cosine, relative] = [1, 0];
    for (let row = 0; row < count; row += 1) {
      const given = inputs.data.slice(row * size, (row + 1) * size);
      // Golden pixels are kept as bytes.
      const answer = await this.#run(tower, inputs.dtype === "U8" ? Float32Array.from(given, (byte) => byte / 255) : given);
      const truth = wanted.data.subarray(row * width, (row + 1) * width);
      const length = Math.sqrt(dot(truth, truth));
      const away = Float64Array.from(answer, (value, index) => value - truth[index]);
      // NaN where the answer holds none, or has length 0: then the tower did not pass.
      const same = dot(answer, truth) / (Math.sqrt(dot(answer, answer)) * length);
      cosine = Number.isNaN(same) ? NaN : Math.min(cosine, same);
      relative = Math.max(relative, Math.sqrt(dot(away, away)) / length);
    }
    const { metric, bound } = gate ?? GATES[this.manifest.towers[tower].precision] ?? GATES.fp16;
    const passed = metric === "cosine" ? cosine >= bound : relative <= bound;
    return { tower, inputs: count, cosine, relative, passed, metric, bound };
  }

  // A session runs one inference at a time.
  #run(tower, values) {
    const { input, output } = this.manifest.towers[tower];
    const shape = input.shape.map((one, index) => (index === 0 ? 1 : one));
    const Values = TYPES[input.dtype];
    const data = values instanceof Values ? values : Values.from(values, Values === BigInt64Array ? BigInt : Number);
    const width = this.manifest.classifier?.labels.length ?? this.manifest.embed_dim;
    const answer = this.queue.then(async () => {
      const found = await running(`the ${tower} tower failed`, () => {
        return this.sessions[tower].run({ [input.name]: new this.ort.Tensor(input.dtype, data, shape) });
      });
      const values = found[output.name]?.data;
      if (values?.length === width) return values;
      throw new MobileCLIPError("bundle", `the ${tower} tower gives ${values?.length ?? "no"} numbers, and the manifest says ${width}: export the bundle again`);
    });
    this.queue = answer.catch(() => {}); // the next one runs whatever became of this one
    return answer;
  }

  #has(tower) {
    if (!this.sessions[tower]) throw new MobileCLIPError("bundle", `the ${tower} tower was not loaded: name it in \`towers\``);
  }
}

/** `MobileCLIP.search`, of a model here or in a worker. Pictures as queries, and an index of bits alone or of texts, are
 * not judged. */
export async function answer(model, index, query, { top = 10, threshold } = {}) {
  if (typeof query === "string") checkQuery(query);
  checkThreshold(threshold);
  const asked = typeof query === "string" ? await model.embedText(query) : query;
  const judged = asked?.tokens !== undefined && index.store !== "bits-only" && index.description.tower !== "text";
  const needed = threshold ?? (judged ? await model.needed(asked, index.length) : undefined);
  const matches = index.search(asked, top);
  const best = matches[0]?.score;
  const found = best !== undefined && !(best < needed);
  return { matches: found ? matches : [], found, needed, best, bridgedFrom: index.description.bridged_from };
}

function fetched(address) {
  const base = String(address).replace(/\/?$/, "/");
  return async (name) => {
    const answer = await running(`${name} cannot be loaded`, () => fetch(base + name));
    if (!answer.ok) throw new MobileCLIPError("bundle", `${name} cannot be loaded (${answer.status})`);
    return answer.arrayBuffer();
  };
}

// What a runtime throws, as this package's error: a tower that cannot be read, an operator that is not there, no network.
async function running(what, work) {
  try {
    return await work();
  } catch (error) {
    const hint = error?.code === "ERR_INVALID_URL" || error?.cause?.code === "ERR_INVALID_URL" ? ": in Node give folder(path) of mobileclip/node" : "";
    throw new MobileCLIPError("bundle", `${what} (${error?.message ?? error})${hint}`, { cause: error });
  }
}

async function json(read, name) {
  try {
    return JSON.parse(new TextDecoder().decode(await read(name)));
  } catch (error) {
    if (error instanceof SyntaxError) throw new MobileCLIPError("bundle", `${name} is no JSON: export the bundle again`);
    throw error;
  }
}
