// A model in a worker, so that a page goes on while it answers: `serve` in the worker, `connect` on the page.

import { pixels } from "./browser.js";
import { MobileCLIPError } from "./errors.js";
import { Labels } from "./labels.js";
import { answer } from "./mobileclip.js";

const METHODS = {
  embedText: (model, text) => model.embedText(text),
  embedTexts: (model, texts) => model.embedTexts(texts),
  // A picture file is decoded here, too.
  embedImage: async (model, picture) => model.embedImage(picture instanceof Blob ? await pixels(picture) : picture),
  labels: async (model, names, template) => ({ ...(await model.labels(names, template)) }),
  needed: (model, text, size) => model.needed(text, size),
  selfTest: (model, options) => model.selfTest(options),
};

/** In a worker's script: answers `connect`'s calls by the model that `load` gives, a function that resolves to a
 * MobileCLIP. `port`: a MessagePort in place of the worker's own. */
export function serve(load, port = self) {
  const loaded = load();
  loaded.catch(() => {}); // each call reports it
  port.onmessage = async ({ data: { id, method, given } }) => {
    try {
      port.postMessage({ id, found: await METHODS[method](await loaded, ...given) });
    } catch (error) {
      port.postMessage({ id, code: error.code, message: String(error?.message ?? error) });
    }
  };
}

/** On a page: the model in a worker, or across a MessagePort. Its methods are MobileCLIP's, and `embedImage` takes picture
 * files (Blobs) as well. */
export function connect(worker) {
  const waiting = new Map();
  let next = 0;
  const broken = new Promise((_, reject) => {
    worker.onerror = ({ message }) => reject(new MobileCLIPError("bundle", `the worker failed: ${message}`));
  });
  broken.catch(() => {}); // each call reports it
  worker.onmessage = ({ data: { id, found, code, message } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (message === undefined) resolve(found);
    else reject(code === undefined ? new Error(message) : new MobileCLIPError(code, message));
  };
  const call = (method, ...given) => {
    const id = next++;
    const answered = new Promise((resolve, reject) => { waiting.set(id, { resolve, reject }); });
    try {
      worker.postMessage({ id, method, given });
    } catch (error) { // an element of the page, say, which no worker can have
      waiting.delete(id);
      return Promise.reject(new MobileCLIPError("query", `this cannot be handed to a worker: ${error.message}`, { cause: error }));
    }
    return Promise.race([answered, broken]);
  };
  const model = {
    embedText: (text) => call("embedText", text),
    embedTexts: (texts) => call("embedTexts", texts),
    embedImage: (picture) => call("embedImage", picture),
    labels: async (names, template) => new Labels(await call("labels", names, template)),
    needed: (text, size) => call("needed", text, size),
    selfTest: (options) => call("selfTest", options),
    search: (index, query, options) => answer(model, index, query, options),
  };
  return model;
}
