// Writes src/products_wasm.js from src/products.wat, by the npm package wabt: node compile.mjs > src/products_wasm.js

import { readFileSync } from "node:fs";
import wabt from "wabt";

const text = readFileSync(new URL("src/products.wat", import.meta.url), "utf8");
const { buffer } = (await wabt()).parseWat("products.wat", text, { simd: true }).toBinary({});
const lines = Buffer.from(buffer).toString("base64").match(/.{1,116}/g);
console.log(`// Written by compile.mjs from products.wat.\nexport const PRODUCTS = \`\n${lines.join("\n")}\n\`;`);
