"""A real client: @huggingface/transformers in Node loads bundles from disk with its own processor and tokenizer."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from chromium import Page, served
from exports import Exports
from firefox import FirefoxPage, open_firefox
from PIL import Image
from programs import output
from transformers_client import CLIENT, install
from writing import chosen

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.heads.contexts import ended
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset
from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.model.variants import load_variant
from mobileclip_deploy.network.samples import image_paths
from mobileclip_deploy.parity import Gates, compare
from mobileclip_deploy.parity.computing import compute_reference
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.web.demo import client_sources

HERE = Path(__file__).parent / "transformers_js"
DOCS = Path(__file__).parents[2] / "docs"
DTYPES = {"fp32": "fp32", "fp16": "fp16", "w8": "int8", "w8a8": "q8", "w4": "q4"}
"""By which the client asks for the file of a precision."""
TEXTS = [
    "a photo of a cat",
    "",
    "crème brûlée à la façade d'un château",
    "Đường phố Hà Nội về đêm",
    "собака и 猫",
    "DOG!",
]


@pytest.fixture(scope="module")
def client(require_tool: Callable[[str, str], str]) -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    """Runs embed.mjs on a job."""
    node = require_tool("node", "apt-get install nodejs")
    install(require_tool("npm", "apt-get install npm"))
    shutil.copy(HERE / "embed.mjs", CLIENT)
    (CLIENT / "resize.mjs").write_text(f'export {{ prepare }} from "{client_sources()}/resize.js";\n')

    def embed(job: dict[str, Any]) -> list[dict[str, Any]]:
        return list(json.loads(output(node, "embed.mjs", cwd=CLIENT, input=json.dumps(job), timeout=300)))

    return embed


class Answers(dict[str, dict[str, Any]]):
    """What the client answers, by precision: two are asked at once, the others when one of them is first wanted."""

    FIRST = ("fp32", "w4")

    def __init__(self, client: Callable[[dict[str, Any]], list[dict[str, Any]]], exports: Exports, image: Path) -> None:
        self.client, self.exports, self.image = client, exports, image

    def __missing__(self, precision: str) -> dict[str, Any]:
        names = self.FIRST if precision in self.FIRST else tuple(name for name in DTYPES if name not in self.FIRST)
        bundles = {name: self.exports.unverified("onnx", name, "both").path for name in names}
        asked = [
            {"name": str(path.relative_to(self.exports.folder)), "image": DTYPES[p], "text": DTYPES[p]}
            for p, path in bundles.items()
        ]
        job = {"folder": str(self.exports.folder), "image": str(self.image), "texts": TEXTS, "bundles": asked}
        job["photographs"] = [str(path) for path in image_paths()]  # in the sizes that they have: none is the model's
        job["preprocess"] = mcd.load_model().variant.preprocess.model_dump(mode="json")
        self.update(zip(bundles, self.client(job), strict=True))
        return self[precision]


@pytest.fixture(scope="module")
def answers(client: Callable[[dict[str, Any]], list[dict[str, Any]]], exports: Exports, image: Path) -> Answers:
    return Answers(client, exports, image)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PNG of the size that the model takes: sharp, which the client resizes with, is not Pillow."""
    path = tmp_path_factory.mktemp("image") / "square.png"
    with Image.open(builtin_dataset().images[0]) as picture:
        picture.convert("RGBA").convert("RGB").resize((64, 64)).save(path)
    return path


@pytest.fixture(scope="module")
def reference(image: Path) -> Reference:
    """What torch answers."""
    model = mcd.load_model()
    return compute_reference(model, sample_inputs(model, [image], TEXTS))


