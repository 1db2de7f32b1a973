"""`audit` of other tools' files: rows of a batch, and outputs by their names. Files are functions here."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
from mobileclip_deploy.verify.audit.conventions import Roles, conventions_of
from mobileclip_deploy.verify.audit.door import _towers
from mobileclip_deploy.verify.audit.opening import Port
from mobileclip_deploy.verify.audit.outputs import logit_mistakes, name_mistake
from mobileclip_deploy.verify.audit.report import ForeignTower
from mobileclip_deploy.verify.audit.tower_search import TowerSearch

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


NAMES = ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds")


@pytest.fixture(scope="module")
def joint(model: Any, inputs: Any) -> Any:
    """A file with both towers, and the search for each."""

    def compute(pixels: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
        image, text = model.image(pixels), model.text(ids)
        logits = model.logit_factor * F.normalize(image) @ F.normalize(text).T
        return logits, logits.T, text, image

    ports = [port("image", 0), port("text", 0)]
    file: Any = Function(model, ports, [Port(name=name, dtype="float32", shape=(0, 0)) for name in NAMES], compute)
    conventions = {tower: each[:1] for tower, each in conventions_of(Roles(0, 1), ports, model.variant).items()}
    usual = {tower: each[0] for tower, each in conventions.items()}
    towers = {
        tower: TowerSearch(file, Roles(0, 1), usual, model, tower, inputs, each, silent)
        for tower, each in conventions.items()
    }
    return {tower: (search, search.search()) for tower, search in towers.items()}


def with_outputs(joint: Any, change: Callable[..., Any], names: Sequence[str] = NAMES) -> Any:
    def changed(search: Any) -> Any:
        outputs = [Port(name=name, dtype="float32", shape=(0, 0)) for name in names]
        compute = lambda *values: change(*search.file.compute(*values))  # noqa: E731
        return replace(search, file=replace(search.file, outputs=outputs, compute=compute))

    return {tower: (changed(search), match) for tower, (search, match) in joint.items()}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda i, t, *embeds: (i / 43.19069 * 3.7656, t, *embeds), {"image": "logit-scale"}),
        (lambda i, t, *embeds: (2 * i, 2 * t, *embeds), {"image": "logit-scale", "text": "logit-scale"}),
        (lambda i, t, *embeds: (i.softmax(1), t, *embeds), {"image": "logits"}),
        (lambda i, t, text, image: (image @ text.T, t, text, image), {"image": "logits"}),
        (lambda i, t, *embeds: (t, i, *embeds), {"image": "logits-transposed", "text": "logits-transposed"}),
        (lambda i, t, *embeds: (i, t.clamp(min=0), *embeds), {"text": "logits"}),
        (lambda i, t, text, image: (i, t, F.normalize(text), 3 * image), {}),
    ],
)
def test_a_mistake_of_logits_is_named(joint: Any, change: Callable[..., Any], cause: dict[str, str]) -> None:
    found = logit_mistakes(with_outputs(joint, change), "fp32")
    assert {tower: mistake.name for tower, mistake in found.items()} == cause


def test_an_output_is_the_embedding_of_its_name(joint: Any) -> None:
    for names, cause in (
        (NAMES, None),
        (("logits", "", "image_embeds", "text_embeds"), "output-name"),
        (("image_embeds", "text_embeds", "", ""), "output-name"),
        (("", "", "output", "output2"), None),
    ):
        for search, match in with_outputs(joint, lambda *each: each, names).values():
            mistake = name_mistake(search, match, 1e-4)
            assert (mistake and mistake.name) == cause
