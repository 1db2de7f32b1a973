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

/** [{label, probability}], the most probable first. */
export function ranked(names, shares) {
  return names.map((label, index) => ({ label, probability: shares[index] })).sort((one, other) => other.probability - one.probability);
}