@pytest.mark.slow  # the client's own pipeline, below
@pytest.mark.usefixtures("client")
def test_the_page_s_blocks_run_as_they_stand_up_to_a_probability(
    exports: Exports, image: Path, require_tool: Callable[[str, str], str]
) -> None:
    page = (DOCS / "start_browser.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```js\n(.*?)```", page, re.DOTALL))
    bundle, photograph = exports.bundle("onnx", "fp32"), image_paths()[0]
    there = {"/models/": f"{exports.folder}/", "pizza.png": str(image), "photograph.jpg": str(photograph)}
    for said, file in (there | {'"mobileclip"': f'"{client_sources()}/mobileclip.js"'}).items():
        assert said in blocks
        blocks = blocks.replace(said, file)
    script = CLIENT / "page.mjs"
    script.write_text(blocks.replace("env.allowLocalModels", "env.useFSCache = false;\nenv.allowLocalModels", 1))
    node = require_tool("node", "apt-get install nodejs")
    printed = output(node, script.name, cwd=CLIENT, timeout=300)
    found = [json.loads(line) for line in printed.replace("\n  ", " ").replace("\n]", "]").splitlines()]
    pictures = [image, photograph]
    wanted = mcd.classify(bundle, [str(path) for path in pictures], ["pizza", "rocket"])
    for one, own in zip(found, wanted, strict=True):
        assert one == [pytest.approx(own.probabilities[label], abs=2e-4) for label in ("pizza", "rocket")]


def test_the_client_tokenizes_as_we_do_and_pads_to_77_with_the_end_token(
    answers: Answers, reference: Reference
) -> None:
    ids = np.array(answers["fp32"]["ids"])
    assert np.array_equal(ended(ids, load_variant("nano").tokens), reference.inputs.ids)
    assert (ids.shape[1], ids[1, 0], set(ids[1, 1:].tolist())) == (77, 49406, {49407})


def test_the_client_takes_the_image_as_it_is(answers: Answers) -> None:
    assert answers["fp32"]["pixels"] == [1, 3, 64, 64]


def test_float32_embeddings_are_those_of_torch(answers: Answers, reference: Reference) -> None:
    for tower in ("image", "text"):
        assert compare(reference.of(tower), answers["fp32"][tower]).cosine >= 0.9999


@pytest.mark.once
@pytest.mark.parametrize("precision", ["w4", "fp16", "w8", "w8a8"])
def test_every_other_precision_loads_by_its_dtype_and_holds_its_gate(
    answers: Answers, reference: Reference, precision: str
) -> None:
    metric, bound, _ = Gates().shipped(precision)
    for tower in ("image", "text"):
        assert compare(reference.of(tower), answers[precision][tower]).value(metric) >= bound


Asked = Callable[[Page | FirefoxPage, mcd.Bundle, str, list[Path]], dict[str, Any]]


