// The page: what was chosen and typed goes to the worker, what it answers is shown. Nothing is computed here.

import { dot, probabilities } from "./mobileclip/vectors.js";

const by = (id) => document.getElementById(id);
const element = (tag, text, kind) => Object.assign(document.createElement(tag), { textContent: text ?? "", className: kind ?? "" });

const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
let last = 0;
worker.onmessage = ({ data: { id, found, error } }) => {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error === undefined) resolve(found); else reject(new Error(error));
};
worker.onerror = (event) => { by("state").textContent = `The page's worker has stopped: ${event.message ?? "unknown"}`; };
function ask(what, given = {}) {
  last += 1;
  worker.postMessage({ id: last, what, ...given });
  return new Promise((resolve, reject) => waiting.set(last, { resolve, reject }));
}

let settings;
let picture; // the chosen picture's embedding
const library = new Map(); // name -> {blob or address, values}

// Of each call only the newest shows: an answer to what was typed before must not replace a later one.
function newest(work) {
  let turn = 0;
  return async (...given) => {
    turn += 1;
    const own = turn;
    const show = await work(...given);
    if (own === turn) show?.();
  };
}

const classify = newest(async () => {
  const labels = [...new Set(by("labels").value.split("\n").map((line) => line.trim()).filter(Boolean))];
  if (!picture) return null;
  if (labels.length < 2) {
    return () => {
      by("answers").replaceChildren();
      by("label-problem").textContent = "Write two labels or more: one alone is always 100%.";
    };
  }
  const prompts = labels.map((label) => settings.template.replace("{}", () => label));
  const found = await ask("texts", { texts: prompts });
  const shares = probabilities(picture, found, settings.logit_scale);
  const rows = labels.map((label, index) => ({ label, share: shares[index] })).sort((a, b) => b.share - a.share);
  return () => {
    by("label-problem").textContent = "";
    by("answers").replaceChildren(...rows.map(({ label, share }) => {
      const row = element("li");
      const bar = Object.assign(document.createElement("meter"), { min: 0, max: 1, value: share });
      bar.setAttribute("aria-label", label);
      row.append(element("span", label), element("span", `${(100 * share).toFixed(1)}%`, "share"), bar);
      return row;
    }));
  };
});

const choose = newest(async (file) => {
  by("label-problem").textContent = "";
  try {
    const values = await ask("image", { blob: file });
    return () => {
      picture = values;
      if (by("shown").src) URL.revokeObjectURL(by("shown").src);
      Object.assign(by("shown"), { src: URL.createObjectURL(file), alt: file.name ?? "the chosen picture", hidden: false });
      classify();
    };
  } catch (error) {
    return () => { by("label-problem").textContent = `${file.name ?? "The picture"}: ${error.message}.`; };
  }
});

// Embeddings stay in this browser, by embedding space and by the picture's own bytes.
const store = new Promise((resolve) => {
  const asked = indexedDB.open("mobileclip-deploy", 1);
  asked.onupgradeneeded = () => asked.result.createObjectStore("embeddings");
  asked.onsuccess = () => resolve(asked.result);
  asked.onerror = () => resolve(null); // a private window: then nothing is kept
});
async function kept(mode, work) {
  const database = await store;
  if (!database) return undefined;
  return new Promise((resolve) => {
    const asked = work(database.transaction("embeddings", mode).objectStore("embeddings"));
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => resolve(undefined);
  });
}
async function key(blob) {
  const digest = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
  return `${settings.embedding_space} ${Array.from(new Uint8Array(digest), (one) => one.toString(16).padStart(2, "0")).join("")}`;
}

// At most this many unreadable pictures are named.
const NAMED = 5;
// `pictures`: [name, a promise of its blob or the blob] of each.
async function index(pictures) {
  let done = 0;
  const failed = [];
  by("progress").hidden = false;
  for (const [name, given] of pictures) {
    try {
      const blob = await (typeof given === "function" ? given() : given);
      if (blob.size > 100e6) throw new Error("larger than 100 MB");
      const place = await key(blob);
      let values = await kept("readonly", (all) => all.get(place));
      if (!values) {
        values = await ask("image", { blob });
        await kept("readwrite", (all) => all.put(values, place));
      }
      library.set(name, { given, values });
    } catch {
      failed.push(name);
    }
    done += 1;
    by("progress").value = done / pictures.length;
    const more = failed.length > NAMED ? ` and ${failed.length - NAMED} more` : "";
    const bad = failed.length ? `, ${failed.length} could not be read: ${failed.slice(0, NAMED).join(", ")}${more}` : "";
    by("indexed").textContent = done < pictures.length ? `${done} of ${pictures.length} pictures${bad}` : `${library.size} pictures ready${bad}.`;
  }
  by("progress").hidden = true;
}

