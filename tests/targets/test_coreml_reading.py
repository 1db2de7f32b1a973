"""What a package holds: its weights in torch's layout, what its grid can hold, and what its numbers alone compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil.programs import build
from writing import chosen, job_of

import mobileclip_deploy as mcd
from mobileclip_deploy.folding import fold
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.towers.absorbing import scaled_layers

pytestmark = pytest.mark.usefixtures("stored_conversions")


@pytest.fixture(scope="module")
def model() -> mcd.MobileCLIP:
    model = mcd.load_model()
    fold(model)
    return model


@pytest.mark.once("precision")
@pytest.mark.parametrize(
    ("precision", "deployment_target", "stored", "worst"),
    [
        ("fp32", "iOS16", {("float", 32)}, 0),
        ("fp16", "iOS16", {("float", 16)}, 3e-4),
        ("w8", "iOS16", {("float", 16), ("integers", 8)}, 1e-2),
        ("w8", "iOS18", {("float", 16), ("integers", 8)}, 1e-2),
        ("w6p", "iOS16", {("float", 16), ("integers", 8), ("table", 6)}, 4e-2),
        ("w4p", "iOS18", {("float", 16), ("integers", 8), ("table", 4)}, 0.15),
        ("w4p-p50", "iOS18", {("float", 16), ("integers", 8), ("table", 4)}, 0.3),
        ("w4", "iOS18", {("float", 16), ("integers", 8), ("integers", 4)}, 0.15),
    ],
)
def test_weights_are_those_of_the_checkpoint_on_the_files_own_grid(
    model: mcd.MobileCLIP, precision: str, deployment_target: str, stored: set[Any], worst: float, tmp_path: Path
) -> None:
    job, path = job_of(model, "text", precision), tmp_path / "text.mlpackage"
    chosen("coreml", deployment_target=deployment_target).write(job, path)
    with torch.no_grad():
        tensors = [*job.module.parameters(), *job.module.buffers()]
        tensors += [
            layer.weight * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
            for _, layer, scale in scaled_layers(job.module)
        ]
    weights = get_target("coreml").open(path).weights
    assert weights is not None
    assert {(weight.kind, weight.bits) for weight in weights} == stored
    for weight in weights:
        wanted = [tensor.detach().numpy() for tensor in tensors if tensor.shape == weight.values.shape]
        assert np.array_equal(weight.nearest(weight.values), weight.values), weight.name
        if weight.values.shape == (77, 77):  # the mask of the pooling, which is computed when the tower is converted
            continue
        distances = [float(np.linalg.norm(weight.values - one) / np.linalg.norm(one)) for one in wanted]
        assert min(distances) <= worst, weight.name
        # What the file holds is the nearest that it can, but where two are as near to within float16's rounding.
        nearest = weight.nearest(wanted[int(np.argmin(distances))])
        assert (nearest == weight.values).mean() > 0.98, weight.name


@pytest.mark.parametrize("transposed", [False, True])
def test_a_products_weight_is_given_with_outputs_first(transposed: bool, tmp_path: Path) -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)  # [outputs, inputs]

    def body(mb: Any, x: Any) -> Any:
        return mb.matmul(x=x, y=weight if transposed else weight.T, transpose_y=transposed)

    path = build(tmp_path / "a.mlpackage", {"x": ((1, 3), "float32")}, body)
    weights = get_target("coreml").open(path).weights
    assert weights is not None
    (found,) = weights
    np.testing.assert_array_equal(found.values, weight)
    np.testing.assert_array_equal(found.nearest(weight + 0.5), weight + 0.5)


@pytest.mark.parametrize("precision", ["fp16", "w8a8"])
def test_a_plain_runner_rounds_nothing_but_weights(model: mcd.MobileCLIP, precision: str, tmp_path: Path) -> None:
    from mobileclip_deploy.towers.inputs import sample_inputs

    job, path = job_of(model, "text", precision), tmp_path / "text.mlpackage"
    chosen("coreml", deployment_target="iOS17").write(job, path)
    ids = sample_inputs(model).ids[:2]
    with torch.no_grad():
        wanted = job.module(torch.from_numpy(ids)).numpy()
    target = get_target("coreml")
    plain, shipped = target.open(path).plain_runner(), target.open(path).runner()
    assert plain is not None
    deviations = [float(np.linalg.norm(run(ids) - wanted) / np.linalg.norm(wanted)) for run in (plain, shipped)]
    assert deviations[0] < (5e-4 if precision == "fp16" else 3e-2)
    assert deviations[0] < deviations[1] / (1.5 if precision == "fp16" else 4)
