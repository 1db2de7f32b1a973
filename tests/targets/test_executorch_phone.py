"""What comes with a .pte when it is asked for: test cases, an ETRecord, batches of prompts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import refusal, run
from tiny import WORDS, known

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.errors import ExportError, InvalidInput
from mobileclip_deploy.parity import compare
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets.executorch.bundled_program import BundledProgram
from mobileclip_deploy.targets.executorch.opening import ExecuTorchArtifact
from mobileclip_deploy.targets.executorch.runner import RuntimeRunner
from mobileclip_deploy.targets.values import Expected

pytestmark = pytest.mark.whole  # a conversion with all of it; test_conformance.py runs a program

pytest.importorskip("executorch", reason="needs executorch: pip install 'mobileclip-deploy[executorch]'")

WANTED = {"dynamic_batch": True, "bundled_program": True, "etrecord": True}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """The text tower of a small network with all of it, verified when it was exported."""
    folder = tmp_path_factory.mktemp("phone")
    with known(folder) as checkpoint:
        model = mcd.load_model(WORDS, checkpoint)
        yield mcd.export(model, "executorch", "fp32", folder, tower="text", options=WANTED)


def test_the_manifest_names_what_is_beside_the_artifact(bundle: Bundle) -> None:
    attached = bundle.manifest.towers["text"].attachments
    assert {kind: entry.file for kind, entry in attached.items()} == {
        "bundled_program": "tiny_words_text.xnnpack.bpte",
        "etrecord": "tiny_words_text.xnnpack.etrecord",
    }
    assert attached["bundled_program"].tolerance is not None
    assert Bundle.open(bundle.path).manifest == bundle.manifest


@pytest.mark.parametrize("name", ["tiny_words_text.xnnpack.bpte", "tiny_words_text.xnnpack.etrecord"])
def test_what_is_beside_the_artifact_may_not_change(bundle: Bundle, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(bundle.path, tmp_path / "bundle"))
    with (copy / name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(InvalidInput, match=f"{name} is not the file that was exported"):
        Bundle.open(copy)


def test_the_runtime_itself_passes_the_test_cases_within_the_tolerance_and_no_others(
    bundle: Bundle, tmp_path: Path
) -> None:
    attached = bundle.manifest.towers["text"].attachments
    tolerance = attached["bundled_program"].tolerance
    reference = Reference.read(bundle.golden)
    expected = reference.of("text")
    own = BundledProgram(bundle.path / "tiny_words_text.xnnpack.bpte", runs=True)
    assert own.failing(len(expected), tolerance) is None
    wrong = Expected(reference.inputs.ids[:2], expected[:2] + np.float32(2 * tolerance), tolerance)
    with pytest.raises(ExportError, match="test case 0 of 2 is not within"):
        BundledProgram(tmp_path / "wrong.bpte", runs=True).write(bundle.artifact("text"), wrong)


def test_an_etrecord_is_read_by_the_developer_tools_and_names_no_folder_of_this_machine(bundle: Bundle) -> None:
    from executorch.devtools import parse_etrecord

    path = bundle.path / "tiny_words_text.xnnpack.etrecord"
    assert parse_etrecord(str(path)).edge_dialect_program is not None
    data = path.read_bytes()
    assert b"mobileclip_deploy/targets/executorch/authoring.py" in data
    assert str(Path(mcd.__file__).parents[1]).encode() not in data


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
        (("--target", "onnx", "--etrecord"), "--etrecord is ExecuTorch's; add --target executorch"),
        (("--target", "onnx,coreml", "--bundled-program", "--etrecord"), "are ExecuTorch's"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_reason(options: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    assert reason in refusal(run("export", *options, "-o", tmp_path))


def test_stages_are_checks_of_the_report(bundle: Bundle) -> None:
    steps = [check.step for check in bundle.parity]
    assert steps == ["structure", "folded", "tower", "twin", "authored", "lowered", "shipped", "weights", "graph"]
