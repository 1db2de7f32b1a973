/** The pixels of a picture file, for `embedImage`. */
export function pixels(blob: Blob): Promise<ImageData>;
