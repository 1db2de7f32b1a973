// Adds pictures to an index of int8, as docs/index_format.md has it: an app keeps its own library, in memory until it
// stores what `commit` gives; every reader of the format reads it.

import { MobileCLIPError } from "./errors.js";
import { aligned, crc32, Index, MAGIC } from "./index_file.js";
import { roundHalfEven, unit } from "./vectors.js";

// Rows per block at most: of 512 numbers they take 8 MB.
const AT_ONCE = 1 << 14;
const encoded = (text) => new TextEncoder().encode(text);
const refused = (what) => new MobileCLIPError("index", what);
const list = (value) => Array.isArray(value) || ArrayBuffer.isView(value);

export class IndexWriter {
  #index;
  #bytes;
  #rowsById;
  #added = []; // {id, stamp, integers}
  #removed = new Set();

  /** A new index of a model's pictures: `model.manifest`. */
  static create({ embedding_space, variant, embed_dim, int8_scale }) {
    if (!(int8_scale > 0 && Number.isFinite(int8_scale))) throw refused("the manifest says no `int8_scale`: export the bundle again");
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
    this.#index = Index.open(bytes);
    this.#bytes = ArrayBuffer.isView(bytes) ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : new Uint8Array(bytes);
    this.#rowsById = new Map(this.#index.rows.map((row) => [this.#index.id(row), row]));
    this.#added = [];
    this.#removed = new Set();
  }

  /** The ids that are there, those that were added and are not committed yet among them. */
  get ids() { return [...this.#rowsById.keys()]; }

  contains(id) { return this.#rowsById.has(id); }

  /** Adds pictures, by an id and an embedding each. An id that is there has to be removed first. `stamps`: a BigInt or
   * whole number for each, which differs if the picture changed; 0 for none. */
  add(ids, embeddings, stamps) {
    if (![ids, embeddings, stamps ?? []].every(list)) throw new MobileCLIPError("query", "ids, embeddings and stamps are lists");
    if (ids.length !== embeddings.length || (stamps && stamps.length !== ids.length)) {
      throw new MobileCLIPError("query", `${ids.length} ids for ${embeddings.length} embeddings and ${stamps?.length ?? "no"} stamps`);
    }
    if (!ids.every((id) => typeof id === "string")) throw new MobileCLIPError("query", "an id is a text");
    if (new Set(ids).size !== ids.length || ids.some((id) => this.#rowsById.has(id))) throw refused("an id is there twice: remove its row first");
    const rows = ids.map((id, place) => ({ id, stamp: stamped(stamps?.[place] ?? 0), integers: this.#integers(embeddings[place]) }));
    for (const row of rows) {
      this.#rowsById.set(row.id, this.#index.rowCount + this.#added.length);
      this.#added.push(row);
    }
  }

  #integers(embedding) {
    const { dimension, embeddingSpace: space, scale } = this.#index;
    if (!list(embedding?.values)) throw new MobileCLIPError("query", "an embedding has `values` and `embeddingSpace`");
    const { values, embeddingSpace } = embedding;
    if (embeddingSpace !== space) throw new MobileCLIPError("space", `the embedding is of ${embeddingSpace} and the index of ${space}: they cannot be compared`);
    if (values.length !== dimension) throw new MobileCLIPError("space", `the embedding has ${values.length} numbers and the index ${dimension}`);
    return Int8Array.from(unit(values), (value) => Math.max(-127, Math.min(127, roundHalfEven(Math.fround(value / scale)))));
  }

  /** Removes rows by their numbers, as matches have them. Their ids may be added again. */
  remove(rows) {
    const count = this.#index.rowCount + this.#added.length;
    if (!list(rows) || !rows.every((row) => Number.isInteger(row) && row >= 0 && row < count)) throw refused("a row is to be removed that is not there");
    for (const row of rows) {
      const id = row < this.#index.rowCount ? this.#index.id(row) : this.#added[row - this.#index.rowCount].id;
      if (this.#rowsById.get(id) === row) this.#rowsById.delete(id);
      if (!this.#index.removed.has(row)) this.#removed.add(row);
    }
  }

  /** Removes pictures by their ids; those that are not there are passed over. */
  removeIds(ids) {
    if (!list(ids)) throw new MobileCLIPError("query", "ids are a list");
    this.remove(ids.filter((id) => this.#rowsById.has(id)).map((id) => this.#rowsById.get(id)));
  }

  /** The whole file with what was added and removed, a Uint8Array: put it in the old one's place at once (Node: write
   * next to it and rename; a browser's storage replaces whole files). The rows of one commit are searched faster than the
   * same rows of many. */
  commit() {
    const { at, sequence, end } = this.#index.slot;
    const blocks = rowBlocks(this.#added, this.#index.dimension);
    if (this.#removed.size) blocks.push(goneBlock([...this.#removed].sort((one, other) => one - other)));
    const whole = joined([this.#bytes.subarray(0, end), ...blocks]);
    if (blocks.length) setSlot(new DataView(whole.buffer), at === 96 ? 64 : 96, sequence + 1n, whole.length);
    this.#read(whole);
    return whole;
  }

  /** As `commit`, without the rows that are removed and in as few blocks as it takes. Rows get other numbers. */
  compact() {
    const before = this.commit();
    const index = this.#index;
    if (!index.removed.size && index.blockCount <= index.rowCount / AT_ONCE + 1) return before;
    const rows = index.rows.map((row) => ({ id: index.id(row), stamp: index.stamp(row), integers: index.integers(row) }));
    const header = before.slice(0, index.start);
    header.fill(0, 64, 128);
    const whole = joined([header, ...rowBlocks(rows, index.dimension)]);
    setSlot(new DataView(whole.buffer), 96, 1n, whole.length);
    this.#read(whole);
    return whole;
  }
}

function stamped(stamp) {
  if (typeof stamp === "bigint" ? stamp >= 0n && stamp < 2n ** 64n : Number.isSafeInteger(stamp) && stamp >= 0) return BigInt(stamp);
  throw new MobileCLIPError("query", `the stamp ${stamp} is not a whole number of 64 bits`);
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, one) => sum + one.length, 0));
  let place = 0;
  for (const one of parts) {
    whole.set(one, place);
    place += one.length;
  }
  return whole;
}

function rowBlocks(rows, dimension) {
  const blocks = [];
  for (let from = 0; from < rows.length; from += AT_ONCE) blocks.push(rowBlock(rows.slice(from, from + AT_ONCE), dimension));
  return blocks;
}

function rowBlock(rows, dimension) {
  const names = rows.map(({ id }) => encoded(id));
  const idBytes = names.reduce((sum, one) => sum + one.length, 0);
  const stamps = aligned(rows.length * dimension);
  const ends = stamps + aligned(8 * rows.length);
  const first = ends + aligned(8 * rows.length);
  const body = new Uint8Array(first + aligned(idBytes));
  const view = new DataView(body.buffer);
  let told = 0;
  rows.forEach(({ stamp, integers }, row) => {
    body.set(new Uint8Array(integers.buffer, integers.byteOffset, dimension), row * dimension);
    body.set(names[row], first + told);
    told += names[row].length;
    view.setBigUint64(stamps + 8 * row, stamp, true);
    view.setBigUint64(ends + 8 * row, BigInt(told), true);
  });
  return block("ROWS", body, rows.length, idBytes);
}

function goneBlock(rows) {
  const body = new Uint8Array(aligned(8 * rows.length));
  const view = new DataView(body.buffer);
  rows.forEach((row, place) => view.setBigUint64(8 * place, BigInt(row), true));
  return block("GONE", body, rows.length, 0);
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
