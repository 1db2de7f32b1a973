"""Text towers that cut and pad ids inside: the ids of any CLIP tokenizer, and what the manifest says of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from exports import Exports

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle.manifest import TowerEntry
from mobileclip_deploy.artifacts.heads.contexts import ended
from mobileclip_deploy.base.files.names import with_fields
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.tokenizer import CLIP
from mobileclip_deploy.network.model.variants import TokenizerSpec
from mobileclip_deploy.parity import Check
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.jobs import tower_job
from mobileclip_deploy.verify.checks.padding import check_padding


@pytest.fixture(scope="module")
def bundle(exports: Exports) -> mcd.Bundle:
    return exports.unverified("onnx", "fp32", "both")


def checked(bundle: mcd.Bundle, file: Path, pads_inside: bool | None) -> list[Check]:
    """What `verify` finds of a text tower."""
    manifest = bundle.manifest
    entry: TowerEntry = with_fields(manifest.towers["text"], pads_inside=pads_inside)
    artifact = get_target("onnx").open(file)
    subject = SimpleNamespace(
        bundle=SimpleNamespace(manifest=SimpleNamespace(tokens=manifest.tokens)),
        evidence=SimpleNamespace(reference=Reference.read(bundle.golden)),
        contexts=(),
    )
    tower: Any = SimpleNamespace(subject=subject, name="text", entry=entry, artifact=artifact, runner=artifact.runner())
    return list(check_padding(tower))


@pytest.mark.slow
def test_however_ids_are_padded_the_answers_are_the_same(bundle: mcd.Bundle) -> None:
    file = bundle.artifact("text")
    assert bundle.manifest.towers["text"].pads_inside
    found = checked(bundle, file, pads_inside=True)
    assert {check.status for check in found} == {"passed"}
    assert [str(check.detail).partition(",")[0] for check in found] == [
        *("padded with the end token", "no end token", "no padding", "cut before the end token", "too long"),
    ]
    (silent,) = checked(bundle, file, pads_inside=None)
    assert (silent.status, "which the manifest does not say" in str(silent.detail)) == ("failed", True)


def test_a_file_of_an_earlier_version_is_found_out(bundle: mcd.Bundle, tmp_path: Path) -> None:
    source = Source.of(mcd.load_model())
    mcd.reparameterize(source.model)
    get_target("onnx").write(tower_job(source, "text", "fp32"), tmp_path / "text.onnx")
    (plain,) = checked(bundle, tmp_path / "text.onnx", pads_inside=None)
    assert plain.status == "passed"
    claimed = checked(bundle, tmp_path / "text.onnx", pads_inside=True)
    assert "no end token" in {str(check.detail).partition(",")[0] for check in claimed if check.status == "failed"}


@pytest.mark.slow
def test_a_fixed_length_stays_where_a_layout_states_it(exports: Exports) -> None:
    immich = exports.layout("immich", verify=False)
    (ids,) = get_target("onnx").open(immich.artifact("text")).inputs
    assert ids.shape == (0, 77)
    found = checked(immich, immich.artifact("text"), pads_inside=True)
    assert {check.status for check in found} == {"passed"}
    assert len(found) == 2


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ([1, 5, 9, 5, 5], [1, 5, 9, 0]),
        ([1, 5, 9, 9], [1, 5, 9, 0]),
        ([1, 9], [1, 9, 0, 0]),
        ([1, 5], [1, 5, 9, 0]),
        ([1, 5, 5, 5], [1, 5, 5, 9]),
        ([1, 5, 5, 5, 5, 9], [1, 5, 5, 9]),
    ],
)
def test_a_row_ends_at_its_first_end_token(row: list[int], wanted: list[int]) -> None:
    tokens = TokenizerSpec(context_length=4, vocab_size=10, sot=1, eot=9)
    assert ended(np.array([row]), tokens).tolist() == [wanted]
    assert CLIP.pad == 0
