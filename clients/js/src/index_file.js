// An index of embeddings (.mcdx), as docs/index_format.md lays it down byte by byte: read and searched, exactly.

import { MobileCLIPError } from "./errors.js";
import { integerProducts } from "./products.js";
import { roundHalfEven, unit } from "./vectors.js";

export const MAGIC = "MCDX\r\n\u001a\n";
const STORES = { 1: ["int8"], 2: ["float16"], 3: ["float32"], 4: ["bits", "int8"], 5: ["bits"] };
const DESCRIPTION = 128;
const RESCORED = 50;

const UTF_8 = new TextDecoder("utf-8", { ignoreBOM: true });
const numbers = (value) => Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));

const damaged = (what) => new MobileCLIPError("index", `the index is damaged: ${what}; embed the pictures again`);
export const aligned = (offset) => Math.ceil(offset / 64) * 64;

// Blocks of fewer rows are joined in memory, up to that many rows: an app may commit each picture alone.
const [SMALL, JOINED] = [1 << 10, 1 << 14];
const LAST_SEQUENCE = 2n ** 64n - 1n; // it has no next one: no writer writes it

/** A library's ids and embeddings. `length`: pictures that are there; `dimension`; `store`: as `embed --store` names
 * it; `description`: embedding_space, variant, tower, and bridged_from where embeddings came from another space. */
export class Index {
  #bytes;
  #view;
  #rowsById;

  /** Reads the bytes of a file, an ArrayBuffer or a Uint8Array, without copying the embeddings of large blocks. */
  static open(bytes) {
    if (!ArrayBuffer.isView(bytes) && !(bytes instanceof ArrayBuffer)) throw new MobileCLIPError("index", "an index is an ArrayBuffer or a Uint8Array");
    // Not a subclass: a Buffer's slice shares its memory.
    return new Index(ArrayBuffer.isView(bytes) ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : new Uint8Array(bytes));
  }

