"""A .pte that takes batches of prompts."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import refusal, run
from tiny import WORDS, known

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.parity import compare
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets.executorch.opening import ExecuTorchArtifact
from mobileclip_deploy.targets.executorch.runner import RuntimeRunner

pytestmark = pytest.mark.slow  # a conversion with free batches; test_conformance.py runs a program

pytest.importorskip("executorch", reason="needs executorch: pip install 'mobileclip-deploy[executorch]'")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """The text tower of a small network, verified when it was exported."""
    folder = tmp_path_factory.mktemp("phone")
    with known(folder) as checkpoint:
        model = mcd.load_model(WORDS, checkpoint)
        yield mcd.export(model, "executorch", "fp32", folder, tower="text", options={"dynamic_batch": True})


def test_prompts_are_taken_one_at_a_time_or_up_to_64(bundle: Bundle) -> None:
    entry = bundle.manifest.towers["text"]
    assert (entry.input.shape, entry.output.shape) == ((0, 77), (0, 24))
    reference = Reference.read(bundle.golden)
    repeats = -(-65 // len(reference.inputs.ids))
    ids, expected = np.tile(reference.inputs.ids, (repeats, 1)), np.tile(reference.of("text"), (repeats, 1))
    runner = RuntimeRunner(ExecuTorchArtifact(bundle.artifact("text"), readable=True), 1)
    for size in (1, 64, 2, 63, 1):
        assert compare(expected[:size], runner(ids[:size])).relative <= 1e-5
    assert compare(expected[:65], runner(ids[:65])).relative <= 1e-5


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--target", "executorch", "--tower", "image", "--dynamic-batch"), "the image tower takes one image"),
        (("--target", "executorch", "--backend", "coreml", "--dynamic-batch"), "fixed shapes only"),
        (("--target", "executorch", "--backend", "vulkan", "--dynamic-batch"), "Vulkan cannot run here"),
        (("--target", "onnx", "--dynamic-batch"), "--dynamic-batch is ExecuTorch's; add --target executorch"),
        (("--target", "onnx,coreml", "--model-schema", "--dynamic-batch"), "are ExecuTorch's"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_reason(options: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    assert reason in refusal(run("export", *options, "-o", tmp_path))


def test_stages_are_checks_of_the_report(bundle: Bundle) -> None:
    steps = [check.step for check in bundle.parity]
    assert steps == ["structure", "folded", "tower", "twin", "authored", "lowered", "shipped", "weights", "graph"]
