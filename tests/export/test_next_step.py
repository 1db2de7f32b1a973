"""What a refused export advises: a finer precision, a search, learning; nothing where the conversion went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobileclip_deploy.export.plan import BundlePlan
from mobileclip_deploy.export.steps import _next_step
from mobileclip_deploy.parity import Check, ParityReport
from mobileclip_deploy.targets import get_target


@pytest.mark.parametrize(
    ("precision", "failed", "advice"),
    [
        (
            "w4",
            "shipped",
            "try w8 or w8a8 or fp16 or fp32, or let `precision='smallest'` search, or learn its rounding "
            "(`rounding='gptq'`), or train it for w4 with `recover`; ",
        ),
        ("fp16", "task", "try fp32, or let `precision='smallest'` search; "),
        ("fp32", "shipped", ""),
        ("w4", "twin", ""),
    ],
)
def test_a_refusal_names_the_next_step(precision: str, failed: str, advice: str) -> None:
    plan = BundlePlan(Path(), get_target("onnx"), {"image": precision})
    checks = (Check(step=failed, tower="image", status="failed"),)
    assert _next_step(plan, ParityReport(bundle="b", variant="nano", target="onnx", checks=checks)) == advice
