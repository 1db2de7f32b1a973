import type { Read } from "./mobileclip.js";
/** A bundle in a folder, for `MobileCLIP.load`. */
export function folder(path: string): Read;
