"""Steps of activations of a Core ML package, checked without a conversion: by what its own program computes."""

from pathlib import Path
from typing import Any

import pytest
from faults.conftest import Healthy, restamped
from faults.coreml_edits import edited, range_halved, range_widened
from faults.files import Files

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.verify.checks.activations import check_activations
from mobileclip_deploy.verify.checks.graph import check_graph
from mobileclip_deploy.verify.checks.ranges import check_ranges
from mobileclip_deploy.verify.checks.weights import check_weights


@pytest.mark.once(by=lambda given: str(given["failed"]))
@pytest.mark.parametrize(
    ("tower", "plant", "failed"),
    [
        ("image", lambda _: None, []),
        pytest.param("text", lambda _: None, [], marks=pytest.mark.slow),
        ("image", range_halved, ["ranges"]),
        ("image", range_widened, ["activations"]),
    ],
)
def test_steps_of_activations_are_checked_without_a_conversion(
    files: Files, half: Healthy, tower: TowerName, plant: Any, failed: list[str], tmp_path: Path
) -> None:
    entry = half.bundle.manifest.towers[tower].model_copy(update={"precision": "w8a8"})
    edited(files.path("coreml", tower, "w8a8-iOS17"), plant, tmp_path / entry.file)
    update = {"towers": {tower: entry}, "options": {"deployment_target": "iOS17"}}
    own = half.subject(restamped(Bundle(tmp_path, half.bundle.manifest.model_copy(update=update))))
    (weights,) = check_weights(own.towers[tower])
    (graph,) = check_graph(own.towers[tower])
    checks = check_activations(own.towers[tower])
    checks += check_ranges(own.towers[tower]) if own.towers[tower].locations else []
    assert weights.status == "passed", weights.detail
    assert graph.status == ("not run" if "activations" in failed else "passed")
    assert [check.step for check in checks if check.status == "failed"] == failed
    assert failed or [check.step for check in checks] == ["activations", "ranges"]
