// CPU seconds of the median of some runs, after as many that do not count: `node clients_speed.mjs RUNS
// resize|[open:|write:]INDEX.mcdx`.
import { readFileSync } from "node:fs";
import { Index, IndexWriter, resize } from "../clients/js/src/mobileclip.js";

const [runs, what] = [Number(process.argv[2]), process.argv[3]];

// x becomes (1664525 x + 1013904223) mod 2^32, and gives its highest byte.
function noise(count, seed) {
  const found = new Uint8Array(count);
  for (let index = 0, x = seed; index < count; index += 1) {
    x = (Math.imul(1664525, x) + 1013904223) >>> 0;
    found[index] = x >>> 24;
  }
  return found;
}

let work;
if (what === "resize") {
  const picture = noise(3 * 4000 * 3000, 1);
  work = () => resize(picture, 4000, 3000, 341, 256, "bilinear");
} else if (what.includes(":")) {
  const [how, path] = what.split(":");
  work = () => (how === "write" ? IndexWriter : Index).open(readFileSync(path));
} else {
  const index = Index.open(readFileSync(what));
  const query = Float32Array.from(new Int8Array(noise(index.dimension, 7).buffer));
  work = () => index.search(query, 20);
}
const found = [];
for (let run = 0; run < 2 * runs; run += 1) {
  const start = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(start);
  if (run >= runs) found.push((user + system) / 1e6);
}
console.log(found.sort((one, other) => one - other)[runs >> 1]);