let addresses = [];
const search = newest(async () => {
  const words = by("words").value.trim();
  const problem = !words ? "Type what you are looking for." : library.size === 0 ? "Choose a folder of pictures first." : "";
  if (problem) return () => { by("search-problem").textContent = problem; };
  const [text] = await ask("texts", { texts: [words] });
  const best = [...library].map(([name, { given, values }]) => ({ name, given, near: dot(values, text) }))
    .sort((a, b) => b.near - a.near).slice(0, 24);
  const blobs = await Promise.all(best.map(({ given }) => (typeof given === "function" ? given() : given)));
  return () => {
    by("search-problem").textContent = "";
    addresses.forEach((one) => URL.revokeObjectURL(one));
    addresses = blobs.map((blob) => URL.createObjectURL(blob));
    by("found").replaceChildren(...best.map(({ name, near }, place) => {
      const row = element("li");
      row.append(Object.assign(document.createElement("img"), { src: addresses[place], alt: name, loading: "lazy" }));
      row.append(element("span", `${name.split("/").pop()} (${near.toFixed(2)})`));
      return row;
    }));
  };
});

function listen() {
  by("picture").addEventListener("change", ({ target }) => { if (target.files[0]) choose(target.files[0]); });
  by("labels").addEventListener("input", classify);
  by("folder").addEventListener("change", ({ target }) => {
    const pictures = [...target.files].filter((file) => file.type.startsWith("image/"));
    index(pictures.map((file) => [file.webkitRelativePath || file.name, file]));
  });
  by("search").addEventListener("submit", (event) => { event.preventDefault(); search(); });
  const drop = by("drop");
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop" && event.dataTransfer.files[0]) choose(event.dataTransfer.files[0]);
    });
  }
}

function show({ checks, threads }, seconds) {
  const wrong = checks.filter((one) => !one.passed);
  by("state").textContent = wrong.length
    ? "This browser answers differently from the checkpoint. Do not use what it says."
    : `Ready in ${seconds.toFixed(1)} s, ${threads} thread${threads > 1 ? "s" : ""}.`;
  by("proof").hidden = false;
  const count = checks.reduce((sum, one) => sum + one.inputs, 0);
  const verdict = wrong.length ? "WRONG" : "equal to the checkpoint's";
  by("proof").querySelector("summary").replaceChildren(element("span", `Answers to ${count} golden inputs: ${verdict}`, wrong.length ? "wrong" : "right"));
  by("proof").querySelector("ul").replaceChildren(...checks.map((one) => element("li",
    `${one.tower}: worst cosine ${one.cosine.toFixed(6)}, relative ${one.relative.toExponential(1)} over ${one.inputs}; gate ${one.metric} ${one.bound}`)));
}

async function main() {
  const inputs = document.querySelectorAll("input, textarea, button");
  inputs.forEach((one) => { one.disabled = true; });
  const begun = performance.now();
  settings = await (await fetch("settings.json")).json();
  by("model").textContent = settings.title;
  by("licence").textContent = settings.licence;
  by("labels").value = settings.labels.join("\n");
  if (settings.offline && navigator.serviceWorker) {
    navigator.serviceWorker.addEventListener("message", ({ data }) => {
      by("kept").textContent = `This browser does not keep the page (${data.notKept}): to open it again needs a network.`;
    });
    navigator.serviceWorker.startMessages(); // what was sent while the page was read
    navigator.serviceWorker.register("offline.js").catch(() => {});
  }
  listen();
  show(await ask("start", { settings }), (performance.now() - begun) / 1000);
  inputs.forEach((one) => { one.disabled = false; });
  if (settings.images.length) {
    await index(settings.images.map((name, number) => [name, async () => (await fetch(`images/${number}`)).blob()]));
  }
}

main().catch((error) => { by("state").textContent = `Stopped: ${error.message}`; });
