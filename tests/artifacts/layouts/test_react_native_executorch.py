"""react-native-executorch: a bundle of its layout, loaded as its model loader and its image embedder load a .pte.

The loader below was written from software-mansion/react-native-executorch: cpp/core/schema.cpp at
0b303119a899f811064cf96c874b2918d0e64d7b (how the answer of `get_model_schema` is parsed, every key required, and held
against the compiled tensors), src/extensions/cv/tasks/imageEmbedding.ts at 449f1f5cc69154573ad36f4def8da2c6d61d7ccb
(what an image embedder takes). The form of the answer is that of the JSON Schema published in
docs/docs/03-core-and-advanced/07-exporting-custom-models.md at 498e45597a73d8494798954a9aa5c98ff4942cd6, whose rules
stand in `DIMENSIONS` and `parsed`.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from programs import output
from tiny import WORDS, known

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.embedding import embed_images, embed_texts
from mobileclip_deploy.network.samples import image_paths, prompts
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.executorch.backends import FreeShape
from mobileclip_deploy.targets.executorch.model_schema import model_schema
from mobileclip_deploy.targets.values import TensorInfo
from mobileclip_deploy.web.demo import client_sources

pytestmark = pytest.mark.slow  # test_layouts.py has its names, targets/ the files of ExecuTorch

pytest.importorskip("executorch", reason="needs executorch: pip install 'mobileclip-deploy[executorch]'")

DTYPES = {6: "float32", 0: "uint8", 3: "int32", 4: "int64"}
# A dimension's keys by its kind.
DIMENSIONS = {"constant": {"kind", "value"}, "range": {"kind", "range"}, "enum": {"kind", "choices"}}


@dataclass(frozen=True)
class Model:
    """A .pte in the wheel's runtime, as `loadModel` opens it."""

    path: Path

    @cached_property
    def program(self) -> Any:
        from executorch.runtime import Runtime

        return Runtime.get().load_program(self.path)

    @cached_property
    def schema(self) -> dict[str, Any]:
        (text,) = self.program.load_method("get_model_schema").execute([])
        return parsed(text)

    def run(self, values: torch.Tensor) -> torch.Tensor:
        (found,) = self.program.load_method("forward").execute([values])
        return found.clone()

    def mismatches(self) -> list[str]:
        """Where the schema is not what was compiled."""
        meta = self.program.load_method("forward").metadata
        compiled = {
            "inputs": [meta.input_tensor_meta(place) for place in range(meta.num_inputs())],
            "outputs": [meta.output_tensor_meta(place) for place in range(meta.num_outputs())],
        }
        wrong = []
        for side, tensors in compiled.items():
            for said, own in zip(self.schema["forward"][side], tensors, strict=True):
                sizes = [dimension.get("value") for dimension in said["shape"]]
                if (said["dtype"], sizes) != (DTYPES[own.dtype()], list(own.sizes())):
                    wrong.append(f"{side}: {said}, compiled {own.sizes()}")
        return wrong


def parsed(text: str) -> dict[str, Any]:
    """A `ModelSpec`; a KeyError or AssertionError where the loader throws."""
    spec: dict[str, Any] = json.loads(text)
    for method in spec.values():
        assert method.keys() == {"inputs", "outputs", "runtimeConstraints"}
        for one in [*method["inputs"], *method["outputs"]]:
            assert one.keys() == {"kind", "dtype", "shape"}
            assert one["kind"] == "Tensor"
            assert one["dtype"] in DTYPES.values()
            for dimension in one["shape"]:
                assert dimension.keys() == DIMENSIONS[dimension["kind"]]
                low = dimension["value"] if dimension["kind"] == "constant" else dimension["range"]["min"]
                assert low >= 1
        for constraint in method["runtimeConstraints"]:
            assert constraint.keys() == {"kind", "dims"}
            assert constraint["kind"] == "equality"
            assert [dim.keys() for dim in constraint["dims"]] == [{"paramSide", "tensorIdx", "dimIdx"}] * 2
    return spec


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mcd.Bundle]:
    """A small network's; its card is known."""
    folder = tmp_path_factory.mktemp("small")
    with known(folder) as checkpoint:
        model = mcd.load_model(WORDS, checkpoint)
        yield mcd.export(model, None, None, folder, layout="react-native-executorch", verify=False)


def test_the_embedders_take_the_towers(bundle: mcd.Bundle) -> None:
    image = Model(bundle.path / f"{WORDS}_image.pte")
    assert image.mismatches() == []
    (taken,), (given,) = image.schema["forward"]["inputs"], image.schema["forward"]["outputs"]
    sizes = [one["value"] for one in taken["shape"]]
    assert (taken["dtype"], sizes[:2], sizes[2]) == ("float32", [1, 3], sizes[3])
    assert (given["dtype"], [one["value"] for one in given["shape"]]) == ("float32", [1, 24])
    text = Model(bundle.path / f"{WORDS}_text.pte")
    assert text.mismatches() == []
    (taken,) = text.schema["forward"]["inputs"]
    assert (taken["dtype"], [one["value"] for one in taken["shape"]]) == ("int64", [1, 77])


