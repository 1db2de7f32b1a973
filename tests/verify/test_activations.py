"""Activations that a file rounds: torch rounds them by the same steps, and the steps are the checkpoint's ranges."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import Exports
from faults.onnx_edits import (
    Plant,
    activation_range,
    activation_restored,
    activation_zero,
    activations_cut_off,
    attention_scale,
    constants_as_operations,
    edited,
    gelus_by_tanh,
    outputs_scaled,
)
from torch import Tensor, nn
from writing import subject

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets.graph import Constant, Graph, Node, Wire
from mobileclip_deploy.targets.quantized import Flow, QuantizedValue
from mobileclip_deploy.verify.checks.activations import check_activations
from mobileclip_deploy.verify.checks.graph import check_graph
from mobileclip_deploy.verify.checks.ranges import check_ranges
from mobileclip_deploy.verify.checks.weights import check_weights
from mobileclip_deploy.verify.instruments.quantized import QuantizedTower, locate_values
from mobileclip_deploy.verify.subject import Subject


@pytest.fixture(scope="module")
def whole(exports: Exports) -> Subject:
    """The image tower of nano as ONNX at w8a8: its check of weights has passed."""
    torch.set_num_threads(1)
    bundle = exports.unverified("onnx", "w8a8", "both")
    only = {"image": bundle.manifest.towers["image"]}
    own = Bundle(bundle.path, bundle.manifest.model_copy(update={"towers": only}))
    found = subject(own, mcd.load_model(None, exports.checkpoint), Reference.read(bundle.golden), Path("nowhere"))
    (check,) = check_weights(found.towers["image"])
    assert check.status == "passed", check.detail
    return found


def outcomes(whole: Subject, plant: Plant, folder: Path) -> dict[str, tuple[str, str]]:
    """What the checks that need no converter say of a copy with an edit: step -> status and detail."""
    own = replace(whole, bundle=Bundle(folder, whole.bundle.manifest))
    edited(whole.bundle.artifact("image"), plant, own.bundle.artifact("image"))
    image = own.towers["image"]
    image.matched = whole.towers["image"].matched
    checks = [*check_graph(image), *check_activations(image), *(check_ranges(image) if image.locations else [])]
    return {check.step: (check.status, str(check.detail)) for check in checks}


def test_torch_rounds_what_the_file_rounds_to_the_same_integers(whole: Subject) -> None:
    (graph,) = check_graph(whole.towers["image"])
    (rounded,) = check_activations(whole.towers["image"])
    (ranges,) = check_ranges(whole.towers["image"])
    assert (graph.step, graph.status) == ("graph", "passed")
    assert str(graph.gate).startswith("relative")  # nothing is left that would need a cosine
    assert (rounded.step, rounded.status, rounded.gate) == ("activations", "passed", "cosine >= 0.999")
    assert re.fullmatch(r"([\d,]{7,}) of \1 integers at \d+ places equal torch's", str(rounded.detail))
    assert rounded.deviation.relative < 1e-6
    assert (ranges.step, ranges.status) == ("ranges", "passed")
    assert str(ranges.detail).endswith(" are those of the checkpoint's values")


@pytest.mark.once(by=lambda given: str(given["failed"]))
@pytest.mark.parametrize(
    ("plant", "failed", "said"),
    [
        (activation_range, {"ranges"}, "the checkpoint's values are within"),
        (activation_zero, {"ranges"}, "the checkpoint's values are within"),
        (activations_cut_off, {"ranges"}, "; and "),
        (activation_restored, {"activations"}, "is not dequantized with the scale it was quantized with"),
        (outputs_scaled, {"graph", "activations"}, ""),
        (gelus_by_tanh, {"graph", "activations"}, "which torch does not compute"),
        (attention_scale, {"graph", "activations"}, "it quantizes 'view_4' and "),
        (constants_as_operations, set(), ""),
    ],
)
def test_a_wrong_step_and_a_wrong_operation_are_found_without_a_converter(
    whole: Subject, plant: Plant, failed: set[str], said: str, tmp_path: Path
) -> None:
    found = outcomes(whole, plant, tmp_path)
    assert {step for step, (status, _) in found.items() if status == "failed"} == failed
    assert said in " ".join(detail for _, detail in found.values())


@dataclass
class Small:
    """A network of two layers that a file rounds behind the first."""

    module: nn.Module
    value: QuantizedValue

    def answer(self, row: Tensor, integers: list[int]) -> tuple[list[float], int]:
        """The answer, and how many integers were others."""
        places, missing = locate_values(
            self.module, row, {"first": row.numpy() * 2, "second": row.numpy() * 2 + 1}, [self.value]
        )
        assert not missing
        tower = QuantizedTower(self.module, [self.value], places)
        return tower(row, {"q": np.array([integers], np.int8)})[0].tolist(), tower.off["first"]


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 + 1


@pytest.mark.parametrize(
    ("integers", "answer", "off"),
    [
        ([2, -5], [3.0, -4.0], 0),  # 1.249 is 2.498 steps, as good as 2 or 3
        ([3, -5], [4.0, -4.0], 0),
        ([1, -5], [3.0, -4.0], 1),  # this is no rounding of it: torch's own stays
        ([2, 7], [3.0, -4.0], 1),
    ],
)
def test_a_number_between_two_steps_goes_where_the_file_has_put_it(
    integers: list[int], answer: list[float], off: int
) -> None:
    value = QuantizedValue("q", "first", (), 1.0, 0, -128, 127, 1.0)
    small = Small(Doubled(), value)
    assert small.answer(torch.tensor([[1.2490, -2.5]]), integers) == (answer, off)


def test_what_takes_a_value_is_followed_through_other_shapes() -> None:
    x, y, restored = Wire(None, 0), Wire(None, 1), Wire(None, 2)
    nodes = (
        Node("shape", (("x", x),)),
        Node("sum", (("x", Wire(0)),)),
        Node("shape", (("x", restored),)),
        Node("product", (("x", Wire(2)), ("y", Constant(np.ones(1))))),
    )
    graph = Graph(("x", "y", "z"), nodes, ("out",), (Wire(3),))
    flow = Flow(graph, lambda node: node.type == "shape", lambda node: False)
    assert flow.taking(Wire(0), restored) == (Wire(3),)  # the sum takes it as it was
    assert flow.taking(y, restored) == ()
    assert flow.taking(y, restored, alone=False) == (Wire(3),)
