"""The JavaScript package: the shared vectors and a real bundle in Node, random cases beside them, and the package as an
app installs it."""

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import open_page, served
from client_vectors import noise, random_pictures
from conversions import ROOT
from exports import Exports
from PIL import Image
from programs import output
from tokenizer_vectors import is_mojibake, learned_from_german, odd_texts
from web.published import Published

import mobileclip_deploy as mcd
from mobileclip_deploy.base.pages.runtime import runtime_folder
from mobileclip_deploy.base.progress import silent
from mobileclip_deploy.network.model.precision import PRECISIONS
from mobileclip_deploy.network.model.preprocessing import load_image, preprocess
from mobileclip_deploy.network.model.tokenizer import encode, write_tokenizer_files
from mobileclip_deploy.network.model.variants import load_variant
from mobileclip_deploy.parity.gates import Gates
from mobileclip_deploy.search.index import Index

PACKAGE = ROOT / "clients" / "js"
OWN_TESTS = ["--liftoff-only", "--test", "--test-reporter=tap"]
"""Options of Node; compiling onnxruntime's WebAssembly for speed takes longer than the tests do."""
Node = Callable[[str, Any], Any]
ORIENTATION = 274
UPRIGHT = """<!doctype html><script type="module">
import { pixels } from "./src/browser.js";
globalThis.found = [];
for (const name of FILES) {
  const { data, width } = await pixels(await (await fetch(name)).blob());
  found.push([name, width, [...data]]);
}
</script>"""


@pytest.fixture
def node(require_tool: Callable[[str, str], str], tmp_path: Path) -> Node:
    """Runs a script on a JSON value, and gives the JSON that it prints; `client` is the package."""
    program = require_tool("node", "apt-get install nodejs")

    def ran(text: str, given: Any) -> Any:
        (tmp_path / "given.json").write_text(json.dumps(given), encoding="utf-8")
        head = 'import { readFileSync as read } from "node:fs";\n'
        head += f'import * as client from "{PACKAGE}/src/mobileclip.js";\n'
        (tmp_path / "main.mjs").write_text(head + text, encoding="utf-8")
        return json.loads(output(program, "main.mjs", cwd=tmp_path, timeout=120))

    return ran


def test_the_packages_own_tests_pass_on_a_published_bundle_and_python_reads_the_index_that_they_write(
    published: Published, require_tool: Callable[[str, str], str], tmp_path: Path
) -> None:
    program = require_tool("node", "apt-get install nodejs")
    require_tool("npm", "apt-get install npm")
    given = {
        "MOBILECLIP_BUNDLE": str(published.bundle),
        "MOBILECLIP_LOCK": str(published.lock),
        "MOBILECLIP_ORT": str(runtime_folder(silent)),
        "MOBILECLIP_WRITTEN": str(tmp_path / "library.mcdx"),
    }
    command = [program, *OWN_TESTS, "test/"]
    assert re.search(r"^# skipped 0$", output(*command, cwd=PACKAGE, env=os.environ | given, timeout=300), re.M)
    index = Index(tmp_path / "library.mcdx")
    index.check()
    assert (len(index), index.description.embedding_space, index.store.name) == (50, "s", "int8")
    for row, name in ((0, "IMG_0.jpg"), (4, "IMG_4.jpg"), (7, "Кот 🐈.png"), (49, "IMG_49.jpg")):
        assert [one.id for one in index.search(noise(40, row).view(np.int8).astype(np.float32), 1)[0]] == [name]


def test_the_gates_are_pythons(node: Node) -> None:
    gates = {name: Gates().shipped(name) for name in PRECISIONS}
    found = node(f'import {{ GATES }} from "{PACKAGE}/src/gates.js"; console.log(JSON.stringify(GATES));', None)
    assert found == {name: {"metric": gate.metric, "bound": gate.value} for name, gate in gates.items()}


PREPARE = """
const found = JSON.parse(read("given.json")).map(({ width, height, bytes, spec }) =>
  Array.from(client.prepare(Uint8ClampedArray.from(Buffer.from(bytes, "base64")), width, height, spec)));
console.log(JSON.stringify(found));
"""


