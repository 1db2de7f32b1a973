// Adds pictures to an index of int8, as docs/index_format.md has it: an app keeps its own library, in memory until it
// stores what `commit` gives; every reader of the format reads it.

import { MobileCLIPError } from "./errors.js";
import { aligned, crc32, Index, MAGIC } from "./index_file.js";
import { roundHalfEven, unit } from "./vectors.js";

// Rows per block at most: of 512 numbers they take 8 MB.
const AT_ONCE = 1 << 14;
const encoded = (text) => new TextEncoder().encode(text);
const refused = (what) => new MobileCLIPError("index", what);

export class IndexWriter {
  #index;
  #bytes;
  #ids;
  #rows;
  #pending = [];

  /** A new index of a model's pictures: `model.manifest`. */
  static create({ embedding_space, variant, embed_dim, int8_scale }) {
    if (!(int8_scale > 0)) throw refused("the manifest says no `int8_scale`: export the bundle again");
    const told = encoded(JSON.stringify({ embedding_space, variant, tower: "image" }));
    const bytes = new Uint8Array(aligned(128 + told.length));
    const view = new DataView(bytes.buffer);
    bytes.set(Uint8Array.from(MAGIC, (one) => one.charCodeAt(0)));
    view.setUint32(8, 1, true);
    view.setUint32(12, embed_dim, true);
    bytes[16] = 1; // int8
    view.setUint32(24, told.length, true);
    view.setFloat32(32, int8_scale, true);
    bytes.set(told, 128);
    view.setUint32(28, crc32(told, crc32(bytes.subarray(0, 36))), true);
    setSlot(view, 96, 1n, bytes.length);
    return new IndexWriter(bytes);
  }

  /** An index that is there, by its bytes, which are left as they are. */
  static open(bytes) {
    return new IndexWriter(bytes);
  }

  constructor(bytes) {
    this.#read(bytes);
    if (this.#index.store !== "int8") throw refused(`the index stores ${this.#index.store}, and only int8 is written here: embed it in Python`);
  }

  #read(bytes) {
    this.#bytes = bytes;
    this.#index = Index.open(bytes);
    this.#rows = this.#index.rows;
    this.#ids = new Set();
    for (let row = 0; row < this.#rows; row += 1) if (!this.#index.removed.has(row)) this.#ids.add(this.#index.id(row));
  }

  /** Adds pictures, by an id and an embedding each. An id that is there has to be removed first. */
  add(ids, embeddings) {
    const { dimension, embeddingSpace: space } = this.#index;
    if (ids.length !== embeddings.length) throw new TypeError(`${ids.length} ids for ${embeddings.length} embeddings`);
    for (const { values, embeddingSpace } of embeddings) {
      if (embeddingSpace !== space) throw new MobileCLIPError("space", `the embedding is of ${embeddingSpace} and the index of ${space}: they cannot be compared`);
      if (values.length !== dimension) throw new MobileCLIPError("space", `the embedding has ${values.length} numbers and the index ${dimension}`);
    }
    const added = new Set(ids);
    if (added.size !== ids.length || ids.some((id) => this.#ids.has(id))) throw refused("an id is there twice: remove its row first");
    const blocks = [];
    for (let from = 0; from < ids.length; from += AT_ONCE) {
      blocks.push(this.#block(ids.slice(from, from + AT_ONCE), embeddings.slice(from, from + AT_ONCE)));
    }
    this.#pending.push(...blocks);
    ids.forEach((id) => this.#ids.add(id));
    this.#rows += ids.length;
  }

  #block(ids, embeddings) {
    const { dimension } = this.#index;
    const step = this.#index.scale;
    const names = ids.map(encoded);
    const idBytes = names.reduce((sum, one) => sum + one.length, 0);
    const ends = aligned(ids.length * dimension) + aligned(8 * ids.length); // the stamps between are 0: nobody asks
    const body = new Uint8Array(ends + aligned(8 * ids.length) + aligned(idBytes));
    const view = new DataView(body.buffer);
    const first = ends + aligned(8 * ids.length);
    let told = 0;
    embeddings.forEach(({ values }, row) => {
      unit(values).forEach((value, place) => {
        view.setInt8(row * dimension + place, Math.max(-127, Math.min(127, roundHalfEven(Math.fround(value / step)))));
      });
      body.set(names[row], first + told);
      told += names[row].length;
      view.setBigUint64(ends + 8 * row, BigInt(told), true);
    });
    return block("ROWS", body, ids.length, idBytes);
  }

  /** Removes rows by their numbers, as matches have them. Their ids may be added again after a commit. */
  remove(rows) {
    if (!rows.length) return;
    if (!rows.every((row) => Number.isInteger(row) && row >= 0 && row < this.#rows)) throw refused("a row is to be removed that is not there");
    const body = new Uint8Array(aligned(8 * rows.length));
    const view = new DataView(body.buffer);
    rows.forEach((row, place) => view.setBigUint64(8 * place, BigInt(row), true));
    this.#pending.push(block("GONE", body, rows.length, 0));
  }

  /** The whole file with what was added and removed, a Uint8Array: put it in the old one's place at once (Node: write
   * beside it and rename; a browser's storage replaces whole files). */
  commit() {
    const { at, sequence, end } = this.#index.slot;
    const whole = new Uint8Array(this.#pending.reduce((sum, one) => sum + one.length, end));
    whole.set(new Uint8Array(this.#bytes.buffer ?? this.#bytes, this.#bytes.byteOffset ?? 0, end));
    let place = end;
    for (const one of this.#pending) {
      whole.set(one, place);
      place += one.length;
    }
    if (this.#pending.length) setSlot(new DataView(whole.buffer), at === 96 ? 64 : 96, sequence + 1n, place);
    this.#pending = [];
    this.#read(whole);
    return whole;
  }
}

function setSlot(view, at, sequence, end) {
  view.setBigUint64(at, sequence, true);
  view.setBigUint64(at + 8, BigInt(end), true);
  view.setUint32(at + 28, crc32(new Uint8Array(view.buffer, at, 28)), true);
}

function block(kind, body, count, idBytes) {
  const found = new Uint8Array(64 + body.length);
  const view = new DataView(found.buffer);
  found.set(encoded(kind));
  view.setUint32(4, crc32(body), true);
  [found.length, count, idBytes].forEach((one, place) => view.setBigUint64(8 + 8 * place, BigInt(one), true));
  view.setUint32(32, crc32(found.subarray(0, 32)), true);
  found.set(body, 64);
  return found;
}
