// Reads a .safetensors file: {tensors: name -> {dtype, shape, data}, prompts: the golden texts, if it names any}; the
// types that golden answers and backgrounds have.

import { MobileCLIPError } from "./errors.js";

const TYPES = { F32: Float32Array, I32: Int32Array, I8: Int8Array, U8: Uint8Array };

/** Of an ArrayBuffer; `file`: its name, for the message where it is damaged. */
export function parse(buffer, file) {
  try {
    return contents(buffer);
  } catch (error) {
    if (error instanceof RangeError || error instanceof SyntaxError) throw new MobileCLIPError("bundle", `${file} is damaged: export the bundle again`);
    throw error;
  }
}

function contents(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const prompts = header.__metadata__?.prompts;
  delete header.__metadata__;
  const tensors = Object.fromEntries(Object.entries(header).map(([name, { dtype, shape, data_offsets: [from, to] }]) => {
    const Values = TYPES[dtype];
    if (!Values) throw new MobileCLIPError("bundle", `${name} is of type ${dtype}, which this package does not know`);
    if (8 + length + to > buffer.byteLength) throw new RangeError(name); // slice would cut it without a word
    return [name, { dtype, shape, data: new Values(buffer.slice(8 + length + from, 8 + length + to)) }];
  }));
  return { tensors, prompts: prompts && JSON.parse(prompts) };
}
