// A real bundle in onnxruntime: its golden answers, classes, search, and what an app does wrong.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { Index, IndexWriter, MobileCLIP } from "../src/mobileclip.js";
import { folder } from "../src/node.js";
import { connect, serve } from "../src/worker.js";

const { MOBILECLIP_BUNDLE: bundle, MOBILECLIP_LOCK: published, MOBILECLIP_ORT: place } = process.env;
const refused = (code) => (error) => error.name === "MobileCLIPError" && error.code === code;

describe("a bundle", { skip: bundle && place ? false : "MOBILECLIP_BUNDLE and MOBILECLIP_ORT name none: pytest tests/clients does" }, () => {
  let model;
  let ort;
  let size;
  before(async () => {
    ort = await import(`${place}/ort.wasm.min.mjs`);
    ort.env.wasm.wasmPaths = `${pathToFileURL(place).href}/`;
    ort.env.wasm.numThreads = 1;
    ort.env.logLevel = "error";
    model = await MobileCLIP.load(folder(bundle), ort);
    size = model.imageSize;
  });
  const picture = (value) => ({ data: new Uint8ClampedArray(3 * size * size).fill(value), width: size, height: size });

  test("answers as the checkpoint does", async () => {
    for (const { passed, relative, inputs } of await model.selfTest()) {
      assert.ok(passed);
      assert.ok(relative < 1e-5);
      assert.ok(inputs >= 16);
    }
  });

  test("says what was cut from a text that is too long", async () => {
    const [short, long] = await model.embedTexts(["a dog", "dog ".repeat(100)]);
    assert.deepEqual([short.cut, long.cut, long.tokens], [false, true, 102]);
  });

  test("gives probabilities of labels", async () => {
    const labels = await model.labels(["pizza", "a red car", "costs $& more"]);
    const found = labels.classify(await model.embedImage(picture(120)));
    assert.equal(found.length, 3);
    assert.ok(Math.abs(found.reduce((sum, { probability }) => sum + probability, 0) - 1) < 1e-6);
    assert.ok(found[0].probability >= found[1].probability);
    assert.throws(() => labels.classify({ values: new Float32Array(128), embeddingSpace: "another" }), refused("space"));
    const { prompts } = JSON.parse(readFileSync(new URL("../../vectors/refusals.json", import.meta.url)));
    for (const { what, names, template } of prompts) await assert.rejects(model.labels(names, template), refused("query"), what);
  });

  test("embeds many with progress, until it is cancelled", async () => {
    const seen = [];
    const cancel = new AbortController();
    const onProgress = (done) => { seen.push(done); if (done === 2) cancel.abort(); };
    const pictures = [1, 2, 3, 4].map(picture);
    await assert.rejects(model.embedImages(pictures, { onProgress, signal: cancel.signal }), refused("cancelled"));
    assert.deepEqual(seen, [1, 2]);
    const together = await Promise.all(pictures.map((one) => model.embedImage(one)));
    assert.deepEqual(together, await model.embedImages(pictures));
  });

  test("answers the same behind a port, and tells the same errors", async () => {
    const { port1, port2 } = new MessageChannel();
    serve(async () => model, port2);
    const remote = connect(port1);
    try {
      assert.deepEqual(await remote.embedImage(picture(7)), await model.embedImage(picture(7)));
      assert.deepEqual(await remote.embedTexts(["a dog"]), await model.embedTexts(["a dog"]));
      assert.deepEqual(await remote.embedText("a dog"), await model.embedText("a dog"));
      const labels = await remote.labels(["pizza", "a red car"]);
      const embedded = await model.embedImage(picture(120));
      assert.deepEqual(labels.classify(embedded), (await model.labels(["pizza", "a red car"])).classify(embedded));
      assert.equal((await remote.selfTest()).length, 2);
      await assert.rejects(remote.embedImage({ data: new Uint8Array(7), width: 2, height: 2 }), refused("picture"));
      assert.equal(await remote.needed(embedded, 10), undefined);
    } finally {
      port1.close();
    }
  });

  test("refuses what is no picture, and values outside of 0 to 1", async () => {
    await assert.rejects(model.embedImage({ data: new Uint8Array(7), width: 2, height: 2 }), refused("picture"));
    const values = new Float32Array(3 * size * size).fill(0.5);
    assert.equal((await model.embedPixels(values)).values.length, model.manifest.embed_dim);
    await assert.rejects(model.embedPixels(values.map((one) => one * 255)), refused("range"));
    await assert.rejects(model.embedPixels(values.fill(NaN, 3, 4)), refused("range"));
    await assert.rejects(model.embedPixels(values.subarray(1)), refused("range"));
  });

  test("blue and red exchanged is another answer", async () => {
    const data = Uint8ClampedArray.from({ length: 3 * 90 * 90 }, (_, index) => (index * 7919) % 256);
    const given = { data, width: 90, height: 90 };
    const bgr = { ...given, data: data.map((_, index) => data[index - (index % 3) + 2 - (index % 3)]) };
    const [one, other] = await model.embedImages([given, bgr]);
    const cosine = one.values.reduce((sum, value, index) => sum + value * other.values[index], 0);
    assert.ok(cosine < 0.999);
  });

  const changed = (name, change) => async (file) => {
    const { buffer, byteOffset, byteLength } = readFileSync(`${bundle}/${file}`);
    return file === name ? change(Buffer.from(buffer, byteOffset, byteLength).toString()) : buffer.slice(byteOffset, byteOffset + byteLength);
  };

  test("is held to the lock of publish, each file that it opens", { skip: published ? false : "MOBILECLIP_LOCK names none: pytest tests/clients does" }, async () => {
    const lock = JSON.parse(readFileSync(published));
    const opened = [];
    const read = (name) => { opened.push(name); return folder(bundle)(name); };
    assert.ok((await (await MobileCLIP.load(read, ort, { lock })).selfTest()).every(({ passed }) => passed));
    for (const name of new Set(opened)) {
      const changed = { ...lock, files: { ...lock.files, [name]: { sha256: "0".repeat(64) } } };
      const tested = async () => (await MobileCLIP.load(folder(bundle), ort, { lock: changed })).selfTest();
      await assert.rejects(tested(), (error) => error.code === "bundle" && error.message.startsWith(`${name} is not the file in the lock`), name);
    }
    assert.equal(new Set(opened).size, 6);
  });

  test("tells a vocabulary of another checkpoint by the golden texts", async () => {
    const other = changed("tokenizer/vocab.json", (text) => {
      const vocabulary = JSON.parse(text);
      [vocabulary["photo</w>"], vocabulary["dog</w>"]] = [vocabulary["dog</w>"], vocabulary["photo</w>"]];
      return new TextEncoder().encode(JSON.stringify(vocabulary));
    });
    await assert.rejects((await MobileCLIP.load(other, ort)).selfTest(), refused("bundle"));
  });

  test("refuses a library of the old bundle, and pictures of the new one in it", async () => {
    const old = await model.embedImage(picture(120));
    const writer = IndexWriter.create(model.manifest);
    writer.add(["a"], [old]);
    const library = Index.open(writer.commit());
    assert.equal((await model.search(library, old)).matches[0].id, "a");
    const other = changed("manifest.json", (text) => new TextEncoder().encode(text.replaceAll(model.embeddingSpace, "nano-another")));
    const changedModel = await MobileCLIP.load(other, ort);
    await assert.rejects(changedModel.search(library, "a dog"), refused("space"));
    await assert.rejects(changedModel.needed(await model.embedText("a dog"), 10), refused("space"));
    const now = await changedModel.embedImage(picture(120));
    assert.throws(() => writer.add(["b"], [now]), refused("space"));
  });

  test("loads the image tower alone where the tokenizer is not known", async () => {
    const other = changed("manifest.json", (text) => {
      const told = JSON.parse(text);
      Object.assign(told.tokenizer, { kind: "sentencepiece", sot: null });
      return new TextEncoder().encode(JSON.stringify(told));
    });
    await assert.rejects(MobileCLIP.load(other, { InferenceSession: { create: () => assert.fail("loaded") } }), refused("bundle"));
    const image = await MobileCLIP.load(other, ort, { towers: ["image"] });
    assert.deepEqual(await image.embedImage(picture(120)), await model.embedImage(picture(120)));
  });

  test("judges each label alone where the network has a bias", async () => {
    const other = changed("manifest.json", (text) => new TextEncoder().encode(JSON.stringify({ ...JSON.parse(text), logit_bias: -7.5 })));
    const each = await MobileCLIP.load(other, ort);
    const [image, text] = [await each.embedImage(picture(120)), await each.embedText("a dog")];
    const cosine = image.values.reduce((sum, value, index) => sum + value * text.values[index], 0);
    for (const { probability } of (await each.labels(["a dog", "a cat"], "{}")).classify(image).filter(({ label }) => label === "a dog")) {
      assert.ok(Math.abs(probability - 1 / (1 + Math.exp(7.5 - each.manifest.logit_scale * cosine))) < 1e-9);
    }
  });

  test("another filter is another answer", async () => {
    const other = changed("manifest.json", (text) => new TextEncoder().encode(text.replace('"bilinear"', '"bicubic"')));
    const given = { data: Uint8ClampedArray.from({ length: 3 * 90 * 90 }, (_, index) => (index * 7919) % 256), width: 90, height: 90 };
    const [one, two] = [await model.embedImage(given), await (await MobileCLIP.load(other, ort)).embedImage(given)];
    assert.ok(one.values.reduce((sum, value, index) => sum + value * two.values[index], 0) < 0.9999);
  });

  test("fails its own test where the golden file is cut or a tower answers wrongly", async () => {
    const cut = async (name) => {
      const { buffer, byteOffset, byteLength } = readFileSync(`${bundle}/${name}`);
      const whole = buffer.slice(byteOffset, byteOffset + byteLength);
      return name === "golden.safetensors" ? whole.slice(0, whole.byteLength / 2) : whole;
    };
    await assert.rejects((await MobileCLIP.load(cut, ort, { towers: ["image"] })).selfTest(), refused("bundle"));
    const image = await MobileCLIP.load(folder(bundle), ort, { towers: ["image"] });
    const { run } = image.sessions.image;
    image.sessions.image.run = async (feeds) => {
      const found = await run.call(image.sessions.image, feeds);
      for (const { data } of Object.values(found)) data.reverse();
      return found;
    };
    assert.deepEqual((await image.selfTest()).map(({ passed }) => passed), [false]);
    await assert.rejects(image.embedTexts(["a dog"]), refused("bundle"));
  });
});