def test_random_pictures_are_prepared_in_the_same_bytes(node: Node, seed: int) -> None:
    given, wanted = [], []
    for pixels, spec in random_pictures(seed, 8):
        given.append(
            {"width": pixels.shape[1], "height": pixels.shape[0], "bytes": base64.b64encode(pixels.tobytes()).decode()}
            | {"spec": spec.model_dump(mode="json")}
        )
        wanted.append(preprocess(Image.fromarray(pixels), spec).ravel())
    for found, expected in zip(node(PREPARE, given), wanted, strict=True):
        assert np.array_equal(np.asarray(found, np.float32), expected)


ENCODE = """
const { folder, settings, texts } = JSON.parse(read("given.json"));
const merges = read(`${folder}/merges.txt`, "utf8");
const tokenizer = new client.Tokenizer(JSON.parse(read(`${folder}/vocab.json`)), merges, settings);
console.log(JSON.stringify(texts.map((text) => Array.from(tokenizer.encode([text]), Number))));
"""


def test_random_texts_become_open_clips_numbers(node: Node, tmp_path: Path, seed: int) -> None:
    write_tokenizer_files(tmp_path)
    odd = [text for text in islice(odd_texts(seed), 400) if not is_mojibake(text)]
    long = ["a long sentence, " * 10_000, "".join(map(chr, range(0x4E00, 0x9FA5))), "🐈" * 5_000]
    settings = load_variant("nano").tokenizer.model_dump(mode="json")
    given = {"folder": str(tmp_path), "settings": settings, "texts": [*odd, *long, "qwertz" * 100_000]}
    *found, word = node(ENCODE, given)
    assert found == encode([*odd, *long]).tolist()
    assert word[-1] == 49407


def test_a_vocabulary_that_a_checkpoint_brings_is_read(node: Node, tmp_path: Path) -> None:
    tokens, texts = learned_from_german()
    write_tokenizer_files(tmp_path, tokens)
    given = {"folder": str(tmp_path), "settings": tokens.model_dump(mode="json"), "texts": texts}
    assert node(ENCODE, given) == encode(texts, tokens).tolist()


FAULTS = {
    "blue and red exchanged": ("pictures", "found[to + channel] =", "found[to + 2 - channel] =", "colours of rgba"),
    "another filter": ("resize", "[-0.5, Math", "[-0.75, Math", "pixels of .* bicubic"),
    "merges with CRLF": ("tokenizer", r"/\r?\n/", r"/\n/", "the tokenizer gives"),
    "half of the merges": (
        "tokenizer",
        "this.ranks.size !== this.vocabulary.size - UNMERGED",
        "false",
        "the tokenizer",
    ),
    "another space": (
        "index_file",
        "space !== this.embeddingSpace",
        "false",
        "a query of another space",
    ),
    "schema 3": ("manifest", "NEWEST_SCHEMA = 2", "NEWEST_SCHEMA = 3", "a manifest .* a newer schema"),
    "a cut index": (
        "index_file",
        'throw damaged("it is shorter',
        'slots[0].end = 256; ("',
        "refused: cut in the middle",
    ),
    "the slot that is valid": ("index_writer", "at === 96 ? 64 : 96", "at", "what is written"),
    "a golden file that is cut": ("safetensors", "offsets[1] <= size", "true", "a damaged file of tensors"),
    "a vocabulary of another checkpoint": ("mobileclip", "if (!same)", "if (false)", "a bundle"),
    "a self-test that passes": ("mobileclip", "relative <= bound", "true", "a bundle"),
}


# Those that no test of another one's can tell are planted together.
TOGETHER = (
    ("blue and red exchanged", "merges with CRLF", "another space", "schema 3"),
    ("another filter", "half of the merges", "a cut index", "the slot that is valid", "a golden file that is cut"),
    ("a vocabulary of another checkpoint",),
    ("a self-test that passes",),
)


