"""The folded network, and the module that is converted, against the network as it was trained."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import mobileclip_deploy as mcd
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.embedding import embed
from mobileclip_deploy.network.inputs import Inputs
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.verify.checks.cut import check_cut
from mobileclip_deploy.verify.checks.folded import check_folded
from mobileclip_deploy.verify.checks.tower import check_tower
from mobileclip_deploy.verify.subject import Evidence, OpenedSubject


def test_a_folded_network_with_another_weight_fails_both_checks() -> None:
    torch.set_num_threads(1)
    model = mcd.load_model()
    pixels = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
    inputs = Inputs(("a", "b"), (), pixels, np.zeros((0, 77), np.int64))
    reference = Reference(inputs, {"image": embed(model, "image", inputs)}, folded=False, floor={"image": 1e-6})
    entry = SimpleNamespace(precision="fp32", output=SimpleNamespace(normalised=False))
    manifest = SimpleNamespace(towers={"image": entry}, classifier=None)
    bundle: Any = SimpleNamespace(manifest=manifest, path=Path("bundle"))
    source = Source.of(model).folded()
    image = OpenedSubject(bundle, Evidence(reference), mcd.Gates(), Path(), source=source).towers["image"]
    checks = [*check_folded(image), *check_tower(image)]
    assert [(check.step, check.status) for check in checks] == [("folded", "passed"), ("tower", "passed")]
    with torch.no_grad():
        next(model.image.parameters()).view(-1)[0] += 0.5
    checks = [*check_folded(image), *check_tower(image)]
    assert [(check.step, check.status) for check in checks] == [("folded", "failed"), ("tower", "failed")]


def test_the_loss_of_smaller_embeddings_is_recorded_with_its_interval() -> None:
    def measured(hits: list[float]) -> Any:
        figures = {"top1": SimpleNamespace(value=100 * float(np.mean(hits)))}
        return SimpleNamespace(hits={"top1": np.array(hits)}, result=SimpleNamespace(figures=figures))

    compacted: Any = SimpleNamespace(size=64, full_size=512)
    check = check_cut(compacted, measured([1.0] * 100), measured([1.0] * 90 + [0.0] * 10))
    assert (check.step, check.status, check.figures) == ("cut", "passed", {"top1": 90.0})
    assert str(check.detail).startswith("64 of 512 dimensions: top1 90.0% (-10.0 points, -1")
