"""Golden checkpoints through ExecuTorch: near what the reference implementations answer, and small when quantized.

S0 alone: docs/figures/executorch.md says what is checked here and what benchmarks/goldens.py checks.
"""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
from golden_checkpoints import GoldenCheckpoint, folded_golden

from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import total_bytes

pytest.importorskip("executorch", reason="needs executorch: pip install 'mobileclip-deploy[executorch]'")

S0 = "mobileclip-s0.apple"
SCRIPT = Path(__file__).parents[3] / "benchmarks" / "goldens.py"


@pytest.fixture(scope="module")
def goldens() -> ModuleType:
    """The benchmark, whose table has all variants."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT.parent))  # scripts there import one another
        return importlib.import_module(SCRIPT.stem)


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "precision"), [("xnnpack", "fp32")])
def test_s0_is_within_the_goldens_bound_or_its_gate(
    goldens: ModuleType, backend: str, precision: str, tmp_path: Path
) -> None:
    path = goldens.export_golden(S0, "image", f"executorch-{backend}", precision, tmp_path)
    found = goldens.deviation_of(S0, "image", "executorch", path)
    assert found.cosine >= 0.999
    assert precision == "fp16" or found.relative <= GoldenCheckpoint(S0).bound("image")


@pytest.mark.slow
@pytest.mark.parametrize(("tower", "precision", "megabytes"), [("image", "w8a8", 16), ("text", "w8", 60)])
def test_s0_is_small_when_quantized(tower: TowerName, precision: str, megabytes: float) -> None:
    """By its storage: that files hold what theirs says, to the layer and in size, test_storage shows on nano."""
    module = make_tower(folded_golden(S0), tower)
    storage = storage_of(get_target("executorch"), tower, module, precision)
    assert total_bytes(module, storage) <= 0.9 * megabytes * 1e6  # and the program
