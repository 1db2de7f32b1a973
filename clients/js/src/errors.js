// What goes wrong, by a `code` that an app can branch on; the message is one sentence for a person.

/** Codes: "bundle" (missing, damaged or not understood), "newer" (written by a newer version), "space" (embeddings of
 * another space), "picture" (not one), "range" (values outside [0, 1]), "query" (a request that has no answer: an
 * embedding with NaN, labels that are one prompt), "index" (damaged or not understood), "cancelled". */
export class MobileCLIPError extends Error {
  constructor(code, message, options) {
    super(message, options);
    this.name = "MobileCLIPError";
    this.code = code;
  }
}
