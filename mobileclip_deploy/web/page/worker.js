// Everything that takes long, away from the page: the towers, the golden answers, pictures and texts to embeddings.

import { pixels } from "./mobileclip/browser.js";
import { MobileCLIP } from "./mobileclip/mobileclip.js";

let model;

const DO = {
  async start({ settings }) {
    const ort = await import("./runtime/ort.wasm.min.mjs");
    ort.env.wasm.wasmPaths = new URL("runtime/", self.location.href).href;
    ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
    ort.env.logLevel = "error";
    model = await MobileCLIP.load(new URL("bundle/", self.location.href), ort, { session: { executionProviders: ["wasm"] } });
    return { checks: await model.selfTest({ gates: settings.gates }), threads: ort.env.wasm.numThreads };
  },
  async image({ blob }) {
    return (await model.embedImage(await pixels(blob))).values;
  },
  async texts({ texts }) {
    return (await model.embedTexts(texts)).map(({ values }) => values);
  },
};

self.onmessage = async ({ data: { id, what, ...given } }) => {
  try {
    self.postMessage({ id, found: await DO[what](given) });
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error).split("\n")[0].slice(0, 300) });
  }
};
