"""ONNX bundles: names, types, opset, values, bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from exports import Exports
from golden_checkpoints import folded_golden

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import total_bytes

FILES = {
    "fp32": ["onnx/text_model.onnx", "onnx/vision_model.onnx"],
    "fp16": ["onnx/text_model_fp16.onnx", "onnx/vision_model_fp16.onnx"],
}
both_towers = pytest.mark.parametrize("tower", ["image", "text"])
both_precisions = pytest.mark.parametrize("precision", ["fp32", "fp16"])


def artifact(exports: Exports, precision: str, tower: TowerName) -> Path:
    return exports.bundle("onnx", precision).artifact(tower)


def test_telemetry_is_off_and_leaves_no_number_of_this_machine(tmp_path: Path) -> None:
    """ONNX Runtime's is on by default from 1.29 on, and writes both folders when it is imported. In CI it is off."""
    unset = ("CI", "ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY")
    told = {key: value for key, value in os.environ.items() if key not in unset}
    own = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temporary")}
    for folder in own.values():
        Path(folder).mkdir()
    source = "import mobileclip_deploy, onnxruntime; onnxruntime.get_available_providers()\n"
    source += "from huggingface_hub import constants; assert constants.HF_HUB_DISABLE_TELEMETRY"
    subprocess.run([sys.executable, "-c", source], check=True, env=told | own)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


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
        ("text", ("input_ids", "tensor(int64)", ["batch", "tokens"]), "text_embeds"),
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


S0 = "mobileclip-s0.apple"


def size(tower: TowerName, precision: str) -> int:
    """Bytes of all weights, by their storage: that files hold what theirs says, test_storage shows on nano."""
    module = make_tower(folded_golden(S0), tower)
    return total_bytes(module, storage_of(get_target("onnx"), tower, module, precision))


@pytest.mark.slow
def test_text_towers_in_int8_are_at_most_a_quarter_and_a_bit_of_float32() -> None:
    assert max(size("text", "w8a8"), size("text", "w8")) <= 0.26 * size("text", "fp32")


def test_the_image_tower_of_s0_in_static_int8_is_at_most_12_megabytes() -> None:
    assert size("image", "w8a8") <= 12_000_000  # and the graph
