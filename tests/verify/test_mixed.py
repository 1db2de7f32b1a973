"""Precision "mixed": the search's log says which layers have 4 bits; without it nothing can be converted again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from exports import Exports
from writing import subject

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.verify.checks.reproduced import check_reproduced
from mobileclip_deploy.verify.subject import Subject

LAYER = "encoder.projection.weight"


@pytest.fixture
def mixed(exports: Exports, tmp_path: Path) -> Subject:
    """A bundle that says that its image tower is mixed."""
    bundle = Bundle.open(exports.copy("coreml", "fp16", tmp_path))
    entry = bundle.manifest.towers["image"].model_copy(update={"precision": "mixed"})
    manifest = bundle.manifest.model_copy(update={"towers": {"image": entry}})
    reference = Reference.read(bundle.golden)
    return subject(replace(bundle, manifest=manifest), mcd.load_model(), reference, tmp_path / "again")


def test_the_log_names_the_layers_that_have_4_bits_and_without_it_they_are_not_judged(mixed: Subject) -> None:
    (check,) = check_reproduced(mixed.towers["image"])
    assert (check.status, "needs smallest.json" in str(check.detail)) == ("not run", True)
    assert mixed.towers["image"].stored_weights == ()
    log = {"trials": [{"four_bit": {}}, {"four_bit": {"image": [LAYER]}}]}
    (mixed.bundle.path / "smallest.json").write_text(json.dumps(log), encoding="utf-8")
    assert mixed.towers["image"].four_bit == {LAYER}
    assert any(row.grid.startswith("int4") and row.layers == 1 for row in mixed.towers["image"].stored_weights)
    (mixed.bundle.path / "smallest.json").write_text('{"trials": []}', encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"smallest\.json cannot be read"):
        _ = mixed.towers["image"].four_bit
