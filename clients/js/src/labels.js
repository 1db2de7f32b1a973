// Labels to classify pictures with.

import { MobileCLIPError } from "./errors.js";
import { probabilities } from "./vectors.js";

/** `names`; `vectors`: their embeddings; `scale`, `bias`: the network's; `embeddingSpace`. */
export class Labels {
  constructor(told) {
    Object.assign(this, told);
  }

  /** [{label, probability}], the most probable first; all together 1, but for a network with a `logit_bias`, which
   * judges each label alone. */
  classify(embedding) {
    if (embedding.embeddingSpace !== this.embeddingSpace) {
      throw new MobileCLIPError("space", `the embedding is of ${embedding.embeddingSpace} and the labels of ${this.embeddingSpace}: they cannot be compared`);
    }
    return ranked(this.names, probabilities(embedding.values, this.vectors, this.scale, this.bias));
  }
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
