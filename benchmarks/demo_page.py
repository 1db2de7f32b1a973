"""How long the demo page makes a user wait, in Chromium on this machine.

    python benchmarks/demo_page.py

The page of nano, float32, as `mobileclip-deploy demo` serves it, with one script more that watches it: the time from
opening the page to the first answer about a picture, and, with 1,000 pictures to be searched, the longest time for
which the page did nothing while they were embedded. Each in a Chromium with a new profile. Writes
benchmarks/results/demo_page.json and the table in docs/figures/apps.md. About 3 minutes.
"""

import json
import platform
import shutil
import statistics
import tempfile
from os import cpu_count, getloadavg
from pathlib import Path
from typing import Any

from measuring import ROOT, Figures, markdown, processor, shown_in_browser, versions

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.progress import silent
from mobileclip_deploy.web.demo import SETTINGS, DemoPage

KEPT = Figures("demo_page", "figures/apps.md")
PICTURES = ROOT / "models" / "nano" / "evaluation" / "images"
COUNT, TIMES, PATIENCE = 1000, 3, 900
# Gaps between frames would be the screen's; a message that the page sends itself comes as soon as it is free.
WATCH = """
const state = document.getElementById("state");
const until = (holds) => new Promise((resolve) => {
  const look = () => (holds() ? resolve(performance.now()) : setTimeout(look, 5));
  look();
});
let [last, longest] = [performance.now(), 0];
const channel = new MessageChannel();
channel.port1.onmessage = () => {
  const now = performance.now();
  longest = Math.max(longest, now - last);
  last = now;
  setTimeout(() => channel.port2.postMessage(0), 1);
};
channel.port2.postMessage(0);
addEventListener("load", async () => {
  const loaded = performance.now();
  const ready = await until(() => state.textContent.startsWith("Ready"));
  const answered = await (async () => {
    const blob = await (await fetch("images/0")).blob();
    const given = new DataTransfer();
    given.items.add(new File([blob], "picture.png", { type: "image/png" }));
    document.getElementById("picture").files = given.files;
    document.getElementById("picture").dispatchEvent(new Event("change"));
    return until(() => document.querySelectorAll("#answers li").length > 0);
  })();
  longest = 0;
  const begun = performance.now();
  const indexed = await until(() => document.getElementById("indexed").textContent.includes("ready"));
  const found = { loaded, ready, answered, indexing: indexed - begun, longest };
  await fetch("measured", { method: "POST", body: JSON.stringify(found) });
  await fetch("ended", { method: "POST" });
});
"""


def main() -> None:
    """Measure, write the figures, and renew the table."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        bundle = mcd.export(mcd.load_model(), "onnx", "fp32", folder / "bundle", verify=False)
        few = [opened(bundle, copied(folder / "few", 1)) for _ in range(TIMES)]
        many = opened(bundle, copied(folder / "many", COUNT))
    result = {
        "schema_version": 1,
        "versions": versions("mobileclip-deploy", "onnxruntime"),
        "machine": {"processor": processor(), "system": platform.system()}
        | {"cores": cpu_count(), "load": round(getloadavg()[0], 1)},
        "first_answer_ms": statistics.median(one["answered"] for one in few),
        "page_loaded_ms": statistics.median(one["loaded"] for one in few),
        "ready_ms": statistics.median(one["ready"] for one in few),
        "pictures": COUNT,
        "embedded_in_s": many["indexing"] / 1000,
        "longest_block_ms": many["longest"],
    }
    KEPT.write(result)
    KEPT.show(table(result))


def copied(folder: Path, count: int) -> Path:
    """So many pictures in a folder of their own."""
    folder.mkdir(exist_ok=True)
    for file in sorted(PICTURES.glob("*.png"))[:count]:
        shutil.copy(file, folder)
    return folder


def opened(bundle: Bundle, images: Path) -> dict[str, float]:
    """What the page measures of itself, in milliseconds from its opening on."""
    page = DemoPage.of(bundle, images, offline=False, progress=silent)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        settings, watching, index = (folder / name for name in (SETTINGS, "watch.js", "index.html"))
        settings.write_text(json.dumps(page.settings), encoding="utf-8")
        watching.write_text(WATCH, encoding="utf-8")
        text = page.files["index.html"].read_text(encoding="utf-8")
        index.write_text(text.replace("</head>", '<script type="module" src="watch.js"></script>\n</head>'), "utf-8")
        files = {**page.files, SETTINGS: settings, "watch.js": watching, "index.html": index}
        shown_in_browser("chromium", files, {"measured": lambda _, body: found.update(json.loads(body))}, PATIENCE)
    return found


def table(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    machine = found["machine"]
    rows = (
        ("from opening the page to its first answer about a picture", f"{found['first_answer_ms'] / 1000:.1f} s"),
        ("of that, until the page had loaded", f"{found['page_loaded_ms'] / 1000:.1f} s"),
        (f"to embed {found['pictures']:,} pictures of nano's held-out set", f"{found['embedded_in_s']:.0f} s"),
        ("the longest time for which the page did nothing meanwhile", f"{found['longest_block_ms']:.0f} ms"),
        (f"the machine: {machine['cores']} cores, with a load from elsewhere of", f"{machine['load']:.0f}"),
    )
    return "\n".join(markdown(("nano, float32, in Chromium", ">"), rows))


if __name__ == "__main__":
    main()
