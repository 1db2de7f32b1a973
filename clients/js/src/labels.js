// Labels to classify pictures with.

import { MobileCLIPError } from "./errors.js";
import { parseJson } from "./json.js";
import { parse } from "./safetensors.js";
import { dot, probabilities, softmax, unit } from "./vectors.js";

/** `names`; `vectors`: their embeddings; `scale`, `bias`: the network's; `embeddingSpace`. */
export class Labels {
  constructor(told) {
    Object.assign(this, told);
  }

  /** [{label, probability}], the most probable first; all together 1, but for a network with a `logit_bias`, which
   * judges each label alone. */
  classify(embedding) {
    sameSpace(embedding, this);
    return ranked(this.names, probabilities(embedding.values, this.vectors, this.scale, this.bias));
  }
}

const NONE = "none of these";
const FORMAT = "mobileclip-deploy labels ";
const [MOST_LABELS, LONGEST_LABEL, LARGEST_RATIO] = [100_000, 1000, 1e6];
const AGAIN = "learn them again";
const within = (value, most) => Number.isFinite(value) && value >= 0 && value <= most;
const count = (value, least) => Number.isSafeInteger(value) && value >= least;

/** Labels that Python's `learn_labels` learned from pictures (`labels.safetensors`), for a bundle with embeddings. */
export class LearnedLabels {
  #names;
  #rows;
  #thresholds;

  /** `bytes`: of the file, an ArrayBuffer or a Uint8Array. */
  static open(bytes) {
    const content = ArrayBuffer.isView(bytes) ? Uint8Array.from(bytes).buffer : bytes;
    return new LearnedLabels(parse(content, "the file of labels", AGAIN));
  }

  constructor({ tensors, metadata }) {
    const { labels, embedding_space: space, thresholds } = described(metadata?.labels);
    const { weights, biases, digests } = tensors;
    const rows = labels.length + 1;
    const width = weights?.shape[1];
    const shapes = [[weights, "F32", [rows, width]], [biases, "F32", [rows]], [digests, "U8", [thresholds.examples + thresholds.background, 8]]];
    const fit = shapes.every(([tensor, dtype, shape]) => tensor?.dtype === dtype && `${tensor.shape}` === `${shape}`);
    if (!fit || !(width > 0) || ![weights, biases].every(({ data }) => data.every(Number.isFinite))) throw wrong();
    this.embeddingSpace = space;
    [this.#names, this.#thresholds] = [[...labels, NONE], thresholds];
    this.#rows = labels.concat(NONE).map((_, row) => ({ weights: weights.data.subarray(row * width, (row + 1) * width), bias: biases.data[row] }));
  }

  /** The labels, without "none of these". */
  get names() { return this.#names.slice(0, -1); }

  /** [{label, probability}] of all labels and of "none of these", the most probable first. */
  classify(embedding) {
    return ranked(this.#names, this.#shares(embedding));
  }

  /** Those that are present, the most probable first; empty where none of them is. */
  tags(embedding) {
    const shares = this.#shares(embedding);
    return present(this.#thresholds, shares).map((index) => ({ label: this.#names[index], probability: shares[index] }));
  }

  #shares(embedding) {
    sameSpace(embedding, this);
    const width = this.#rows[0].weights.length;
    const { values } = embedding;
    if (values?.length !== width) throw new MobileCLIPError("space", `the embedding has ${values?.length} numbers and the labels take ${width}`);
    const vector = unit(values);
    return Float32Array.from(softmax(this.#rows.map(({ weights, bias }) => dot(vector, weights) + bias)));
  }
}

const wrong = () => new MobileCLIPError("bundle", `not a valid file of labels: ${AGAIN}`);

// The description in a file of labels. Every field is checked: the file may be anybody's.
function described(content) {
  let told;
  try {
    told = parseJson(content, () => { throw wrong(); });
  } catch {
    throw wrong();
  }
  const { format, labels, thresholds: rule } = told ?? {};
  if (typeof format === "string" && format.startsWith(FORMAT) && Number(format.slice(FORMAT.length)) > 1) {
    throw new MobileCLIPError("newer", `the labels are a file of "${format}", and this package reads 1: update it`);
  }
  const lists = [labels, rule?.ratios].every(Array.isArray) && labels.length >= 2 && labels.length <= MOST_LABELS && rule.ratios.length === labels.length;
  const right = format === `${FORMAT}1` && typeof told.embedding_space === "string" && lists && !labels.includes(NONE)
    && labels.every((label) => typeof label === "string" && [...label].length <= LONGEST_LABEL)
    && rule.ratios.every((ratio) => within(ratio, LARGEST_RATIO)) && within(rule.share, 1) && count(rule.examples, 1) && count(rule.background, 0);
  if (!right) throw wrong();
  return told;
}

function sameSpace(embedding, labels) {
  if (embedding.embeddingSpace === labels.embeddingSpace) return;
  throw new MobileCLIPError("space", `the embedding is of ${embedding.embeddingSpace} and the labels of ${labels.embeddingSpace}: they cannot be compared`);
}

/** The indices of the labels that are present, the most probable first. `thresholds`: the manifest's; `shares`: of the
 * labels, then of "none of these". */
export function present({ ratios, share }, shares) {
  const none = shares[shares.length - 1];
  const labels = [...shares].slice(0, -1);
  const least = Math.max(share * Math.max(...labels), 1e-6);
  return labels.map((_, index) => index).filter((index) => labels[index] >= Math.max(ratios[index] * none, least))
    .sort((one, other) => labels[other] - labels[one]);
}

/** [{label, probability}], the most probable first. */
export function ranked(names, shares) {
  return names.map((label, index) => ({ label, probability: shares[index] })).sort((one, other) => other.probability - one.probability);
}
