// Reads a .safetensors file: name -> {dtype, shape, data}; the types that golden answers have.

const TYPES = { F32: Float32Array, I32: Int32Array, U8: Uint8Array };

export function parse(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  delete header.__metadata__;
  return Object.fromEntries(Object.entries(header).map(([name, { dtype, shape, data_offsets: [from, to] }]) => {
    const Values = TYPES[dtype];
    if (!Values) throw new Error(`${name} is of type ${dtype}`);
    return [name, { dtype, shape, data: new Values(buffer.slice(8 + length + from, 8 + length + to)) }];
  }));
}
