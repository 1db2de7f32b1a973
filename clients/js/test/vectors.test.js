// The vectors that the clients of every language answer alike (clients/vectors).

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { check, understood } from "../src/manifest.js";
import { answer, Index, IndexWriter, LearnedLabels, MobileCLIP, prepare, Tokenizer } from "../src/mobileclip.js";
import { rgb, upright } from "../src/pictures.js";
import { byNumbers, integerProducts } from "../src/products.js";
import { present } from "../src/labels.js";
import { locked } from "../src/lock.js";
import { Relevance } from "../src/relevance.js";
import { parse } from "../src/safetensors.js";
import { orientation } from "../src/webp.js";

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../vectors/${name}.json`, import.meta.url)));
const refused = (code) => (error) => error.name === "MobileCLIPError" && error.code === code;

// x becomes (1664525 x + 1013904223) mod 2^32, and gives its highest byte.
function noise(count, seed) {
  const found = new Uint8ClampedArray(count);
  for (let index = 0, x = seed; index < count; index += 1) {
    x = (Math.imul(1664525, x) + 1013904223) >>> 0;
    found[index] = x >>> 24;
  }
  return found;
}

for (const { width, height, channels, seed, preprocess, sha256 } of vectors("resize").cases) {
  const how = `${preprocess.resize} ${preprocess.interpolation} to ${preprocess.size}`;
  test(`pixels of ${width} x ${height} x ${channels}, ${how}`, () => {
    const data = rgb({ data: noise(width * height * channels, seed), width, height });
    const bytes = Uint8Array.from(prepare(data, width, height, preprocess), (value) => Math.round(255 * value));
    assert.equal(createHash("sha256").update(bytes).digest("hex"), sha256);
  });
}

for (const { store, index, length, top, queries } of vectors("search").cases) {
  test(`search in an index of ${store}`, () => {
    const opened = Index.open(Buffer.from(index, "base64"));
    assert.equal(opened.length, length);
    assert.equal(opened.store, store);
    for (const { query, found } of queries) {
      const answer = opened.search({ values: query, embeddingSpace: vectors("search").embedding_space }, top);
      assert.deepEqual(answer.map(({ id, row }) => [id, row]), found.map(({ id, row }) => [id, row]));
      answer.forEach(({ score }, place) => assert.ok(Math.abs(score - found[place].score) < 1e-6));
    }
  });
}

for (const { what, code, index } of vectors("search").refused) {
  test(`an index is refused: ${what}`, () => {
    assert.throws(() => Index.open(Buffer.from(index, "base64")), refused(code));
  });
}

for (const { what, code, index } of vectors("hostile").indices) {
  test(`a damaged index is refused: ${what}`, () => {
    assert.throws(() => Index.open(Buffer.from(index, "base64")), refused(code));
  });
}

for (const { what, code, index } of vectors("hostile").unsearchable) {
  test(`an index that cannot be searched is refused: ${what}`, () => {
    assert.throws(() => Index.open(Buffer.from(index, "base64")).search([1, 0, 0, 0, 0, 0, 0, 0], 2), refused(code));
  });
}

for (const { what, code, file } of vectors("hostile").tensors) {
  test(`a damaged file of tensors is refused: ${what}`, () => {
    assert.throws(() => parse(new Uint8Array(Buffer.from(file, "base64")).buffer, "golden.safetensors"), refused(code));
  });
}

for (const { what, index, ids, rows, stamps } of vectors("hostile").holds) {
  test(`what an index holds: ${what}`, () => {
    const opened = Index.open(Buffer.from(index, "base64"));
    assert.deepEqual([opened.ids, opened.rows, opened.length], [ids, rows, ids.length]);
    // JSON's numbers end at 2^53.
    assert.deepEqual(rows.map((row) => Number(opened.stamp(row))), stamps);
    assert.deepEqual(ids.map((id) => opened.row(id)), rows);
    assert.deepEqual([opened.contains("none"), opened.row("none")], [false, undefined]);
    for (const row of [-1, opened.rowCount, 0.5, NaN, "0"]) {
      assert.throws(() => opened.id(row), refused("index"));
      assert.throws(() => opened.stamp(row), refused("index"));
    }
  });
}

const number = (value) => (typeof value === "string" ? Number(value.replace("inf", "Inf")) : value);

test("requests that have no answer are refused before anything runs", async () => {
  const { labels, search, code } = vectors("refusals");
  const model = Object.assign(new MobileCLIP(), { manifest: { template: "{}" } });
  for (const { what, names, template } of labels) await assert.rejects(model.labels(names, template), refused(code), what);
  const index = Index.open(Buffer.from(vectors("hostile").holds[1].index, "base64"));
  const embedded = { embedText: async () => ({ values: new Float32Array(8).fill(1), embeddingSpace: "s", tokens: 3 }), needed: async () => undefined };
  for (const { what, text, top, threshold } of search) {
    await assert.rejects(answer(embedded, index, text, { top, threshold: number(threshold) }), refused(code), what);
  }
  for (const names of ["a dog", undefined, ["a dog", 3], ["a dog", undefined]]) await assert.rejects(model.labels(names), refused("query"));
  const text = Object.assign(new MobileCLIP(), { manifest: { tokenizer: {} }, sessions: { text: {} } });
  for (const texts of ["a dog", undefined, [3], [null]]) await assert.rejects(text.embedTexts(texts), refused("query"));
  for (const query of [undefined, null, 3, {}, { values: 3, embeddingSpace: "s" }]) assert.throws(() => index.search(query), refused("query"));
  for (const top of [1.5, NaN, Infinity, "3"]) assert.throws(() => index.search(new Float32Array(8).fill(1), top), refused("query"));
  const floats = { data: new Float32Array(12), width: 2, height: 2 };
  for (const picture of [floats, undefined, {}, { data: new Uint8Array(12), width: 2.5, height: 1.6 }]) {
    assert.throws(() => rgb(picture), refused("picture"));
  }
  assert.throws(() => upright(undefined, 6), refused("picture"));
  for (const bytes of [undefined, "MCDX", 3]) assert.throws(() => Index.open(bytes), refused("index"));
});

test("the orientation of a WebP file is read, and of a damaged one nothing is", () => {
  const webp = Buffer.from("UklGRk4AAABXRUJQVlA4WAoAAAAIAAAAAQAAAAAAVlA4TA4AAAAvAQAAAAcQEf0PRET/A0VYSUYaAAAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAA=", "base64");
  assert.equal(orientation(webp), 6);
  assert.equal(orientation(Buffer.concat([webp, Buffer.alloc(7)])), 6);
  for (let cut = 0; cut < webp.length; cut += 1) assert.ok([1, 6].includes(orientation(webp.subarray(0, cut))));
  assert.equal(orientation(Buffer.from("not a picture at all")), 1);
});

test("sums of products are the same by vectors and by numbers, at every width", () => {
  for (const width of [1, 3, 15, 16, 17, 31, 32, 100, 512, 65536]) {
    const count = width > 1000 ? 40 : 300;
    const [rows, query] = [new Int8Array(noise(width * count, 1).buffer), new Int8Array(noise(width, 2).buffer)];
    assert.deepEqual(integerProducts(rows, query, count), byNumbers(rows, query, count));
  }
  const extreme = new Int8Array(65536).fill(-127);
  assert.deepEqual(integerProducts(extreme, extreme, 1), Int32Array.of(65536 * 127 * 127));
});

test("a query of another space, of another length or that is none is refused", () => {
  const opened = Index.open(Buffer.from(vectors("search").cases[0].index, "base64"));
  const query = vectors("search").cases[0].queries[0].query;
  assert.throws(() => opened.search({ values: query, embeddingSpace: "another" }), refused("space"));
  assert.throws(() => opened.search(query.slice(1)), refused("space"));
  assert.throws(() => opened.search(query.with(3, NaN)), refused("query"));
  assert.throws(() => opened.search(query.map(() => 0)), refused("query"));
  assert.throws(() => opened.search(query, 0), refused("query"));
});

test("what is written is read by the same rules, and a slot that is half written leaves what was before", () => {
  const embeddingSpace = "s";
  const picture = (row) => ({ values: Float32Array.from(new Int8Array(noise(40, row).buffer)), embeddingSpace });
  const names = Array.from({ length: 50 }, (_, row) => (row === 7 ? "Кот 🐈.png" : `IMG_${row}.jpg`));
  const add = (writer, rows) => writer.add(rows.map((row) => names[row]), rows.map(picture));
  const rows = names.map((_, row) => row);
  const writer = IndexWriter.create({ embedding_space: embeddingSpace, variant: "nano", embed_dim: 40, int8_scale: 0.004 });
  assert.throws(() => IndexWriter.create({ embedding_space: embeddingSpace, variant: "nano", embed_dim: 40 }), refused("index"));
  add(writer, rows.slice(0, 30));
  const first = writer.commit();
  assert.throws(() => add(writer, [3]), refused("index"));
  assert.throws(() => writer.add(["x"], [{ values: new Float32Array(40), embeddingSpace: "t" }]), refused("space"));
  assert.throws(() => writer.add(["x"], [{ values: new Float32Array(39), embeddingSpace }]), refused("space"));
  assert.throws(() => writer.add(["x"], [{ values: new Float32Array(40), embeddingSpace }]), refused("query"));
  assert.throws(() => writer.remove([30]), refused("index"));
  const again = IndexWriter.open(first);
  again.remove([4]);
  again.commit();
  add(again, [...rows.slice(30), 4]);
  const bytes = again.commit();
  const index = Index.open(bytes);
  assert.equal(index.length, 50);
  for (const row of rows) {
    const [best] = index.search(picture(row), 1);
    assert.deepEqual([best.id, best.score > 0.98], [names[row], true]);
  }
  if (process.env.MOBILECLIP_WRITTEN) writeFileSync(process.env.MOBILECLIP_WRITTEN, bytes);
  let whole = Buffer.from(vectors("search").cases[0].index, "base64"); // Python's
  const before = Index.open(whole).length;
  for (const commit of [1, 2]) {
    const own = IndexWriter.open(whole);
    own.remove([commit]);
    whole = own.commit();
    assert.equal(Index.open(whole).length, before - commit);
    const half = whole.slice();
    half.fill(0, Index.open(whole).slot.at, Index.open(whole).slot.at + 32);
    assert.equal(Index.open(half).length, before - commit + 1);
  }
  assert.throws(() => IndexWriter.open(Buffer.from(vectors("search").cases[4].index, "base64")), refused("index"));
});

test("a writer gathers, removes by id, keeps stamps, and compacts", () => {
  const embeddingSpace = "s";
  const embedding = (row) => ({ values: Float32Array.from(new Int8Array(noise(40, row).buffer)), embeddingSpace });
  const writer = IndexWriter.create({ embedding_space: embeddingSpace, variant: "nano", embed_dim: 40, int8_scale: 0.004 });
  for (let row = 0; row < 2000; row += 1) writer.add([`${row}`], [embedding(row)], [BigInt(row)]);
  writer.removeIds(["7", "none"]);
  writer.add(["7"], [embedding(7)], [2n ** 64n - 1n]);
  assert.deepEqual([writer.contains("7"), writer.contains("none"), writer.ids.length], [true, false, 2000]);
  let index = Index.open(writer.commit());
  assert.deepEqual([index.blockCount, index.length, index.row("7"), index.stamp(2000)], [1, 2000, 2000, 2n ** 64n - 1n]);
  for (let row = 0; row < 30; row += 1) { // each alone, as an app may do it
    writer.removeIds([`${row}`]);
    writer.add([`${row}.jpg`], [embedding(row)]);
    writer.commit();
  }
  index = Index.open(writer.commit());
  assert.equal(index.blockCount, 31);
  const found = index.search(embedding(12), 5);
  const compacted = Index.open(writer.compact());
  assert.deepEqual([compacted.blockCount, compacted.rowCount, compacted.length], [1, 2000, 2000]);
  assert.deepEqual(compacted.ids, index.ids);
  assert.deepEqual(compacted.rows.map((row) => compacted.stamp(row)), index.rows.map((row) => index.stamp(row)));
  assert.deepEqual(compacted.search(embedding(12), 5).map(({ id, score }) => [id, score]), found.map(({ id, score }) => [id, score]));
  assert.throws(() => writer.add(["x"], [embedding(1)], [-1]), refused("query"));
  assert.throws(() => writer.add(["x"], []), refused("query"));
  assert.throws(() => writer.add("x", [embedding(1)]), refused("query"));
  assert.throws(() => writer.add([3], [embedding(1)]), refused("query"));
  assert.throws(() => writer.add(["x"], [undefined]), refused("query"));
});

const bundle = process.env.MOBILECLIP_BUNDLE;
const needs = bundle ? {} : { skip: "MOBILECLIP_BUNDLE names no bundle: pytest tests/clients does" };

test("the tokenizer gives open_clip's ids", needs, () => {
  const read = (name) => readFileSync(`${bundle}/tokenizer/${name}`, "utf8");
  const { tokenizer: settings } = JSON.parse(readFileSync(`${bundle}/manifest.json`));
  const tokenizer = new Tokenizer(JSON.parse(read("vocab.json")), read("merges.txt"), settings);
  const { vectors: texts, context_length: length } = vectors("tokenizer");
  assert.equal(texts.length, 1000);
  for (const { text, ids } of texts) {
    assert.deepEqual(tokenizer.ids(text).ids, [...ids, ...Array(length - ids.length).fill(0)], text);
  }
  const { rest, tokens } = tokenizer.ids(`one ${"dog ".repeat(80)}Cat.`);
  assert.deepEqual([rest, tokens, tokenizer.ids("a dog").rest], ["dog dog dog dog dog dog cat.", 85, ""]);
  const merges = read("merges.txt").replaceAll("\n", "\r\n");
  const windows = new Tokenizer(JSON.parse(read("vocab.json")), merges, settings);
  assert.deepEqual(windows.ids("a photo of a dog"), tokenizer.ids("a photo of a dog"));
  assert.throws(() => new Tokenizer(JSON.parse(read("vocab.json")), merges.slice(0, merges.length / 2), settings), refused("bundle"));
  assert.throws(() => new Tokenizer({ a: 1 }, read("merges.txt"), settings).ids("dog"), refused("bundle"));
});

for (const { what, target, code, manifest, found } of vectors("manifests").cases) {
  if (target !== "onnx") continue;
  test(`a manifest is ${code ? "refused before anything is loaded" : "read"}: ${what}`, async () => {
    if (code) {
      const ort = { InferenceSession: { create: () => assert.fail("a model was loaded") } };
      await assert.rejects(MobileCLIP.load(async () => new TextEncoder().encode(manifest), ort), refused(code));
      return;
    }
    const { embedding_space, embed_dim, logit_scale, template, tokenizer, preprocess, towers } = understood(manifest);
    Object.keys(towers).forEach((tower) => check(JSON.parse(manifest), tower));
    const image_size = preprocess.size;
    const context_length = tokenizer?.context_length ?? 0;
    assert.deepEqual({ embedding_space, embed_dim, logit_scale, template, context_length, image_size, towers: Object.keys(towers).sort() }, found);
  });
}

test("one file of both towers is refused with what to do", () => {
  const { manifest } = vectors("manifests").cases.find(({ what }) => what === "one file of both towers");
  for (const tower of ["image", "text"]) assert.throws(() => check(understood(manifest), tower), { code: "bundle", message: /in place of --joint only/ });
});

test("a bundle of another target is refused", async () => {
  const { manifest } = vectors("manifests").cases.find(({ target }) => target !== "onnx");
  assert.throws(() => understood(manifest), refused("bundle"));
});

for (const { what, layout, orientation, width, height, seed, sha256 } of vectors("pictures").cases) {
  if (!["rgb", "rgba"].includes(layout)) continue; // a canvas makes these of all others
  test(`colours of ${layout} ${width} x ${height}, orientation ${orientation}: ${what}`, () => {
    const data = noise(width * height * layout.length, seed);
    const bytes = rgb(upright({ data, width, height }, orientation));
    assert.equal(createHash("sha256").update(bytes).digest("hex"), sha256);
  });
}

for (const { what, code, width, height, bytes } of vectors("pictures").refused) {
  test(`a picture is refused: ${what}`, () => {
    assert.throws(() => rgb({ data: new Uint8Array(bytes), width, height }), refused(code));
  });
}

test("the labels that are present are Python's", () => {
  for (const { probabilities, present: wanted, ...thresholds } of vectors("tags").cases) {
    assert.deepEqual(present(thresholds, Float32Array.from(probabilities)), wanted);
  }
});

test("labels of a file are Python's", () => {
  const { file, embedding_space: embeddingSpace, labels: names, embeddings } = vectors("tags").learned;
  const labels = LearnedLabels.open(Buffer.from(file, "base64"));
  assert.deepEqual([labels.names, labels.embeddingSpace], [names, embeddingSpace]);
  for (const { values, probabilities, present: wanted } of embeddings) {
    const embedding = { values, embeddingSpace };
    assert.deepEqual(labels.tags(embedding).map(({ label }) => label), wanted);
    for (const { label, probability } of labels.classify(embedding)) assert.ok(Math.abs(probability - probabilities[label]) < 1e-6);
  }
  const [{ values }] = embeddings;
  assert.throws(() => labels.tags({ values, embeddingSpace: "another" }), refused("space"));
  assert.throws(() => labels.tags({ values: values.slice(1), embeddingSpace }), refused("space"));
  for (const { what, code, file: broken } of vectors("tags").refused) {
    assert.throws(() => LearnedLabels.open(Buffer.from(broken, "base64")), refused(code), what);
  }
});

test("what a text needs of its nearest picture is Python's", () => {
  const { file, manifest, queries, needed } = vectors("relevance");
  const bytes = new Uint8Array(Buffer.from(file, "base64")).buffer;
  const relevance = new Relevance(manifest, 40, bytes);
  for (const [size, wanted] of Object.entries(needed)) {
    queries.forEach((query, index) => assert.ok(Math.abs(relevance.needed(query, Number(size)) - wanted[index]) < 1e-6));
  }
  assert.throws(() => new Relevance(manifest, 41, bytes), refused("bundle"));
  assert.throws(() => new Relevance(manifest, 40, bytes.slice(0, 7000)), refused("bundle"));
  assert.throws(() => new Relevance({ ...manifest, slope: undefined }, 40, bytes), refused("bundle"));
});

test("a search says what is found, and that nothing is", async () => {
  const { cases, embedding_space: embeddingSpace } = vectors("search");
  const { index: file, queries } = cases[0];
  const index = Index.open(Buffer.from(file, "base64"));
  const text = { values: queries[0].query, embeddingSpace, tokens: 3 };
  const model = (needed) => ({ embedText: async () => text, needed: async () => needed });
  const sure = await answer(model(0.9), index, "a text");
  assert.deepEqual([sure.found, sure.needed, sure.matches[0].id], [true, 0.9, queries[0].found[0].id]);
  assert.deepEqual([sure.matches.length, sure.bridgedFrom], [10, undefined]);
  const none = await answer(model(1.1), index, text);
  assert.deepEqual([none.found, none.matches, none.best], [false, [], sure.best]);
  assert.ok((await answer(model(1.1), index, text, { threshold: -1, top: 3 })).matches.length === 3);
  assert.ok((await answer(model(1.1), index, { values: text.values, embeddingSpace })).found); // a picture is not judged
  assert.ok((await answer(model(undefined), index, text)).found);
  index.description = { ...index.description, tower: "text", bridged_from: "old" };
  assert.deepEqual([(await answer(model(1.1), index, text)).found, (await answer(model(1.1), index, text)).bridgedFrom], [true, "old"]);
});

for (const { what, code, lock } of vectors("locks").cases) {
  test(`a lock: ${what}`, async () => {
    const { files } = vectors("locks");
    const opened = async () => {
      const read = locked(async (name) => new TextEncoder().encode(files[name]), lock);
      for (const [name, text] of Object.entries(files)) assert.equal(new TextDecoder().decode(await read(name)), text);
    };
    await (code ? assert.rejects(opened(), refused(code)) : opened());
  });
}

test("a bundle is held to its lock before anything else is loaded", async () => {
  const [{ lock }] = vectors("locks").cases;
  const read = async () => new TextEncoder().encode("{}");
  const ort = { InferenceSession: { create: () => assert.fail("loaded") } };
  await assert.rejects(MobileCLIP.load(read, ort, { lock }), /^MobileCLIPError: manifest.json is not the file in the lock of someone\/nano@0123/);
  await assert.rejects(MobileCLIP.load(read, ort, { lock: null }), refused("bundle"));
});
