// Runs one round of one cell: load, answer the golden inputs, warm up, time. Times are in nanoseconds.

import { inferencesPerSample } from "./sampling.js";

// Counts the runtime's threads, which are workers of this worker. A page that is not isolated silently gets one thread.
let started = 0;
const Plain = self.Worker;
self.Worker = class extends Plain {
  constructor(...given) {
    super(...given);
    started += 1;
  }
};

const BUILDS = {
  wasm: ["ort.wasm.min.mjs", "ort-wasm-simd-threaded"],
  webgpu: ["ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify"],
};
const ARRAYS = { float32: Float32Array, int32: Int32Array, int64: BigInt64Array, uint8: Uint8Array };
// Browsers may report the GPU's completion in steps of 100 ms (Firefox does). An empty command takes microseconds.
const SLOWEST_COMPLETION_MS = 20;

const since = (start) => Math.round((performance.now() - start) * 1e6);

async function bytes(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} cannot be loaded (${answer.status})`);
  return new Uint8Array(await answer.arrayBuffer());
}

// In pieces, since the number of a call's arguments is limited.
function base64(raw) {
  let text = "";
  for (let start = 0; start < raw.length; start += 4096) {
    text += String.fromCharCode(...raw.subarray(start, start + 4096));
  }
  return btoa(text);
}

// Milliseconds until the browser reports the completion of an empty GPU command, the median of nine.
async function completion() {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new Error("this browser has no WebGPU here");
  const device = await adapter.requestDevice();
  const times = [];
  for (let number = 0; number < 10; number += 1) {
    const start = performance.now();
    device.queue.submit([device.createCommandEncoder().finish()]);
    await device.queue.onSubmittedWorkDone();
    times.push(performance.now() - start);
  }
  device.destroy();
  return times.slice(1).sort((a, b) => a - b)[4];
}

async function measure({ cell, round, beside, protocol, step }, base) {
  const build = BUILDS[cell.backend];
  if (!build) throw new Error(`onnxruntime-web here has no ${cell.backend}: ${Object.keys(BUILDS).join(", ")}`);
  if (cell.backend === "webgpu") {
    const slow = await completion();
    if (slow > SLOWEST_COMPLETION_MS) {
      throw new Error(`this browser says every ${Math.round(slow)} ms that the GPU is done: no latency can be measured`);
    }
  }
  const at = (name) => new URL(name, base).href;
  const begun = performance.now();
  const [binary, model, ...others] = await Promise.all(
    [`runtime/${build[1]}.wasm`, `plan/${cell.file}`, ...beside.map((name) => `plan/${name}`)].map((name) => bytes(at(name))),
  );
  const fetch_ns = since(begun);
  const compiling = performance.now();
  await WebAssembly.compile(binary);
  const compile_ns = since(compiling);

  const ort = await import(at(`runtime/${build[0]}`));
  ort.env.wasm.wasmPaths = at("runtime/");
  ort.env.wasm.numThreads = cell.threads;
  ort.env.logLevel = "error";
  const folder = cell.file.slice(0, cell.file.lastIndexOf("/") + 1);
  const options = {
    executionProviders: [cell.backend],
    externalData: beside.map((name, index) => ({ path: name.slice(folder.length), data: others[index] })),
  };
  const loading = performance.now();
  let session = await ort.InferenceSession.create(model, options);
  const load_first_ns = since(loading);
  const again = performance.now();
  const second = await ort.InferenceSession.create(model, options);
  const load_again_ns = since(again);
  await session.release();
  session = second;
  if (started + 1 < cell.threads) {
    throw new Error(`asked for ${cell.threads} threads, and this page gets ${started + 1}: it is not isolated`);
  }

  const Values = ARRAYS[cell.input.dtype];
  const inputs = cell.golden ? new Values((await bytes(at(`plan/${cell.golden.inputs.file}`))).buffer) : null;
  const size = cell.input.shape.reduce((product, one) => product * one, 1);
  const tensor = (values) => ({ [cell.input.name]: new ort.Tensor(cell.input.dtype, values, cell.input.shape) });
  const example = (index) => tensor(inputs ? inputs.slice(index * size, (index + 1) * size) : new Values(size));
  const infer = async (feeds) => (await session.run(feeds, [cell.output.name]))[cell.output.name];

  const first = performance.now();
  await infer(example(0));
  const first_inference_ns = since(first);
  const found = { fetch_ns, compile_ns, load_first_ns, load_again_ns, first_inference_ns, threads_used: started + 1 };

  if (cell.golden && round === 0) {
    const available = cell.golden.inputs.shape[0];
    const count = Math.min(protocol.golden_inputs || available, available);
    const width = cell.output.shape.reduce((product, one) => product * one, 1);
    const answers = new Float32Array(count * width);
    for (let index = 0; index < count; index += 1) {
      answers.set(Float32Array.from((await infer(example(index))).data), index * width);
    }
    found.answers = base64(new Uint8Array(answers.buffer));
  }

  const feeds = example(0);
  for (let number = 0; number < protocol.warm_up_iterations; number += 1) await infer(feeds);
  const probing = performance.now();
  await infer(feeds);
  const pace = protocol.pace_milliseconds ?? 0;
  const inferences_per_sample = pace ? 1 : inferencesPerSample(since(probing), step);
  const samples_ns = [];
  const start = performance.now();
  const enough = () => (
    samples_ns.length >= protocol.iterations_per_round && performance.now() - start >= protocol.seconds_per_round * 1000
  );
  while (!enough()) {
    const pause = start + samples_ns.length * pace - performance.now();
    if (pause > 0) await new Promise((resolve) => { setTimeout(resolve, pause); });
    const before = performance.now();
    for (let number = 0; number < inferences_per_sample; number += 1) await infer(feeds);
    samples_ns.push(Math.round(since(before) / inferences_per_sample));
  }
  await session.release();
  return { status: "done", samples_ns, inferences_per_sample, ...found };
}

self.onmessage = async ({ data }) => {
  try {
    self.postMessage(await measure(data.task, data.base));
  } catch (error) {
    self.postMessage({ status: "failed", error: String(error?.message ?? error).split("\n")[0].slice(0, 300) });
  }
};