  constructor(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    [this.#bytes, this.#view] = [bytes, view];
    if (bytes.length < DESCRIPTION || latin(bytes, 0, 8) !== MAGIC) throw new MobileCLIPError("index", "not an index of embeddings (.mcdx)");
    const version = view.getUint32(8, true);
    if (version !== 1) throw new MobileCLIPError("newer", `the index has version ${version}, and this package reads 1: update it`);
    this.dimension = view.getUint32(12, true);
    this.arrays = STORES[view.getUint8(16)];
    const told = view.getUint32(24, true);
    if (!this.arrays || this.dimension < 1 || this.dimension > 65536 || told > 1 << 20 || bytes.length < DESCRIPTION + told) throw damaged("its header");
    const head = bytes.slice(0, 36);
    head.fill(0, 28, 32);
    if (crc32(bytes.subarray(DESCRIPTION, DESCRIPTION + told), crc32(head)) !== view.getUint32(28, true)) throw damaged("its header");
    this.store = this.arrays.length === 2 ? "bits" : this.arrays[0] === "bits" ? "bits-only" : this.arrays[0];
    this.scale = view.getFloat32(32, true);
    if (!Number.isFinite(this.scale) || this.scale > 0 !== this.arrays.includes("int8")) throw damaged("its scale");
    this.description = described(bytes.subarray(DESCRIPTION, DESCRIPTION + told));
    this.start = aligned(DESCRIPTION + told);
    this.removed = new Set();
    this.rowCount = 0; // removed ones too
    this.slot = committed(bytes, view);
    const { end } = this.slot;
    if (end < this.start) throw damaged("its committed end");
    const blocks = [];
    for (let at = this.start; at < end;) at = this.#block(at, end, blocks);
    this.blockCount = blocks.length;
    this.blocks = this.#joined(blocks);
    this.length = this.rowCount - this.removed.size;
  }

  get embeddingSpace() { return this.description.embedding_space; }

  /** The numbers of the rows that are there, in ascending order. */
  get rows() {
    const found = [];
    for (let row = 0; row < this.rowCount; row += 1) if (!this.removed.has(row)) found.push(row);
    return found;
  }

  /** Their ids, in the same order. */
  get ids() { return this.rows.map((row) => this.id(row)); }

  /** The row of an id; undefined where it is not in the index. */
  row(id) {
    this.#rowsById ??= new Map(this.rows.map((row) => [this.id(row), row]));
    return this.#rowsById.get(id);
  }

  contains(id) { return this.row(id) !== undefined; }

  /** A row's stamp, a BigInt, which differs if a picture has changed since it was embedded; 0n where its writer gave none. */
  stamp(row) {
    const block = this.#blockOf(row);
    return block.stamps[row - block.first];
  }

  #block(at, end, blocks) {
    const [bytes, view] = [this.#bytes, this.#view];
    if (at + 64 > end) throw damaged("a block is cut");
    if (crc32(bytes.subarray(at, at + 32)) !== view.getUint32(at + 32, true)) throw damaged("a block's head");
    const kind = latin(bytes, at, 4);
    const [size, count, idBytes] = [8, 16, 24].map((place) => Number(view.getBigUint64(at + place, true)));
    if (size < 64 || at + size > end || count > size || idBytes > size) throw damaged("a block is cut");
    if (crc32(bytes.subarray(at + 64, at + size)) !== view.getUint32(at + 4, true)) throw damaged("a block's body");
    if (size !== this.#size(kind, count, idBytes)) throw damaged("a block's size");
    if (kind === "GONE") {
      for (let index = 0; index < count; index += 1) {
        const row = long(view, at + 64 + 8 * index);
        if (row >= this.rowCount) throw damaged("a row is removed that is not there");
        this.removed.add(row);
      }
    } else if (kind === "ROWS") {
      blocks.push({ at: at + 64, count, idBytes });
      this.rowCount += count;
    } else {
      throw damaged(`a block of kind ${JSON.stringify(kind)}`);
    }
    return at + size;
  }

  // Bytes of an embedding in an array.
  #width(kind) {
    const bytes = { int8: 1, float16: 2, float32: 4, bits: 1 / 8 }[kind];
    return Math.ceil(bytes * this.dimension);
  }

  #size(kind, count, idBytes) {
    if (kind === "GONE") return 64 + aligned(8 * count);
    const arrays = this.arrays.map((one) => aligned(count * this.#width(one)));
    return 64 + arrays.reduce((sum, one) => sum + one, 0) + 2 * aligned(8 * count) + aligned(idBytes);
  }

  // Blocks as they are searched: small ones in sequence are one.
  #joined(blocks) {
    const groups = [];
    for (const block of blocks) {
      const group = groups.at(-1);
      if (!group || Math.max(block.count, group.parts[0].count) >= SMALL || group.count + block.count > JOINED) groups.push({ parts: [block], count: block.count });
      else {
        group.parts.push(block);
        group.count += block.count;
      }
    }
    let first = 0;
    return groups.map(({ parts, count }) => {
      const made = this.#rows(parts, first, count);
      first += count;
      return made;
    });
  }

  #rows(parts, first, count) {
    const made = { first, count };
    const places = parts.map(({ at }) => at);
    const next = (part, size) => {
      const place = places[part];
      places[part] = aligned(place + size);
      return this.#bytes.subarray(place, place + size);
    };
    const whole = (width) => {
      if (parts.length === 1) return next(0, parts[0].count * width);
      const joined = new Uint8Array(count * width);
      let to = 0;
      parts.forEach((part, index) => {
        joined.set(next(index, part.count * width), to);
        to += part.count * width;
      });
      return joined;
    };
    for (const kind of this.arrays) made[kind] = array(kind, whole(this.#width(kind)));
    made.stamps = new BigUint64Array(whole(8).slice().buffer);
    made.ends = new Float64Array(count); // of each id, in the file
    made.starts = new Float64Array(count);
    let row = 0;
    parts.forEach((part, index) => {
      const ends = next(index, 8 * part.count);
      const ids = places[index];
      for (let own = 0, before = 0; own < part.count; own += 1, row += 1) {
        const end = long(this.#view, ends.byteOffset - this.#bytes.byteOffset + 8 * own);
        if (end < before || end > part.idBytes || (own === part.count - 1 && end !== part.idBytes)) throw damaged("its ids");
        made.starts[row] = ids + before;
        made.ends[row] = ids + end;
        before = end;
      }
    });
    return made;
  }

  // The block of a row: the last that begins at it or before.
  #blockOf(row) {
    if (!(Number.isInteger(row) && row >= 0 && row < this.rowCount)) throw new MobileCLIPError("index", `the index has no row ${row}: it has ${this.rowCount}`);
    let [low, high] = [0, this.blocks.length];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.blocks[middle].first <= row) low = middle;
      else high = middle;
    }
    return this.blocks[low];
  }

