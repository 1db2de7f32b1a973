// From text to token ids, as open_clip's tokenizer gives them, but for what DIFFERENCES says.

export const DIFFERENCES = [
  "HTML entities such as &amp; stay as they are",
  "of ftfy's repairs only curly quotes and control characters are done: no mojibake, ligatures or full-width forms",
  "a capital sigma at the end of a word",
];

const PIECES = /<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/giu;

// As many characters of a text as a context's tokens are given are read: merging is quadratic in a long word, and of an
// honest text the tokens that are kept end long before (mobileclip_deploy/model/tokenizer.py).
const CHARACTERS_A_TOKEN = 64;

// Every byte as a character that can be seen: those of Latin-1 that can, the others from U+0100 on.
const BYTES = (() => {
  const shown = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(shown(byte) ? byte : next++));
})();

export class Tokenizer {
  /** `vocabulary`: vocab.json; `merges`: merges.txt; `settings`: the manifest's tokenizer. */
  constructor(vocabulary, merges, settings) {
    this.vocabulary = new Map(Object.entries(vocabulary));
    const lines = merges.split("\n").filter((line) => line && !line.startsWith("#version"));
    this.ranks = new Map(lines.map((line, rank) => [line, rank]));
    this.settings = settings;
    this.cache = new Map();
  }

  /** BigInt64Array [N, context length]: start, the text, end, then padding; the end stays last where text is cut. */
  encode(texts) {
    const { context_length: length, sot, eot, pad } = this.settings;
    const found = new BigInt64Array(texts.length * length).fill(BigInt(pad));
    texts.forEach((text, row) => {
      const ids = [sot, ...this.pieces(text.slice(0, CHARACTERS_A_TOKEN * length)), eot].slice(0, length);
      if (ids.length === length) ids[length - 1] = eot;
      ids.forEach((id, index) => { found[row * length + index] = BigInt(id); });
    });
    return found;
  }

  pieces(text) {
    const clean = text
      .replace(/[\u02bc\u2018-\u201b]/g, "'")
      .replace(/[\u201c-\u201f]/g, '"')
      .replace(/[\u0000-\u0008\u000b\u000e-\u001f\u007f\u206a-\u206f\ufeff\ufff9-\ufffc]/g, "")
      .normalize("NFC")
      .replace(/\s+/gu, " ")
      .trim()
      .toLowerCase();
    return (clean.match(PIECES) ?? []).flatMap((piece) => this.word(piece));
  }

  word(piece) {
    if (piece === "<start_of_text>") return [this.settings.sot];
    if (piece === "<end_of_text>") return [this.settings.eot];
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
    this.cache.set(piece, ids);
    return ids;
  }
}
