"""What the decoders of the clients' platforms make of a JPEG, beside Pillow's.

    python benchmarks/decoders.py

The clients' equality with Python begins at decoded pixels. Here the same 16 photographs are decoded by Pillow, by
`ImageFiles` of clients/java and by the browsers that are installed (`pixels` of clients/js). Each result goes through
the same preprocessing and nano; bytes and embeddings are compared. Beside them stands what another quality of the same
photograph changes, saved by Pillow. Writes benchmarks/results/decoders.json and the table in docs/figures. About a
minute.
"""

import io
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from measuring import ROOT, Figures, markdown, shown_in_browser, versions
from PIL import Image, features

import mobileclip_deploy as mcd
from mobileclip_deploy.benchmark.browser.launching import installed_browsers
from mobileclip_deploy.network.embedding import embed_images
from mobileclip_deploy.network.model.preprocessing import load_image, preprocess
from mobileclip_deploy.web.demo import client_sources

KEPT = Figures("decoders", "figures/apps.md")
PHOTOGRAPHS = sorted((ROOT / "mobileclip_deploy" / "network" / "samples").glob("*.jpg"))
QUALITY, PATIENCE = 95, 300
Pixels = npt.NDArray[np.uint8]
BROWSER = """
import { pixels } from "./mobileclip/browser.js";
for (let number = 0; number < COUNT; number += 1) {
  const { data } = await pixels(await (await fetch(`picture/${number}`)).blob());
  await fetch(`decoded?number=${number}`, { method: "POST", body: data });
}
await fetch("ended", { method: "POST" });
"""


def main() -> None:
    """Decode, compare, write the figures, and renew the table."""
    wanted = [np.asarray(load_image(file)) for file in PHOTOGRAPHS]
    ways: dict[str, Callable[[], list[Pixels]]] = {"`ImageFiles` of clients/java": java}
    for one in installed_browsers().values():
        ways[f"{one.family.capitalize()}'s canvas"] = partial(browser, one.family, wanted)
    ways[f"for comparison: Pillow, saved again in quality {QUALITY}"] = lambda: [resaved(one) for one in wanted]
    truth = embeddings(wanted)
    found = {name: compared(decode(), wanted, truth) for name, decode in ways.items()}
    result = {
        "schema_version": 1,
        "versions": versions("mobileclip-deploy", "pillow")
        | {"libjpeg": features.version("libjpeg_turbo") or features.version("jpg")}
        | {
            "java": told("java", "-version"),
            "browsers": [told(one.program, "--version") for one in installed_browsers().values()],
        },
        "photographs": len(wanted),
        "decoders": found,
    }
    KEPT.write(result)
    KEPT.show(table(result))


def told(*command: str) -> str:
    """The first line that a program prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (done.stdout or done.stderr).splitlines()[0].strip()


def java() -> list[Pixels]:
    """uint8 [H, W, 3] of each photograph, by `ImageFiles` of clients/java."""
    with tempfile.TemporaryDirectory() as place:
        folder, package = Path(place), ROOT / "clients" / "java"
        subprocess.run([package / "build.sh", folder], check=True)
        path = f"{folder / 'mobileclip.jar'}:{folder / 'mobileclip-desktop.jar'}"
        program = package / "test" / "mobileclip" / "Decode.java"
        subprocess.run(["javac", "--release", "8", "-Xlint:-options", "-cp", path, "-d", folder, program], check=True)
        files = [Path(shutil.copy(file, folder)) for file in PHOTOGRAPHS]
        command = ["java", "-Djava.awt.headless=true", "-cp", f"{path}:{folder}", "mobileclip.Decode"]
        subprocess.run([*command, *files], check=True, stdout=subprocess.DEVNULL)
        return [np.fromfile(f"{file}.rgb", np.uint8).reshape(*np.asarray(load_image(file)).shape) for file in files]


def browser(family: str, wanted: list[Pixels]) -> list[Pixels]:
    """The same by the client's `pixels`, in a browser without a window and with a profile of its own."""
    found: dict[int, Pixels] = {}

    def decoded(query: dict[str, str], body: bytes) -> None:
        number = int(query["number"])
        found[number] = np.frombuffer(body, np.uint8).reshape(*wanted[number].shape[:2], 4)[..., :3]

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        index, script = folder / "index.html", folder / "decode.js"
        index.write_text('<!doctype html><script type="module" src="decode.js"></script>', encoding="utf-8")
        script.write_text(BROWSER.replace("COUNT", str(len(wanted))), encoding="utf-8")
        files = {"index.html": index, "decode.js": script} | {
            f"picture/{number}": file for number, file in enumerate(PHOTOGRAPHS)
        }
        files |= {f"mobileclip/{file.name}": file for file in client_sources().glob("*.js")}
        shown_in_browser(family, files, {"decoded": decoded}, PATIENCE)
    return [found[number] for number in range(len(wanted))]


def resaved(picture: Pixels) -> Pixels:
    """The picture as a JPEG of `QUALITY` has it."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(content).convert("RGB"))


def embeddings(pictures: list[Pixels]) -> npt.NDArray[np.float64]:
    """nano's, float64 [N, D] of length 1, by the float32 network."""
    model = mcd.load_model()
    spec = model.variant.preprocess
    inputs = np.stack([preprocess(Image.fromarray(one), spec) for one in pictures])
    found = np.asarray(embed_images(model, inputs), np.float64)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def compared(found: list[Pixels], wanted: list[Pixels], truth: npt.NDArray[np.float64]) -> dict[str, Any]:
    """How many of all channel values differ, by how much at most, and how far the embeddings lie apart."""
    away = np.concatenate([np.abs(a.astype(int) - b.astype(int)).ravel() for a, b in zip(found, wanted, strict=True)])
    apart = np.linalg.norm(embeddings(found) - truth, axis=1)
    return {
        "differing": float((away > 0).mean()),
        "largest": int(away.max()),
        "mean": float(away.mean()),
        "embedding_median": float(np.median(apart)),
        "embedding_worst": float(apart.max()),
        "cosine_worst": float(1 - apart.max() ** 2 / 2),
    }


def table(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    heads = ("decoder", ">bytes that differ", ">by at most", ">embedding, relative: median", ">worst", ">cosine, worst")
    rows = []
    for name, one in found["decoders"].items():
        rows.append([name, f"{100 * one['differing']:.2g}%", str(one["largest"]), f"{one['embedding_median']:.2g}"])
        rows[-1] += [f"{one['embedding_worst']:.2g}", f"{one['cosine_worst']:.6f}"]
    versions = found["versions"]
    libjpeg = f"Pillow {versions['pillow']} with libjpeg-turbo {versions['libjpeg']}"
    programs = "; ".join([libjpeg, versions["java"], *versions["browsers"]])
    said = textwrap.fill(f"{found['photographs']} photographs, nano, float32. {programs}.", 120)
    return "\n".join([*markdown(heads, rows), "", said])


if __name__ == "__main__":
    main()
