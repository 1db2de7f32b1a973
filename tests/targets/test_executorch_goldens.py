"""Golden checkpoints through ExecuTorch: near what the reference implementations answer, and small when quantized.

S0 alone: docs/executorch.md says what is checked here and what benchmarks/executorch_goldens.py checks.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from golden_exports import export_golden, golden_deviation, semantic_bound

from mobileclip_deploy.model.variants import TowerName

pytest.importorskip("executorch", reason="needs executorch: pip install 'mobileclip-deploy[executorch]'")

S0 = "mobileclip-s0.apple"


@pytest.mark.parametrize("tower", ["image", "text"])
def test_s0_on_xnnpack_is_within_the_goldens_bound(tower: TowerName, tmp_path: Path) -> None:
    path = export_golden(S0, tower, "xnnpack", "fp32", tmp_path)
    assert golden_deviation(S0, tower, path).relative <= semantic_bound(S0, tower)


def test_s0_on_core_ml_is_within_its_gate(tmp_path: Path) -> None:
    path = export_golden(S0, "image", "coreml", "fp16", tmp_path)
    assert golden_deviation(S0, "image", path).cosine >= 0.999


@pytest.mark.parametrize(("tower", "precision", "megabytes"), [("image", "w8a8", 14), ("text", "w8", 60)])
def test_s0_is_small_when_quantized(tower: TowerName, precision: str, megabytes: float, tmp_path: Path) -> None:
    path = export_golden(S0, tower, "xnnpack", precision, tmp_path)
    assert path.stat().st_size <= megabytes * 1e6
