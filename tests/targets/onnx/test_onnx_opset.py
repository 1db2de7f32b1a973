"""Files for readers of older opsets: the same answers, and what an opset cannot hold is refused."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny import WORDS, known
from writing import small_bundle

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.onnx.runner import open_session
from mobileclip_deploy.targets.onnx.target import OnnxOptions


@pytest.mark.slow
# The lowest opset lacks most operations; a higher one is shown once.
@pytest.mark.parametrize(
    ("precision", "opset"), [("fp32", "15"), ("fp16", "15"), ("w8", "15"), ("fp16", "17"), ("w8", "19")]
)
def test_a_lower_opset_passes_every_check(precision: str, opset: str, tmp_path: Path) -> None:
    with known(tmp_path, WORDS) as checkpoint:
        model = mcd.load_model(WORDS, checkpoint)
        bundle = mcd.export(model, "onnx", precision, tmp_path / "out", options={"opset": opset}, verify=False)
        report = mcd.verify(bundle, thorough=False)
    assert not report.failed
    assert {"graph", "padding", "shipped", "weights"} <= {check.step for check in report.checks}
    assert bundle.manifest.options["opset"] == opset
    for entry in bundle.manifest.towers.values():
        file = onnx.load(bundle.path / entry.file)
        assert [(item.domain, item.version) for item in file.opset_import] == [("", int(opset))]
        assert file.ir_version == {"15": 8, "17": 8, "19": 9}[opset]
        onnx.checker.check_model(file, full_check=True)


@pytest.mark.parametrize(
    ("opset", "precision", "wanted"),
    [
        ("17", "w4", "opset 17 has no w4, which needs 20; fp32, fp16, w8 have it"),
        ("19", "w8a8", "opset 19 has no w8a8, which needs 20; fp32, fp16, w8 have it"),
        ("14", "fp32", "`opset` 14: it is 15 to 20"),
        ("x", "fp32", "`opset` x: it is 15 to 20"),
    ],
)
def test_what_an_opset_cannot_hold_is_refused_with_the_lowest_that_can(opset: str, precision: str, wanted: str) -> None:
    target = get_target("onnx").with_options(OnnxOptions(opset=opset))
    with pytest.raises(UsageError, match=re.escape(wanted)):
        target.settled({"image": "fp32", "text": precision})


@pytest.mark.slow
def test_onnx_runtime_s_own_quantizer_takes_the_float32_file(tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    bundle = small_bundle(WORDS, "onnx", "fp32", tmp_path, tower="image", verify=False)
    entry = bundle.manifest.towers["image"]
    quantize_dynamic(bundle.path / entry.file, tmp_path / "int8.onnx")
    pixels = np.random.default_rng(0).random((2, *entry.input.shape[1:]), dtype=np.float32)
    files = (bundle.path / entry.file, tmp_path / "int8.onnx")
    ours, theirs = (open_session(file, 1).run(None, {entry.input.name: pixels})[0] for file in files)
    cosines = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosines.min() > 0.9