@pytest.mark.slow  # each runs the tests that should tell it once more
@pytest.mark.parametrize("faults", TOGETHER, ids="; ".join)
def test_a_planted_fault_is_told(
    exports: Exports, require_tool: Callable[[str, str], str], tmp_path: Path, faults: tuple[str, ...]
) -> None:
    assert sorted(sum(TOGETHER, ())) == sorted(FAULTS)
    program = require_tool("node", "apt-get install nodejs")
    package = tmp_path / "clients" / "js"
    shutil.copytree(PACKAGE, package)
    shutil.copytree(PACKAGE.parent / "vectors", tmp_path / "clients" / "vectors")
    for name, right, wrong, _ in map(FAULTS.__getitem__, faults):
        source = package / "src" / f"{name}.js"
        text = source.read_text(encoding="utf-8")
        assert text.count(right) == 1
        source.write_text(text.replace(right, wrong), encoding="utf-8")
    told = [FAULTS[fault][3] for fault in faults]
    file = "model.test.js" if "a bundle" in told else "vectors.test.js"
    command = [program, *OWN_TESTS, f"--test-name-pattern={'|'.join(told)}", f"test/{file}"]
    given = {
        "MOBILECLIP_BUNDLE": str(exports.bundle("onnx", "fp32").path),
        "MOBILECLIP_ORT": str(runtime_folder(silent)),
    }
    done = subprocess.run(command, cwd=package, env=os.environ | given, capture_output=True, text=True, timeout=300)
    for one in told:
        assert re.search(rf"^ *not ok \d+ - .*{one}", done.stdout, re.M), one + done.stdout[-2000:]


PAGE = (ROOT / "docs" / "start_browser.md").read_text(encoding="utf-8")
USED = """
import * as ort from "onnxruntime-web";
import { Index, MobileCLIP, MobileCLIPError, type Match } from "mobileclip";
import { pixels } from "mobileclip/browser";
import { folder } from "mobileclip/node";
import { connect } from "mobileclip/worker";

export async function find(file: Blob, library: ArrayBuffer): Promise<Match[]> {
  const model = await MobileCLIP.load(folder("bundle"), ort, { session: { executionProviders: ["wasm"] } });
  if (!(await model.selfTest()).every(({ passed }) => passed)) throw new Error("wrong answers");
  const picture = await model.embedImage(await pixels(file));
  const labels = await model.labels(["pizza", "a red car"]);
  const shown: string = labels.classify(picture)[0].probability.toFixed(2);
  const { rest } = (await model.embedTexts([shown]))[0];
  try {
    const { found, matches } = await connect(new Worker("worker.js")).search(Index.open(library), rest, { top: 20 });
    return found ? matches : (await model.search(Index.open(library), picture)).matches;
  } catch (error) {
    if (error instanceof MobileCLIPError && error.code === "space") return [];
    throw error;
  }
}
"""
README = (PACKAGE / "README.md").read_text(encoding="utf-8")
OPTIONS = ["--noEmit", "--strict", "--target", "es2022", "--lib", "es2023,dom", "--module", "nodenext"]
WRONG = (
    'import { Index } from "mobileclip"; export const found: number = Index.open(new ArrayBuffer(1)).search([1])[0].id;'
)