  /** The id of a row. */
  id(row) {
    const block = this.#blockOf(row);
    return UTF_8.decode(this.#bytes.subarray(block.starts[row - block.first], block.ends[row - block.first]));
  }

  /** The integers of a row of an index of int8, as they are stored. */
  integers(row) {
    const block = this.#blockOf(row);
    return block.int8.subarray((row - block.first) * this.dimension, (row - block.first + 1) * this.dimension);
  }

  /** The `top` nearest: [{id, row, score}], the best first; of equal scores the lower row. `query`: an embedding of the
   * index's space, {values, embeddingSpace} as the towers give it, or plain numbers where the app has checked that. */
  search(query, top = 10) {
    const space = query?.embeddingSpace;
    if (space !== undefined && space !== this.embeddingSpace) {
      throw new MobileCLIPError("space", `the query is of ${space} and the index of ${this.embeddingSpace}: they cannot be compared`);
    }
    if (!(Number.isInteger(top) && top >= 1)) throw new MobileCLIPError("query", `the nearest ${top} are asked for: ask for 1 at least`);
    const values = numbers(query) ? query : query?.values;
    if (!numbers(values)) throw new MobileCLIPError("query", "an embedding is asked for, or its numbers");
    if (values.length !== this.dimension) throw new MobileCLIPError("space", `the query has ${values.length} numbers and the index ${this.dimension}`);
    const vector = unit(values);
    const kind = this.arrays[0];
    const asked = kind === "int8" || kind === "bits" ? rounded(vector) : { integers: vector, scale: 1 };
    const twice = this.arrays.length === 2;
    let found = this.#best(twice ? Math.max(RESCORED, 5 * top) : top, (block) => SCORES[kind](block[kind], asked.integers, block.count));
    if (twice) found = this.#again(found, asked.integers).slice(0, top);
    const factor = { int8: asked.scale * this.scale, bits: twice ? asked.scale * this.scale : asked.scale / Math.sqrt(this.dimension) }[kind] ?? 1;
    return found.map(({ row, score }) => ({ id: this.id(row), row, score: score * factor }));
  }

  #best(top, scores) {
    const found = new Best(top);
    for (const block of this.blocks) {
      const own = scores(block);
      for (let index = 0; index < block.count; index += 1) {
        if (own[index] > found.least && !this.removed.has(block.first + index)) found.add(block.first + index, own[index]);
      }
    }
    return found.sorted();
  }

  #again(rows, integers) {
    const found = rows.map(({ row }) => {
      return { row, score: integerProducts(this.integers(row), integers, 1)[0] };
    });
    return found.sort((one, other) => other.score - one.score || one.row - other.row);
  }
}

// The largest scores so far, in a heap whose first is the least: of equal scores the higher row is less.
class Best {
  constructor(top) {
    this.top = top;
    this.heap = [];
  }

  get least() { return this.heap.length < this.top ? -Infinity : this.heap[0].score; }

  add(row, score) {
    const heap = this.heap;
    if (heap.length < this.top) {
      heap.push({ row, score });
      for (let at = heap.length - 1; at > 0;) {
        const above = (at - 1) >> 1;
        if (!less(heap[at], heap[above])) break;
        [heap[at], heap[above]] = [heap[above], heap[at]];
        at = above;
      }
      return;
    }
    heap[0] = { row, score };
    for (let at = 0; ;) {
      let below = 2 * at + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && less(heap[below + 1], heap[below])) below += 1;
      if (!less(heap[below], heap[at])) break;
      [heap[at], heap[below]] = [heap[below], heap[at]];
      at = below;
    }
  }

  sorted() { return this.heap.sort((one, other) => (less(other, one) ? -1 : 1)); }
}

const less = (one, other) => one.score < other.score || (one.score === other.score && one.row > other.row);

const SCORES = {
  int8: integerProducts,
  float32: products,
  float16: products,
  bits: signed,
};