@pytest.fixture
def asked(client: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> Asked:
    """What embed.html answers in a browser, with a bundle's towers of a dtype."""

    def ask(page: Page | FirefoxPage, bundle: mcd.Bundle, dtype: str, pictures: list[Path]) -> dict[str, Any]:
        places = {f"/pictures/{number}": str(path) for number, path in reversed([*enumerate(pictures)])}
        places |= {
            "/embed.html": f"{HERE}/embed.html",
            "/client/": f"{CLIENT}/",
            "/page/": f"{client_sources()}/",
            "/bundles/": f"{bundle.path.parent}/",
        }
        with served(places) as address:
            given = f"name={bundle.path.name}&image={dtype}&text={dtype}&pictures={len(pictures)}"
            page.visit(f"{address}/embed.html?{given}")
            page.wait("document.getElementById('answer')")
            answer = json.loads(page.evaluate("document.getElementById('answer').textContent"))
        assert "error" not in answer, answer
        return dict(answer)

    return ask


def near(bundle: mcd.Bundle, answer: dict[str, Any], image: Path) -> None:
    """A browser's answers of embed.html are the native runtime's."""
    for tower, inputs in (("text", mcd.tokenize(["a photo of a cat", "собака"])), ("image", None)):
        given = mcd.preprocess([image], bundle) if inputs is None else inputs
        native = mcd.load_runner(bundle, tower)(given)  # type: ignore[arg-type]
        assert compare(native, np.array(answer[tower], dtype=np.float32)).cosine > 0.9999


@pytest.mark.slow  # tests/benchmark/browser measures in Firefox
def test_w4_loads_in_firefox_with_the_wasm_that_the_client_brings(asked: Asked, exports: Exports, image: Path) -> None:
    bundle = exports.unverified("onnx", "w4", "both")
    with open_firefox() as page:
        near(bundle, asked(page, bundle, "q4", [image]), image)


def test_webnn_is_told_the_free_sizes_in_config_json(exports: Exports) -> None:
    config = json.loads((exports.unverified("onnx", "w4", "both").path / "config.json").read_text())
    overrides = config["transformers.js_config"]["device_config"]["webnn"]["free_dimension_overrides"]
    assert overrides == {"batch": 1, "tokens": 77}
    for tower in ("image", "text"):
        graph = onnx.load(exports.unverified("onnx", "w4", "both").artifact(tower), load_external_data=False).graph  # type: ignore[arg-type]
        sizes = graph.input[0].type.tensor_type.shape.dim
        assert [size.dim_param for size in sizes] == [["batch", "", "", ""], ["batch", "tokens"]][tower == "text"]


def test_the_client_s_zero_shot_pipeline_gives_the_probabilities_of_classify(
    client: Callable[[dict[str, Any]], list[dict[str, Any]]], exports: Exports, image: Path
) -> None:
    bundle, labels, template = exports.bundle("onnx", "fp32"), ["cat", "dog", "rocket"], "a photo of a {}"
    shutil.copy(HERE / "zero_shot.mjs", CLIENT)
    arguments = [str(exports.folder), bundle.path.name, str(bundle.manifest.logit_scale), str(image), template]
    program = shutil.which("node")
    assert program is not None
    printed = output(program, "zero_shot.mjs", *arguments, *labels, cwd=CLIENT, timeout=120)
    found = {one["label"]: one["score"] for one in json.loads(printed)}
    wanted = mcd.classify(bundle, [image], labels, template=template)[0].probabilities
    assert found == pytest.approx(wanted, abs=1e-5)


LABELS, TEMPLATE = ["cat", "dog", "rocket"], "a photo of a {}"


def joint_alone(bundle: mcd.Bundle, folder: Path) -> Path:
    """A copy of a bundle with the joint file in place of the towers' files, as `--joint only` writes it."""
    copy = Path(shutil.copytree(bundle.path, folder / bundle.path.name))
    files = {tower: entry.file for tower, entry in bundle.manifest.towers.items()}
    target = chosen("onnx", joint="only")
    joint = target.join(copy, files, bundle.manifest.logit_scale)
    target.place(copy, load_variant("nano"), files)
    assert list(copy.glob("onnx/*")) == [joint]
    return copy


@pytest.mark.once
@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8"])
def test_the_client_s_pipeline_runs_a_joint_file_without_other_code(
    client: Callable[[dict[str, Any]], list[dict[str, Any]]],
    exports: Exports,
    image: Path,
    tmp_path: Path,
    precision: str,
) -> None:
    alone = exports.unverified("onnx", precision, "both")
    folder = joint_alone(alone, tmp_path)
    shutil.copy(HERE / "joint.mjs", CLIENT)
    arguments = [str(tmp_path), folder.name, DTYPES[precision], str(image), TEMPLATE]
    program = shutil.which("node")
    assert program is not None
    printed = output(program, "joint.mjs", *arguments, *LABELS, cwd=CLIENT, timeout=300)
    found = {one["label"]: one["score"] for one in json.loads(printed)}
    wanted = mcd.classify(alone, [image], LABELS, template=TEMPLATE)[0].probabilities
    assert found == pytest.approx(wanted, abs=1e-5 if precision == "fp32" else 1e-3)