def test_pictures_and_texts_have_the_checkpoint_s_embeddings_at_length_1(bundle: mcd.Bundle) -> None:
    model = mcd.load_model(WORDS, bundle.path.parent / "tiny.safetensors")
    pixels, ids = mcd.preprocess(image_paths(), model), mcd.tokenize(prompts())
    for tower, inputs, wanted in (
        ("image", pixels, embed_images(model, pixels)),
        ("text", ids.astype(np.int64), embed_texts(model, ids)),
    ):
        file = Model(bundle.path / f"{WORDS}_{tower}.pte")
        found = np.concatenate([file.run(torch.from_numpy(one[None])).numpy() for one in inputs])
        unit = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
        assert np.linalg.norm(found - unit, axis=1).max() < 1e-5


def test_the_library_refuses_the_tokenizer_and_the_page_brings_one_that_does_not(
    bundle: mcd.Bundle, tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    from pytorch_tokenizers import CppHFTokenizer  # what ExecuTorch's apps read tokenizer.json by

    with pytest.raises(RuntimeError, match="Failed to load HF tokenizer"):
        CppHFTokenizer().load(str(bundle.path / "tokenizer.json"))
    page = (Path(__file__).parents[3] / "docs" / "layouts.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```typescript\n(.*?)```", page, re.DOTALL)
    lines = block.replace('"mobileclip"', f'"{client_sources()}/mobileclip.js"').splitlines()
    script = [*lines[:1], 'import { readFileSync } from "node:fs";', f"const folder = {json.dumps(str(bundle.path))};"]
    script += ['const read = (name) => readFileSync(`${folder}/${name}`, "utf-8");']
    script += [
        'const [vocabulary, manifest] = ["tokenizer/vocab.json", "manifest.json"].map((n) => JSON.parse(read(n)));'
    ]
    script += [
        'const merges = read("tokenizer/merges.txt");',
        "const [texts, found] = [JSON.parse(process.argv[2]), []];",
    ]
    script += ["for (const text of texts) {", *(line for line in lines[1:] if "execute" not in line)]
    script += ["found.push(Array.from(ids, Number)); }", "console.log(JSON.stringify(found));"]
    (tmp_path / "page.mjs").write_text("\n".join(script), encoding="utf-8")
    texts = [*prompts(), "hello!", "word " * 100, "“crème” <end_of_text>"]
    node = require_tool("node", "apt-get install nodejs")
    found = json.loads(output(node, "page.mjs", json.dumps(texts), cwd=tmp_path, timeout=120))
    assert found == mcd.tokenize(texts).tolist()


def test_it_is_verified_as_any_bundle(bundle: mcd.Bundle) -> None:
    report = mcd.verify(bundle, thorough=False)
    assert not report.failed
    assert bundle.manifest.options["model_schema"] == "on"


@pytest.mark.parametrize(("old", "new"), [(b'"value":24', b'"value":25'), (b"get_model_schema", b"get_model_schemb")])
def test_a_file_that_says_otherwise_than_its_tensors_is_refused(
    bundle: mcd.Bundle, tmp_path: Path, old: bytes, new: bytes
) -> None:
    file = tmp_path / f"{WORDS}_image.pte"
    shutil.copy(bundle.path / f"{WORDS}_image.pte", file)
    data = file.read_bytes()
    assert data.count(old) == 1
    file.write_bytes(data.replace(old, new))
    with pytest.raises(InvalidInput, match=r"is not a usable .pte file: its (get_model_schema describes|methods are)"):
        _ = get_target("executorch").open(file).graph


def test_free_dimensions_are_ranges() -> None:
    ids, embedding = TensorInfo("input_0", "int64", (1, 77)), TensorInfo("output_0", "float32", (1, 128))
    spec = parsed(model_schema(ids, embedding, FreeShape(shortest=16), 64))["forward"]
    assert spec["inputs"][0]["shape"][1] == {"kind": "range", "range": {"min": 16, "max": 77, "step": 1}}
    assert spec["outputs"][0]["shape"][0] == {"kind": "constant", "value": 1}
    spec = parsed(model_schema(ids, embedding, FreeShape(batch=True), 64))["forward"]
    assert {side: spec[side][0]["shape"][0]["range"]["max"] for side in ("inputs", "outputs")} == {
        "inputs": 64,
        "outputs": 64,
    }
    assert len(spec["runtimeConstraints"]) == 1