@pytest.fixture(scope="module")
def project(require_tool: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty project that has installed the package as npm packs it, onnxruntime-web, and TypeScript."""
    npm, folder = require_tool("npm", "apt-get install npm"), tmp_path_factory.mktemp("project")
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    packed = ran(folder, npm, "pack", "--silent", str(PACKAGE)).stdout.strip()
    assert packed.startswith("mobileclip-")
    assert not re.search(r"\]\(\.\./", README), "a link that leads nowhere once the package is installed"
    quietly = ("--silent", "--ignore-scripts", "--no-audit")
    done = ran(folder, npm, "install", *quietly, f"./{packed}", "typescript@5", "onnxruntime-web@1.30.0")
    assert done.returncode == 0, done.stderr
    return folder


def ran(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500)


@pytest.mark.slow  # it installs TypeScript: the package's own tests run what is packed here
def test_an_empty_project_installs_the_package_and_typescript_checks_its_use(project: Path) -> None:
    (block,) = re.findall(r"```javascript\n(.*?)```", PAGE, re.DOTALL)
    worker, _ = re.findall(r"```javascript\n(.*?)```", README, re.DOTALL)
    page = block.replace('querySelector("input").onchange', 'querySelector("input")!.onchange')
    page = page.replace("({ target })", "({ target }: any)") + "export {};\n"
    sources = {"worker.ts": worker, "used.ts": USED, "wrong.ts": WRONG, "page.ts": page}
    for name, text in sources.items():
        (project / name).write_text(text, encoding="utf-8")
    told = ran(project, "node_modules/.bin/tsc", *OPTIONS, *sources).stdout.splitlines()
    assert len(told) == 1, told
    assert told[0].startswith("wrong.ts(")
    assert told[0].endswith("Type 'string' is not assignable to type 'number'.")
    installed = {path.name for path in (project / "node_modules/mobileclip").iterdir()}
    assert installed == {"package.json", "src", "types", "README.md", "LICENSE", "NOTICE"}
    for name in ("LICENSE", "NOTICE"):
        assert (project / "node_modules/mobileclip" / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.slow  # it starts a browser
def test_pictures_are_upright_in_chromium(tmp_path: Path) -> None:
    picture = Image.fromarray(noise(7 * 5 * 3, 1).reshape(5, 7, 3))
    for kind in ("png", "webp"):
        for turned in range(1, 9):
            exif = Image.Exif()
            exif[ORIENTATION] = turned
            picture.save(tmp_path / f"{turned}.{kind}", exif=exif, lossless=True)
    files = sorted(path.name for path in tmp_path.iterdir())
    (tmp_path / "index.html").write_text(UPRIGHT.replace("FILES", json.dumps(files)), encoding="utf-8")
    with served({"/src/": f"{PACKAGE / 'src'}/", "/": f"{tmp_path}/"}) as address, open_page() as page:
        page.visit(f"{address}/index.html")
        page.wait("globalThis.found?.length === 16")
        for name, width, data in page.evaluate("found"):
            wanted = np.asarray(load_image(tmp_path / name))
            assert np.array_equal(np.array(data, np.uint8).reshape(-1, width, 4)[..., :3], wanted), name


@pytest.mark.slow  # it installs what a page loads
@pytest.mark.parametrize("place", ["page", "worker", "vite"])
def test_the_page_of_the_start_page_tells_a_pizza_in_chromium(project: Path, exports: Exports, place: str) -> None:
    bundle = exports.bundle("onnx", "fp32")
    for name, language in (("index.html", "html"), ("app.js", "javascript")):
        (block,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
        if (name, place) == ("index.html", "worker"):
            entry = '"mobileclip/worker": "./node_modules/mobileclip/src/worker.js",'
            block = block.replace('"imports": {', f'"imports": {{{entry}')
        (project / name).write_text(block, encoding="utf-8")
    if place == "worker":
        worker, app = re.findall(r"```javascript\n(.*?)```", README, re.DOTALL)
        src = "./node_modules/mobileclip/src"
        addresses = {"onnxruntime-web/wasm": "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs"}
        addresses |= {"mobileclip": f"{src}/mobileclip.js", "mobileclip/worker": f"{src}/worker.js"}
        for package, address in addresses.items():  # as the page says: a worker reads no import map
            worker = worker.replace(f'from "{package}"', f'from "{address}"')
        (project / "worker.js").write_text(worker, encoding="utf-8")
        (project / "app.js").write_text(app, encoding="utf-8")
    site = built_by_vite(project) if place == "vite" else project
    shutil.copytree(bundle.path, site / "out" / "nano-onnx-fp32", dirs_exist_ok=True)
    picture = ROOT / "models/nano/evaluation/images/1f355.png"
    (wanted,) = mcd.classify(bundle, [picture], ["pizza", "rocket"])
    with served({"/": f"{site}/"}) as address, open_page() as page:
        page.visit(f"{address}/")
        page.wait("document.querySelector('input').onchange", 300)
        page.choose("input", picture)
        page.wait("document.body.innerText.includes('rocket')")
        found = json.loads(page.evaluate("document.body.innerText"))
    assert {one["label"]: one["probability"] for one in found} == pytest.approx(wanted.probabilities, abs=1e-4)


def built_by_vite(project: Path) -> Path:
    """The README's worker and page as Vite builds them."""
    folder = project / "vite"
    folder.mkdir()
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    for name, block in zip(
        ("worker.js", "app.js"), re.findall(r"```javascript\n(.*?)```", README, re.DOTALL), strict=True
    ):
        (folder / name).write_text(block, encoding="utf-8")
    page = '<!doctype html><input type="file"><script type="module" src="app.js"></script>'
    (folder / "index.html").write_text(page, encoding="utf-8")
    done = ran(project, "npm", "install", "--silent", "--no-audit", "vite@7")
    assert done.returncode == 0, done.stderr
    done = ran(folder, str(project / "node_modules/.bin/vite"), "build", "--base", "/")
    assert done.returncode == 0, done.stderr
    return folder / "dist"
