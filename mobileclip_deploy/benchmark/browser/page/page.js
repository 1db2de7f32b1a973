// Requests rounds in sequence. Runs each round in its own worker, so that rounds share no state.

const state = document.getElementById("state");

const awake = document.getElementById("awake");
const WORD_MS = 10_000;
let lock = null;
let wasHidden = document.hidden;

// A phone's screen locks after 30 seconds, and the page stops with it. The lock is lost whenever the page is hidden.
async function keepAwake() {
  if (document.hidden) wasHidden = true;
  if (!document.hidden && (lock?.released ?? true)) lock = await navigator.wakeLock?.request("screen").catch(() => null) ?? null;
  awake.hidden = Boolean(lock && !lock.released);
  await word();
}

// Reports to the server that this page is open, and whether it is in the foreground.
async function word() {
  await post("word", JSON.stringify({ hidden: document.hidden, awake: Boolean(lock && !lock.released) })).catch(() => null);
}

async function post(name, body) {
  const answer = await fetch(name, { method: "POST", body });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found?.error ?? `the server answered ${answer.status}`);
  return found;
}

// The smallest step of performance.now(), to which a browser rounds times. In nanoseconds.
function clockStep() {
  let smallest = Infinity;
  for (let found = 0, last = performance.now(); found < 40; ) {
    const now = performance.now();
    if (now === last) continue;
    smallest = Math.min(smallest, now - last);
    last = now;
    found += 1;
  }
  return Math.max(1, Math.round(smallest * 1e6));
}

async function adapter() {
  const found = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  if (!found) return {};
  const info = found.info ?? {};
  const name = [info.vendor, info.architecture, info.device, info.description].filter(Boolean).join(" ");
  return {
    adapter: name || "unnamed",
    adapter_is_software: Boolean(info.isFallbackAdapter ?? found.isFallbackAdapter) || /swiftshader|llvmpipe/i.test(name),
    shader_f16: found.features.has("shader-f16"),
  };
}

// [name, version] from the user agent string. Browsers that also name another browser come first.
function browserName() {
  const text = navigator.userAgent;
  const known = [["Firefox", /Firefox\/([\d.]+)/], ["Edge", /Edg\/([\d.]+)/], ["Chromium", /(?:Headless)?Chrome\/([\d.]+)/],
    ["Safari", /Version\/([\d.]+).*Safari/]];
  for (const [name, pattern] of known) {
    const match = pattern.exec(text);
    if (match) return [name, match[1]];
  }
  return ["unknown", "0"];
}

async function describe() {
  const [name, version] = browserName();
  const engine = { Firefox: "Gecko", Safari: "WebKit", unknown: "unknown" }[name] ?? "Blink";
  return {
    name, version, engine,
    user_agent: navigator.userAgent,
    secure: isSecureContext,
    isolated: crossOriginIsolated,
    clock_step_ns: clockStep(),
    cores: navigator.hardwareConcurrency || 1,
    memory_gib: navigator.deviceMemory ?? null,
    ...(await adapter()),
  };
}

// Runs one round in its own worker.
function run(task) {
  return new Promise((resolve, reject) => {
    const worker = new Worker("worker.js", { type: "module" });
    const end = (settle, value) => { worker.terminate(); settle(value); };
    worker.onerror = (event) => end(reject, new Error(event.message || "the worker could not be started"));
    worker.onmessage = ({ data }) => end(resolve, data);
    worker.postMessage({ task, base: location.href });
  });
}

async function main() {
  const browser = await describe();
  document.getElementById("facts").replaceChildren(...Object.entries(browser).flatMap(([name, value]) => {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, text.textContent] = [name.replaceAll("_", " "), String(value)];
    return [term, text];
  }));
  await post("hello", JSON.stringify(browser));
  document.addEventListener("visibilitychange", keepAwake);
  await keepAwake();
  const words = setInterval(word, WORD_MS);
  for (;;) {
    const task = await post("next");
    if (task.done) break;
    state.textContent = `${task.cell.label}, ${task.cell.backend}, ${task.cell.threads} thread(s), round ${task.round + 1}`;
    const blank = { run_id: task.run, cell: task.cell.id, round: task.round };
    wasHidden = document.hidden;
    const found = await run({ ...task, step: browser.clock_step_ns }).catch((error) => (
      { status: "failed", error: String(error.message ?? error).split("\n")[0].slice(0, 300) }
    ));
    const warnings = wasHidden ? ["in the background: the page was hidden during a round, and slowed down"] : [];
    await post("round", JSON.stringify({ ...blank, ...found, warnings }));
  }
  clearInterval(words);
  await lock?.release();
  state.textContent = "Done. This page can be closed.";
}

main().catch((error) => { state.textContent = `Stopped: ${error.message}. Load the page again to go on.`; });
