"""The inputs that a bundle holds are the packaged samples: today's, or those of the version that wrote it."""

from pathlib import Path

import pytest
from exports import Exports

import mobileclip_deploy as mcd
from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.samples import calibration_prompts, prompts
from mobileclip_deploy.parity.computing import compute_reference
from mobileclip_deploy.verify.checks.golden import check_golden
from mobileclip_deploy.verify.opening import opened_subject
from mobileclip_deploy.verify.request import VerifyRequest


@pytest.mark.parametrize(
    ("texts", "status"),
    [
        (calibration_prompts(), "passed"),  # as bundles until 0.3 have them
        ([*prompts()[:23], "a photo of a dog"], "failed"),
        pytest.param(prompts(), "passed", marks=pytest.mark.slow),
        pytest.param(calibration_prompts()[:23], "failed", marks=pytest.mark.slow),
    ],
    ids=["until 0.3", "another", "today's", "one is missing"],
)
def test_prompts_are_the_packaged_ones_of_one_version(
    exports: Exports, tmp_path: Path, texts: list[str], status: str
) -> None:
    path = exports.copy("onnx", "fp16", tmp_path)
    model = mcd.load_model(None, exports.checkpoint)
    compute_reference(model, sample_inputs(model, texts=texts)).save(path / "golden.safetensors")
    with opened_subject(VerifyRequest(path, exports.checkpoint, thorough=False)) as subject:
        assert {check.tower: check.status for check in check_golden(subject)} == {"image": "passed", "text": status}
