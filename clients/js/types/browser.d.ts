import type { Picture } from "./mobileclip.js";
/** The pixels of a picture file, for `embedImage`. */
export function pixels(blob: Blob): Promise<Picture>;
