"""The graph of a classifier: its probabilities hide what its logits show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from faults.onnx_planting import PlantedOnnx
from onnx import helper
from writing import subject

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.parity import Check
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.verify.checks.golden import check_golden
from mobileclip_deploy.verify.checks.graph import check_graph
from mobileclip_deploy.verify.checks.shipped import check_shipped
from mobileclip_deploy.verify.checks.weights import check_weights
from mobileclip_deploy.verify.subject import OpenedSubject

Plant = Callable[[PlantedOnnx], object]
pytestmark = pytest.mark.whole  # towers/test_classifier.py: `graph` fails for other labels


def sound(precision: str, folder: Path) -> OpenedSubject:
    """A classifier that passes."""
    torch.set_num_threads(1)
    labels = ["a dog", "a cat", "a house"]
    bundle = mcd.export(mcd.load_model(), "onnx", precision, folder, labels=labels, verify=False)
    model, stored = mcd.load_model(), Reference.read(bundle.golden)
    fresh, reference = Reference.again(model, stored)
    return subject(bundle, model, reference, folder / "again", fresh=fresh)


@pytest.fixture(scope="module", params=["fp32", "w8"])
def classifier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OpenedSubject:
    return sound(request.param, tmp_path_factory.mktemp("classifier"))


def checked(own: OpenedSubject, plant: Plant, folder: Path) -> dict[str, Check]:
    file = PlantedOnnx(own.bundle.artifact("image").read_bytes())
    plant(file)
    planted = replace(own, bundle=Bundle(folder, own.bundle.manifest))
    file.save(planted.bundle.artifact("image"))
    image = planted.towers["image"]
    checks = [*check_weights(image), *check_graph(image), *check_shipped(image)]
    return {check.step: check for check in reversed(checks)}  # the first of each step: answers, then settings


def tanh(file: PlantedOnnx) -> None:
    """One of them, the last: it moves logits by the least."""
    file.set(file.all("Gelu")[-1], "approximate", "tanh")


def temperature(file: PlantedOnnx) -> None:
    softmax, nodes = file.all("Softmax")[-1], file.graph.node
    warmer = file.add("warmer", np.float32(1.05))
    nodes.insert(
        list(nodes).index(softmax), helper.make_node("Mul", [softmax.input[0], warmer], ["warm"], name="planted")
    )
    file.all("Softmax")[-1].input[0] = "warm"


@pytest.mark.parametrize("plant", [tanh, temperature])
def test_what_leaves_who_leads_is_seen_in_the_logits(classifier: OpenedSubject, plant: Plant, tmp_path: Path) -> None:
    found = checked(classifier, plant, tmp_path)
    assert (found["weights"].status, found["graph"].status) == ("passed", "failed")
    # At fp32 probabilities are held to 1e-3, which 5% of a temperature moves them by.
    seen = plant is temperature and classifier.bundle.manifest.towers["image"].precision == "fp32"
    assert found["shipped"].status == ("failed" if seen else "passed")
    assert str(found["graph"].gate).startswith("logits within ")


def test_a_classifier_as_written_is_far_within_the_bound(classifier: OpenedSubject, tmp_path: Path) -> None:
    check = checked(classifier, lambda file: None, tmp_path)["graph"]
    assert (check.status, list(check.figures or {})) == ("passed", ["largest_logit_difference"])


def test_golden_answers_without_probabilities_fail(classifier: OpenedSubject) -> None:
    def outcome(stored: Reference, version: str) -> list[tuple[str, str]]:
        environment = classifier.bundle.manifest.environment | {"mobileclip-deploy": version}
        manifest = classifier.bundle.manifest.model_copy(update={"environment": environment})
        bundle = Bundle(classifier.bundle.path, manifest)
        own = replace(classifier, bundle=bundle)
        vars(own)["stored"] = stored
        return [(check.step, check.status) for check in check_golden(own)]

    stored = classifier.stored
    assert outcome(stored, "0.3.0") == [("golden", "passed"), ("golden probabilities", "passed")]
    without = replace(stored, probabilities=None)
    assert outcome(without, "0.3.0") == [("golden", "passed"), ("golden probabilities", "failed")]
    assert outcome(without, "0.2.0") == [("golden", "passed")]  # it stored none
