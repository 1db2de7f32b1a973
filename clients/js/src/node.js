// What Node has and browsers do not.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { MobileCLIPError } from "./errors.js";

/** A bundle in a folder, for `MobileCLIP.load`. */
export function folder(path) {
  return async (name) => {
    try {
      const { buffer, byteOffset, byteLength } = await readFile(join(path, name));
      return buffer.slice(byteOffset, byteOffset + byteLength);
    } catch (error) {
      throw new MobileCLIPError("bundle", `${name} cannot be read in ${path} (${error.code}): is it a bundle?`);
    }
  };
}
