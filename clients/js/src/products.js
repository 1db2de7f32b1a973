// Exact sums of products of int8 rows: by WebAssembly's vectors, or where a page forbids them (its content security policy)
// by JavaScript, which takes several times as long.

import { PRODUCTS } from "./products_wasm.js";

const ROWS_BYTES = 1 << 21; // copied into the module's memory at a time: they stay in the processor's cache
const QUERY = ROWS_BYTES;
const QUERY_BYTES = 1 << 17; // int16 of the largest dimension
const SUMS = QUERY + QUERY_BYTES;
const MOST_ROWS = 1 << 16;

let loaded;

// The module and its memory; null where there is none.
function vectors() {
  if (loaded !== undefined) return loaded;
  try {
    const bytes = Uint8Array.from(atob(PRODUCTS.replace(/\s/g, "")), (one) => one.charCodeAt(0));
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes));
    loaded = { run: exports.products, bytes: new Int8Array(exports.memory.buffer), buffer: exports.memory.buffer };
  } catch (error) {
    if (!(error instanceof WebAssembly.CompileError) && !(error instanceof ReferenceError)) throw error;
    loaded = null;
  }
  return loaded;
}

/** Sums of products of each row (int8 [count, D]) with the query (int8 [D]), int32 [count]: below 2^31 for the largest
 * dimension. */
export function integerProducts(rows, query, count) {
  const module = vectors();
  return module ? byVectors(module, rows, query, count) : byNumbers(rows, query, count);
}

function byVectors({ run, bytes, buffer }, rows, query, count) {
  const found = new Int32Array(count);
  const width = query.length;
  const together = Math.min(MOST_ROWS, Math.floor(ROWS_BYTES / width));
  new Int16Array(buffer, QUERY, width).set(query);
  for (let first = 0; first < count; first += together) {
    const some = Math.min(together, count - first);
    bytes.set(rows.subarray(first * width, (first + some) * width));
    run(0, QUERY, width, some, SUMS);
    found.set(new Int32Array(buffer, SUMS, some), first);
  }
  return found;
}

/** The same by JavaScript. Four sums at once, and products that stay integers (Math.imul, | 0). */
export function byNumbers(rows, query, count) {
  const found = new Int32Array(count);
  const width = query.length;
  const even = width - (width % 4);
  const wide = Int32Array.from(query);
  for (let row = 0, from = 0; row < count; row += 1, from += width) {
    let [a, b, c, d] = [0, 0, 0, 0];
    for (let index = 0, at = from; index < even; index += 4, at += 4) {
      a = (a + Math.imul(rows[at], wide[index])) | 0;
      b = (b + Math.imul(rows[at + 1], wide[index + 1])) | 0;
      c = (c + Math.imul(rows[at + 2], wide[index + 2])) | 0;
      d = (d + Math.imul(rows[at + 3], wide[index + 3])) | 0;
    }
    for (let index = even; index < width; index += 1) a = (a + Math.imul(rows[from + index], wide[index])) | 0;
    found[row] = (a + b + c + d) | 0;
  }
  return found;
}
