// Reads a .safetensors file: {tensors: name -> {dtype, shape, data}, metadata, prompts: the golden texts, if it names
// any}; the types that golden answers, backgrounds and labels have.

import { MobileCLIPError } from "./errors.js";

const TYPES = { F32: Float32Array, I32: Int32Array, I8: Int8Array, U8: Uint8Array };

/** Of an ArrayBuffer; `file`: its name, for the message where it is damaged. */
export function parse(buffer, file, remedy = "export the bundle again") {
  const damaged = new MobileCLIPError("bundle", `${file} is damaged: ${remedy}`);
  let header;
  let start;
  try {
    const length = Number(new DataView(buffer).getBigUint64(0, true));
    start = 8 + length;
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(buffer, 8, length)));
  } catch {
    throw damaged;
  }
  if (!(header instanceof Object) || Array.isArray(header)) throw damaged;
  const { __metadata__: metadata, ...entries } = header;
  const tensors = Object.fromEntries(Object.entries(entries).map(([name, entry]) => {
    if (!fits(entry, buffer.byteLength - start)) throw damaged;
    const { dtype, shape, data_offsets: [from, to] } = entry;
    return [name, { dtype, shape, data: new TYPES[dtype](buffer.slice(start + from, start + to)) }];
  }));
  return { tensors, metadata, prompts: prompts(metadata, damaged) };
}

const place = (value) => Number.isSafeInteger(value) && value >= 0;

// A type that is known, and as many bytes within the file as its shape says.
function fits(entry, size) {
  const { dtype, shape, data_offsets: offsets } = entry ?? {};
  if (!Object.hasOwn(TYPES, dtype) || ![shape, offsets].every((one) => Array.isArray(one) && one.every(place))) return false;
  const bytes = shape.reduce((product, side) => product * side, TYPES[dtype].BYTES_PER_ELEMENT);
  return offsets.length === 2 && offsets[1] <= size && offsets[1] - offsets[0] === bytes;
}

function prompts(metadata, damaged) {
  if (metadata?.prompts === undefined) return undefined;
  try {
    const found = JSON.parse(metadata.prompts);
    if (Array.isArray(found) && found.every((one) => typeof one === "string")) return found;
  } catch {
    // not JSON
  }
  throw damaged;
}
