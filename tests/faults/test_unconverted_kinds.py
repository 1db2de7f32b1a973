"""Every kind of fault in files of nano, where nothing is converted again, as of a bundle that other versions wrote: a
check that needs no conversion tells each of them, but for those that are listed here with their reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from conversions import Store
from exports import Exports
from faults.graphs import PlantedGraph
from faults.kinds import KINDS, Kind
from faults.onnx_written import onnx_written
from faults.unconverted import Unconverted
from writing import subject

import mobileclip_deploy as mcd
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets.onnx.opening import OnnxArtifact

CASES: list[tuple[TowerName, str]] = [("text", "fp16"), ("image", "w8a8")]
PASS: Mapping[str, str] = {
    "an operation behind the output": "a bound without numbers: it changes no answer",
    "pooled at the last end of text": "the graph replaces ids after the first one, so a row has one end of text",
    "activations that are not quantized": "answers that are nearer to the checkpoint's: it costs time alone",
}
"""Kinds that `reproduced` alone tells, each with the reason."""


@pytest.fixture(params=CASES, ids="-".join)
def sound(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> Unconverted:
    torch.set_num_threads(1)
    tower, precision = request.param
    bundle = Exports(store).unverified("onnx", precision, "both")
    model = mcd.load_model()
    reference = Reference.compute(model, Reference.read(bundle.golden).inputs)
    return Unconverted(subject(bundle, model, reference, tmp_path), tower)


def writing(file: OnnxArtifact, kind: Kind | None) -> Callable[[Path], None]:
    """Writes a file with a kind of fault in it, or with none, and makes sure that it is there."""

    def write(path: Path) -> None:
        planted = PlantedGraph("onnx", file.graph)
        if kind is not None:
            kind.plant(planted)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(onnx_written(planted, file.model).SerializeToString())

    return write


@pytest.mark.whole  # test_kinds.py, with a conversion
def test_every_kind_is_told_without_a_conversion(sound: Unconverted, tmp_path: Path) -> None:
    file = OnnxArtifact(sound.path)
    precision = sound.own.bundle.manifest.towers[sound.tower].precision
    assert sound.judged(writing(file, None), tmp_path / "sound") == "equal"
    said: dict[str, list[str]] = defaultdict(list)
    for number, kind in enumerate(KINDS):
        if kind.stands_in("onnx", sound.tower, precision):
            said[sound.judged(writing(file, kind), tmp_path / str(number))].append(kind.name)
    assert sum(map(len, said.values())) > 60
    assert {*said["equal"], *said["other answers that pass"]} <= {*PASS}