// Sums of products of floats, float64 [count].
function products(rows, query, count) {
  const found = new Float64Array(count);
  const width = query.length;
  for (let row = 0, from = 0; row < count; row += 1, from += width) {
    let sum = 0;
    for (let index = 0; index < width; index += 1) sum += rows[from + index] * query[index];
    if (!Number.isFinite(sum)) throw damaged("an embedding that is not finite");
    found[row] = sum;
  }
  return found;
}

// The query's integers, each with the sign that a row's bit says: by a table of each byte's 256 sums.
function signed(rows, query, count) {
  const bytes = Math.ceil(query.length / 8);
  const table = new Int32Array(bytes * 256);
  for (let byte = 0; byte < bytes; byte += 1) {
    for (let value = 0; value < 256; value += 1) {
      let sum = 0;
      for (let bit = 0; bit < 8 && 8 * byte + bit < query.length; bit += 1) sum += (value >> bit) & 1 ? query[8 * byte + bit] : -query[8 * byte + bit];
      table[256 * byte + value] = sum;
    }
  }
  const found = new Float64Array(count);
  for (let row = 0, from = 0; row < count; row += 1, from += bytes) {
    let sum = 0;
    for (let byte = 0; byte < bytes; byte += 1) sum += table[256 * byte + rows[from + byte]];
    found[row] = sum;
  }
  return found;
}

// int8 integers of a unit vector, by the scale that lets its largest component be 127; half to even, in float32.
function rounded(vector) {
  const scale = vector.reduce((most, one) => Math.max(most, Math.abs(one)), 0) / 127;
  const step = Math.fround(scale);
  const integers = Int8Array.from(vector, (one) => {
    return Math.max(-127, Math.min(127, roundHalfEven(Math.fround(one / step))));
  });
  return { integers, scale };
}

function array(kind, own) {
  if (kind === "int8") return new Int8Array(own.buffer, own.byteOffset, own.length);
  if (kind === "bits") return own;
  const whole = own.byteOffset % 4 === 0 ? own : own.slice(); // a view begins at a multiple of its numbers' size
  if (kind === "float32") return new Float32Array(whole.buffer, whole.byteOffset, own.length / 4);
  return Float32Array.from(new Uint16Array(whole.buffer, whole.byteOffset, own.length / 2), half);
}

// float16 -> number (IEEE 754 binary16).
function half(bits) {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return exponent === 31 ? (fraction ? NaN : sign * Infinity) : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

// {at, sequence, end of the valid bytes}: the slot with the larger sequence whose checksum is right.
function committed(bytes, view) {
  const slots = [64, 96].filter((at) => crc32(bytes.subarray(at, at + 28)) === view.getUint32(at + 28, true))
    .map((at) => ({ at, sequence: view.getBigUint64(at, true), end: Number(view.getBigUint64(at + 8, true)) }))
    .filter(({ sequence }) => sequence > 0n && sequence < LAST_SEQUENCE)
    .sort((one, other) => (one.sequence < other.sequence ? 1 : -1));
  if (!slots.length) throw damaged("neither slot is right");
  if (slots[0].end > bytes.length) throw damaged("it is shorter than what was committed");
  return slots[0];
}

// Description of the embeddings.
function described(bytes) {
  let told;
  try {
    told = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    throw damaged("its description");
  }
  const space = told?.embedding_space;
  const known = typeof space === "string" && space.length > 0 && [...space].length <= 1000 && typeof told.variant === "string"
    && ["image", "text", undefined].includes(told.tower) && ["string", "undefined"].includes(typeof (told.bridged_from ?? undefined));
  if (!known) throw damaged("its description");
  return { ...told, tower: told.tower ?? "image" };
}

// A uint64; above 2^53 not to the last bit, which is above everything that it is compared with.
const long = (view, at) => view.getUint32(at, true) + 2 ** 32 * view.getUint32(at + 4, true);

const latin = (bytes, from, count) => String.fromCharCode(...bytes.subarray(from, from + count));

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let found = byte;
  for (let bit = 0; bit < 8; bit += 1) found = found & 1 ? 0xedb88320 ^ (found >>> 1) : found >>> 1;
  return found;
});

export function crc32(bytes, before = 0) {
  let found = ~before;
  for (let index = 0; index < bytes.length; index += 1) found = CRC[(found ^ bytes[index]) & 255] ^ (found >>> 8);
  return ~found >>> 0;
}
