"""What a refused export advises: a finer precision, a search, learning; nothing where the conversion went wrong."""

from pathlib import Path

import pytest

from mobileclip_deploy.export.plan import BundlePlan
from mobileclip_deploy.export.request import ExportRequest
from mobileclip_deploy.export.steps import _next_step
from mobileclip_deploy.parity import Check, ParityReport
from mobileclip_deploy.targets import get_target


@pytest.mark.parametrize(
    ("target", "precision", "failed", "advice"),
    [
        (
            "onnx",
            "w4",
            "shipped",
            "try w8 or w8a8 or fp16 or fp32, or let `precision='smallest'` search, or learn its rounding "
            "(`rounding='gptq'`); ",
        ),
        (
            "coreai",
            "w4p",
            "task",
            "try w6p or w8 or fp16 or fp32, or let `precision='smallest'` search, or learn its rounding "
            "(`rounding='gptq'`); ",
        ),
        ("onnx", "fp16", "task", "try fp32, or let `precision='smallest'` search; "),
        ("onnx", "fp32", "shipped", ""),
        ("onnx", "w4", "twin", ""),
    ],
)
def test_a_refusal_names_the_next_step(target: str, precision: str, failed: str, advice: str) -> None:
    plan = BundlePlan(Path(), get_target(target), {"image": precision}, ExportRequest(()))
    checks = (Check(step=failed, tower="image", status="failed"),)
    assert _next_step(plan, ParityReport(bundle="b", variant="nano", target=target, checks=checks)) == advice
