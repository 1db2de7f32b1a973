"""ONNX bundles: names, types, opset, values, bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from exports import Exports
from golden_checkpoints import GoldenCheckpoint
from writing import job_of

import mobileclip_deploy as mcd
from mobileclip_deploy.checkpoints.identity import identify
from mobileclip_deploy.checkpoints.loading import assemble
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.folding import fold
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.provenance import Provenance
from mobileclip_deploy.model.variants import TowerName, load_variant
from mobileclip_deploy.parity import Gates, compare
from mobileclip_deploy.parity.gates import passes
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import total_bytes
from mobileclip_deploy.targets.values import Shared
from mobileclip_deploy.towers.tower import make_tower

FILES = {
    "fp32": ["onnx/text_model.onnx", "onnx/vision_model.onnx"],
    "fp16": ["onnx/text_model_fp16.onnx", "onnx/vision_model_fp16.onnx"],
}
both_towers = pytest.mark.parametrize("tower", ["image", "text"])
both_precisions = pytest.mark.parametrize("precision", ["fp32", "fp16"])


def artifact(exports: Exports, precision: str, tower: TowerName) -> Path:
    return exports.bundle("onnx", precision).artifact(tower)


@both_precisions
def test_files_are_where_transformers_js_looks_for_them(exports: Exports, precision: str) -> None:
    path = exports.bundle("onnx", precision).path
    found = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    beside = ["config.json", "preprocessor_config.json", "special_tokens_map.json"]
    beside += ["tokenizer.json", "tokenizer_config.json"]
    ours = ["MODEL_CARD.md", "golden.safetensors", "manifest.json", "parity.json"]
    ours += ["tokenizer/merges.txt", "tokenizer/vocab.json", "LICENSES/CC-BY-SA-4.0.txt", "LICENSES/NOTICE.txt"]
    assert found == sorted([*FILES[precision], *beside, *ours])
    assert json.loads((path / "config.json").read_text())["model_type"] == "clip"
    assert json.loads((path / "preprocessor_config.json").read_text())["do_normalize"] is False


@both_precisions
@pytest.mark.parametrize(
    ("tower", "source", "result"),
    [
        ("image", ("pixel_values", "tensor(float)", ["batch", 3, 64, 64]), "image_embeds"),
        ("text", ("input_ids", "tensor(int64)", ["batch", 77]), "text_embeds"),
    ],
)
def test_inputs_and_outputs_are_named_and_typed_as_clients_expect(
    exports: Exports, precision: str, tower: TowerName, source: tuple[str, str, list[object]], result: str
) -> None:
    session = onnxruntime.InferenceSession(artifact(exports, precision, tower))  # default options: graph level ALL
    (have,), (out,) = session.get_inputs(), session.get_outputs()
    assert (have.name, have.type, have.shape) == source
    assert (out.name, out.type, out.shape) == (result, "tensor(float)", ["batch", 128])


@both_precisions
@both_towers
def test_it_is_opset_20_valid_and_says_what_it_is(exports: Exports, precision: str, tower: TowerName) -> None:
    model = onnx.load(artifact(exports, precision, tower))
    onnx.checker.check_model(model, full_check=True)
    assert {(entry.domain, entry.version) for entry in model.opset_import if not entry.domain} == {("", 20)}
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties == {"variant": "nano", "tower": tower, "precision": precision, "licence": "CC-BY-SA-4.0"}


@both_towers
def test_inputs_of_another_shape_are_refused(exports: Exports, tower: TowerName) -> None:
    with pytest.raises(InvalidInput, match="the model takes"):
        mcd.load_runner(exports.bundle("onnx", "fp32"), tower)(np.zeros((1, 5), np.float32))


@dataclass(frozen=True)
class Case:
    """A golden checkpoint, folded, and where its towers are written."""

    golden: GoldenCheckpoint
    model: MobileCLIP
    folder: Path

    def written(self, tower: TowerName, *precisions: str) -> list[Path]:
        """In these precisions, which share what they begin with, as a bundle and its twin do."""
        shared, paths = Shared(), [self.folder / f"{tower}-{precision}.onnx" for precision in precisions]
        for precision, path in zip(precisions, paths, strict=True):
            get_target("onnx").write(job_of(self.model, tower, precision, shared=shared), path)
        return paths

    def size(self, tower: TowerName, precision: str) -> int:
        """Bytes of all weights, by their storage: that files hold what theirs says, test_storage shows on nano."""
        module = make_tower(self.model, tower)
        return total_bytes(module, storage_of(get_target("onnx"), tower, module, precision))


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Apple's S0."""
    golden = GoldenCheckpoint("mobileclip-s0.apple")
    model = assemble(identify(golden.file(), load_variant(golden.variant)))
    fold(model)
    model.provenance = Provenance(
        variant=golden.variant, layout="apple", sha256="0" * 64, file="golden", licence="none", research_only=False
    )
    return Case(golden, model, tmp_path_factory.mktemp("s0"))


@pytest.mark.whole  # golden/ has the answers of torch, test_conformance.py those of a file
def test_a_golden_checkpoint_answers_as_apples_code_does(case: Case) -> None:
    target, images = get_target("onnx"), case.golden.images.numpy()
    whole, half = case.written("image", "fp32", "fp16")
    found = target.open(whole).runner()(images)
    assert compare(case.golden.arrays["image_embeddings"], found).relative <= case.golden.image_bound
    assert passes(compare(found, target.open(half).runner()(images)), Gates().shipped("fp16"))


@pytest.mark.whole
def test_text_towers_in_int8_are_at_most_a_quarter_and_a_bit_of_float32(case: Case) -> None:
    assert max(case.size("text", "w8a8"), case.size("text", "w8")) <= 0.26 * case.size("text", "fp32")


def test_the_image_tower_of_s0_in_static_int8_is_at_most_12_megabytes(case: Case) -> None:
    assert case.size("image", "w8a8") <= 12_000_000  # and the graph
