"""`audit` of other tools' files: every row of a batch. The files are functions of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import mobileclip_deploy as mcd
from mobileclip_deploy.base.progress import silent
from mobileclip_deploy.errors import RuntimeFailed
from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.samples import image_paths, prompts
from mobileclip_deploy.targets.foreign_file import StoredConstant
from mobileclip_deploy.verify.audit.door import _towers
from mobileclip_deploy.verify.audit.opening import Port
from mobileclip_deploy.verify.audit.report import ForeignTower

Compute = Callable[..., Any]


@dataclass
class Function:
    """An opened file that a function of tensors computes; it stores the weights of a model."""

    model: Any
    inputs: Sequence[Port]
    outputs: Sequence[Port]
    compute: Compute
    path: Path = Path("theirs.onnx")
    rounds: bool = False

    def call(self, values: Sequence[Any]) -> list[Any]:
        with torch.no_grad():
            try:
                results = self.compute(*(torch.from_numpy(np.ascontiguousarray(value)) for value in values))
            except (RuntimeError, IndexError) as error:
                raise RuntimeFailed(str(error)) from error
        return [result.numpy() for result in (results if isinstance(results, tuple) else (results,))]

    def constants(self) -> Iterator[StoredConstant]:
        for name, value in self.model.named_parameters():
            yield StoredConstant(name, value.detach().numpy())


@pytest.fixture(scope="module")
def model() -> Any:
    return mcd.load_model()


@pytest.fixture(scope="module")
def inputs(model: Any) -> Any:
    return sample_inputs(model, image_paths()[:3], prompts()[:4])


def port(tower: str, batch: int) -> Port:
    image = tower == "image"
    shape = (batch, 3, 64, 64) if image else (batch, 77)
    return Port(name="pixels" if image else "ids", dtype="float32" if image else "int64", shape=shape)


def audited(model: Any, inputs: Any, tower: str, batch: int, compute: Compute) -> ForeignTower:
    output = Port(name="y", dtype="float32", shape=(batch, 128))
    (found,) = _towers(Function(model, [port(tower, batch)], [output], compute), model, inputs, silent)  # type: ignore[arg-type]
    return found


def at_first_end(model: Any, ids: Tensor) -> Tensor:
    text, end = model.text, int((ids[0] == 49407).int().argmax())
    return text.projection(text.final_norm(text.features(ids)[:, end]))


def of_whole_batch(model: Any, ids: Tensor) -> Tensor:
    x = model.text(ids)
    return x / x.norm()


def brightness(model: Any, x: Tensor) -> Tensor:
    return model.image(x - x.mean((1, 2, 3), keepdim=True) + x.mean())


def others_empty(model: Any, x: Tensor) -> Tensor:
    return model.image(x) * (torch.arange(len(x)) == 0)[:, None]


def one_for_all(model: Any, x: Tensor) -> Tensor:
    return model.image(x[:1]).expand(len(x), -1)


FAULTS: list[Any] = [
    ("text", 0, at_first_end, "batch-rows"),
    ("text", 0, of_whole_batch, "batch-rows"),
    ("text", 0, lambda m, x: m.text(x).flip(0), "batch-rows"),
    ("text", 0, lambda m, x: m.text(x[:1]), "batch-rows"),
    ("text", 0, lambda m, x: m.text(x.reshape(1, 77)), "batch-of-one"),
    ("image", 4, others_empty, "batch-rows"),
    pytest.param("image", 0, brightness, "batch-rows", marks=pytest.mark.slow),
    pytest.param("image", 4, one_for_all, "batch-rows", marks=pytest.mark.slow),
    pytest.param("image", 2, lambda m, x: m.image(x).flip(0), "batch-rows", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("tower", "batch", "compute", "cause"), FAULTS)
def test_a_mistake_of_rows_in_a_batch_is_named(
    model: Any, inputs: Any, tower: str, batch: int, compute: Callable[[Any, Tensor], Tensor], cause: str
) -> None:
    found = audited(model, inputs, tower, batch, lambda x: compute(model, x))
    assert (found.verdict, found.cause, found.explained) == ("defect", cause, None)


@pytest.mark.parametrize(
    ("tower", "batch", "compute"),
    [
        ("text", 0, lambda m, x: m.text(x)),
        ("text", 3, lambda m, x: F.normalize(m.text(x))),
        ("image", 1, lambda m, x: m.image(x[:1])),
        ("image", 4, lambda m, x: m.image(x)),
    ],
)
def test_right_rows_are_the_same(
    model: Any, inputs: Any, tower: str, batch: int, compute: Callable[[Any, Tensor], Tensor]
) -> None:
    assert audited(model, inputs, tower, batch, lambda x: compute(model, x)).verdict == "same"
