import type { MobileCLIP, Embedding, Picture } from "./mobileclip.js";
/** In a worker's script: answers `connect`'s calls. */
export function serve(load: () => Promise<MobileCLIP>, port?: MessagePort): void;
export interface Connected extends Pick<MobileCLIP, "embedText" | "embedTexts" | "labels" | "needed" | "search" | "selfTest"> {
  /** A picture file is decoded in the worker. */
  embedImage(picture: Picture | Blob): Promise<Embedding>;
}
/** On a page: the model in a worker. */
export function connect(worker: Worker | MessagePort): Connected;
