// Search in photos that never leave the page: npm install, then npm run vite or npm run esbuild. Put a bundle of the
// target onnx into dist/bundle, and serve dist.
import { Index, IndexWriter } from "mobileclip";
import { connect } from "mobileclip/worker";

const [photos, text, matches] = ["photos", "text", "matches"].map((id) => document.getElementById(id));
const model = connect(new Worker(new URL("./worker.js", import.meta.url), { type: "module" }));
const writer = IndexWriter.create(await (await fetch("/bundle/manifest.json")).json());
let library = null;

function show(lines) {
  matches.replaceChildren(...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
}

async function add(files) {
  const [ids, embeddings, refused] = [[], [], []];
  for (const file of files) {
    if (writer.contains(file.name)) continue;
    try {
      embeddings.push(await model.embedImage(file));
      ids.push(file.name);
    } catch (error) {
      if (error.code !== "picture") throw error;
      refused.push(`${file.name}: ${error.message}`);
    }
  }
  writer.add(ids, embeddings); // one block for all: an index of many small ones is slow
  library = Index.open(writer.commit());
  show([`${library.length} photos`, ...refused]);
}

async function search(query) {
  if (library === null) return show(["choose photos first"]);
  const answer = await model.search(library, query, { top: 5 });
  show(answer.found ? answer.matches.map(({ id, score }) => `${score.toFixed(3)} ${id}`) : ["nothing found"]);
}

const report = (work) => work.catch((error) => show([String(error.message)]));
photos.onchange = () => report(add([...photos.files]));
text.onchange = () => report(search(text.value));
photos.disabled = false;
