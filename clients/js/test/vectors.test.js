// The vectors that the clients of every language answer alike (clients/vectors).

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Index, MobileCLIP, prepare, Tokenizer } from "../src/mobileclip.js";
import { rgb } from "../src/pictures.js";
import { byNumbers, integerProducts } from "../src/products.js";

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
  const merges = read("merges.txt").replaceAll("\n", "\r\n");
  const windows = new Tokenizer(JSON.parse(read("vocab.json")), merges, settings);
  assert.deepEqual(windows.ids("a photo of a dog"), tokenizer.ids("a photo of a dog"));
  assert.throws(() => new Tokenizer(JSON.parse(read("vocab.json")), merges.slice(0, merges.length / 2), settings), refused("bundle"));
  assert.throws(() => new Tokenizer({ a: 1 }, read("merges.txt"), settings).ids("dog"), refused("bundle"));
});

const manifest = bundle && JSON.parse(readFileSync(`${bundle}/manifest.json`));
const reading = (changed) => async (name) => {
  const found = changed(name);
  return found ?? new Uint8Array(readFileSync(`${bundle}/${name}`)).buffer;
};
const changed = (changes) => reading((name) => name === "manifest.json" && new TextEncoder().encode(JSON.stringify({ ...manifest, ...changes })));

for (const [what, code, read] of [
  ["a newer schema", "newer", () => changed({ schema_version: 3 })],
  ["another target", "bundle", () => changed({ target: "coreml" })],
  ["a tokenizer that is not known", "bundle", () => changed({ tokenizer: { ...manifest.tokenizer, kind: "sentencepiece" } })],
  ["pixels that this package does not make", "bundle", () => {
    const image = { ...manifest.towers.image, input: { ...manifest.towers.image.input, range: [-1, 1] } };
    return changed({ towers: { ...manifest.towers, image } });
  }],
  ["no JSON", "bundle", () => reading((name) => name === "manifest.json" && new TextEncoder().encode("<html>"))],
]) {
  test(`a bundle is refused before anything is loaded: ${what}`, needs, async () => {
    const ort = { InferenceSession: { create: () => assert.fail("a model was loaded") } };
    await assert.rejects(MobileCLIP.load(read(), ort), refused(code));
  });
}
