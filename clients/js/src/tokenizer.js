// From text to token ids, as open_clip's tokenizer gives them; mojibake, which it repairs, stays as it is.

import { clean } from "./cleaning.js";
import { MobileCLIPError } from "./errors.js";

// Of a text in lower case. A long s is an s to open_clip's pattern, which does not regard case; and U+0345, a mark whose
// capital is a letter, is neither a letter nor anything else to it.
const PIECES = /'[sſ]|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}\u0345]+/gu;

// Every byte, inside a word and at its end, and the two special tokens.
const UNMERGED = 2 * 256 + 2;
const apart = () => new MobileCLIPError("bundle", "vocab.json and merges.txt do not belong together: export the bundle again");

// As many characters of a text as a context's tokens are given are read: merging is quadratic in a long word, and of an
// honest text the tokens that are kept end long before (mobileclip_deploy/network/model/tokenizer.py).
const CHARACTERS_A_TOKEN = 64;

// Every byte as a character that can be seen: those of Latin-1 that can, the others from U+0100 on.
const BYTES = (() => {
  const shown = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(shown(byte) ? byte : next++));
})();

// The first characters of a text; a character may be two of JavaScript's.
function beginning(text, count) {
  return text.length <= count ? text : Array.from(text.slice(0, 2 * count)).slice(0, count).join("");
}

export class Tokenizer {
  /** `vocabulary`: vocab.json; `merges`: merges.txt; `settings`: the manifest's tokenizer. */
  constructor(vocabulary, merges, settings) {
    this.vocabulary = new Map(Object.entries(vocabulary ?? {}));
    if (![...this.vocabulary.values()].every((id) => Number.isInteger(id) && id >= 0)) throw apart();
    const lines = merges.split(/\r?\n/).filter((line) => line && !line.startsWith("#version"));
    this.ranks = new Map(lines.map((line, rank) => [line, rank]));
    // Half of either would give other tokens without a word.
    if (this.ranks.size !== this.vocabulary.size - UNMERGED) throw apart();
    this.settings = settings;
    this.cache = new Map();
  }

  /** Token ids [context length] of a text: start, the text, end, then padding; the end stays last where text is cut.
   * `tokens`: how many there were, start and end included; `rest`: what was left out of a text with more, cleaned. */
  ids(text) {
    const { context_length: length, sot, eot, pad } = this.settings;
    const head = beginning(text, CHARACTERS_A_TOKEN * length);
    const cleaned = clean(head);
    const all = [sot];
    let from; // where the text goes on that is left out
    for (const piece of cleaned.matchAll(PIECES)) {
      all.push(...this.word(piece[0]));
      if (all.length >= length) from ??= piece.index;
    }
    all.push(eot);
    const found = all.slice(0, length);
    if (found.length === length) found[length - 1] = eot;
    const rest = all.length > length ? cleaned.slice(from) + text.slice(head.length) : "";
    return { ids: [...found, ...Array(length - found.length).fill(pad)], tokens: all.length, rest };
  }

  /** BigInt64Array [N, context length]. */
  encode(texts) {
    return BigInt64Array.from(texts.flatMap((text) => this.ids(text).ids), BigInt);
  }

  word(piece) {
    const known = this.cache.get(piece);
    if (known) return known;
    let parts = Array.from(new TextEncoder().encode(piece), (byte) => BYTES[byte]);
    parts[parts.length - 1] += "</w>";
    while (parts.length > 1) {
      let best = -1;
      let lowest = Infinity;
      for (let index = 0; index + 1 < parts.length; index += 1) {
        const rank = this.ranks.get(`${parts[index]} ${parts[index + 1]}`) ?? Infinity;
        if (rank < lowest) [best, lowest] = [index, rank];
      }
      if (best < 0) break;
      // Every place of the best pair at once, from left to right.
      const [left, right] = [parts[best], parts[best + 1]];
      const merged = [];
      for (let index = 0; index < parts.length; index += 1) {
        const pair = parts[index] === left && parts[index + 1] === right;
        merged.push(pair ? left + right : parts[index]);
        if (pair) index += 1;
      }
      parts = merged;
    }
    const ids = parts.map((part) => this.vocabulary.get(part));
    if (ids.includes(undefined)) throw apart();
    this.cache.set(piece, ids);
    return ids;
  }
}
