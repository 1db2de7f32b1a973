"""What stands in a .pte: every weight as its storage says, a weight that was changed, parts that nothing here reads."""

import json
from pathlib import Path

import numpy as np
import pytest
from faults.executorch_edits import FAULTS, edited
from faults.executorch_planting import PlantedProgram
from faults.files import Files

from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.executorch.coreml_payload import payload_files
from mobileclip_deploy.targets.graph import first_difference


@pytest.mark.once("name")
@pytest.mark.parametrize("precision", ["w4", "w8"])
@pytest.mark.parametrize("name", ["a scale of a weight", "a number of a weight", "a word"])
def test_a_weight_that_was_changed_is_read_as_it_is(files: Files, precision: str, name: str, tmp_path: Path) -> None:
    target, healthy = get_target("executorch"), files.path("executorch", "text", precision)
    plant = next(edit.plant for edit in FAULTS if edit.name == name)
    edited(healthy, plant, tmp_path / "edited.pte")
    before, after = target.open(healthy).weights, target.open(tmp_path / "edited.pte").weights
    changed = [(a, b) for a, b in zip(before, after, strict=True) if not np.array_equal(a.values, b.values)]
    ((was, now),) = changed
    # Its grid cannot hold the numbers that belong there, or it holds others than those nearest to them.
    assert np.abs(now.nearest(was.values) - now.values).max() > 0 or "scale" in name


@pytest.mark.parametrize("fault", ["none", "payload", "named data"])
def test_a_part_that_is_not_read_is_compared_byte_by_byte(files: Files, fault: str, tmp_path: Path) -> None:
    paths = tmp_path / "healthy.pte", tmp_path / "edited.pte"
    for path in paths:
        program = PlantedProgram(files.path("executorch", "text", "w4"))
        for delegate in program.plan["delegates"]:
            delegate["id"] = "VulkanBackend"
        if path is paths[1] and fault == "payload":
            program.parts[0]["xnodes"][0]["debug_handle"] += 1
        if path is paths[1] and fault == "named data":
            next(iter(program.named.values()))[3] ^= 1
        program.spare = paths.index(path)
        program.save(path)
    difference = first_difference(*(get_target("executorch").open(path).graph for path in paths))
    assert (difference is None) == (fault == "none")
    assert difference is None or "VulkanBackend" in difference.describe()


def test_a_core_ml_folder_that_is_no_tree_is_refused() -> None:
    """A folder within itself, or shared a thousand times: the files of it would have no end."""
    shared = {"kind": 1, "children": {str(number): 1 for number in range(9)}}
    nodes = [{"kind": 0, "dataRegion": {"offset": 0, "size": 1}}, {"kind": 1, "children": {"a": 0}}, shared]
    with pytest.raises(ValueError, match="a file is in two folders"):
        payload_files(b"x" + json.dumps({"nodes": nodes})[::-1].encode())
