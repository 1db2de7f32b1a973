"""Plans: everything a device needs is in the folder, and the seed alone decides on the order."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exports import Exports

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files import artifact_sha256
from mobileclip_deploy.benchmark.cells import _loosest
from mobileclip_deploy.benchmark.driver import get_driver
from mobileclip_deploy.benchmark.foreign import fit
from mobileclip_deploy.benchmark.job import PROTOCOLS, Job, get_protocol, quick
from mobileclip_deploy.benchmark.request import Request, make_request, parse_forms, parse_threads
from mobileclip_deploy.benchmark.running import build_job
from mobileclip_deploy.errors import InvalidInput, NotRun, UsageError
from mobileclip_deploy.parity import Gates
from mobileclip_deploy.targets import TensorInfo


def plan(folder: Path, request: Request, seed: int = 1) -> Job:
    return build_job(request, get_driver("host"), get_protocol("standard"), seed, "a-run", folder)[0]


def test_every_file_of_a_job_is_in_its_folder(exports: Exports, tmp_path: Path) -> None:
    job = plan(tmp_path, Request((exports.bundle("onnx", "fp32"),), threads=(1, 2)))
    assert [cell.id for cell in job.cells] == [
        f"nano-onnx-fp32.{tower}.onnxruntime-cpu.t{threads}" for tower in ("image", "text") for threads in (1, 2)
    ]
    for cell in job.cells:
        assert artifact_sha256(tmp_path / cell.file) == cell.sha256
        golden = cell.golden.inputs
        assert artifact_sha256(tmp_path / golden.file) == golden.sha256
        values = np.fromfile(tmp_path / golden.file, dtype=golden.dtype)
        assert values.size == np.prod(golden.shape)
        assert cell.golden.outputs is None


def test_a_job_holds_no_answers_and_a_quick_one_asks_for_eight(exports: Exports, tmp_path: Path) -> None:
    request, quickly = Request((exports.bundle("onnx", "fp32"),)), quick(get_protocol("standard"))
    job, expected, _ = build_job(request, get_driver("host"), quickly, 1, "a-run", tmp_path)
    assert {cell.golden.inputs.file for cell in job.cells if cell.golden} == set(expected)
    content = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for answers in expected.values():
        assert len(answers) >= job.protocol.golden_inputs == 8
        assert not [one for one in content if answers[0].tobytes() in one]


def test_a_seed_gives_one_order_and_another_seed_another(exports: Exports, tmp_path: Path) -> None:
    request = Request((exports.bundle("onnx", "fp32"),), threads=(1, 2, 3))
    first, again, other = (plan(tmp_path, request, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.order != other.order
    assert [turn.round for turn in first.order] == sorted(turn.round for turn in first.order)


def test_two_bundles_of_one_name_are_two_subjects(exports: Exports, tmp_path: Path) -> None:
    copy = shutil.copytree(exports.bundle("onnx", "fp32").path, tmp_path / "copy" / "nano-onnx-fp32")
    request = Request((exports.bundle("onnx", "fp32"), Bundle.open(copy)), towers=("image",))
    names = [cell.file for cell in plan(tmp_path / "job", request).cells]
    assert names == ["models/nano-onnx-fp32/vision_model.onnx", "models/nano-onnx-fp32+2/vision_model.onnx"]


ON_A_MAC = pytest.mark.skipif(sys.platform == "darwin", reason="needs a machine without Core ML")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        pytest.param("coreml", "Core ML exists on macOS only", marks=ON_A_MAC),
        ("nobodys", "unknown target 'nobodys'"),
    ],
)
def test_what_this_machine_cannot_run_is_not_run(exports: Exports, tmp_path: Path, target: str, said: str) -> None:
    bundle = exports.bundle("onnx", "fp32")
    other = replace(bundle, manifest=bundle.manifest.model_copy(update={"target": target}))
    with pytest.raises(NotRun, match=f"nano-onnx-fp32: {said}"):
        plan(tmp_path, Request((other,)))


def test_the_checkpoint_is_timed_once_however_many_bundles_it_has(exports: Exports, tmp_path: Path) -> None:
    bundles = exports.bundle("onnx", "fp32"), exports.bundle("onnx", "fp16")
    request = Request(bundles, torch=("folded",), towers=("text",), checkpoint_of=lambda _: exports.checkpoint)
    runtimes = [cell.runtime for cell in plan(tmp_path, request).cells]
    assert runtimes == ["onnxruntime", "onnxruntime", "torch"]


OUTPUT = (TensorInfo("y", "float32", (0, 512)),)


def test_a_competitor_is_told_by_its_shapes() -> None:
    image = fit(Path("a.onnx"), (TensorInfo("x", "float32", (0, 3, 0, 0)),), OUTPUT, 256, 77, 512)
    assert (image.tower, image.input.shape, image.output.shape, image.comparable) == (
        "image",
        (1, 3, 256, 256),
        (1, 512),
        True,
    )
    text = fit(Path("a.onnx"), (TensorInfo("x", "int32", (1, 77)),), OUTPUT, 256, 77, 128)
    assert (text.tower, text.comparable) == ("text", False)
    found = fit(Path("a.tflite"), (TensorInfo("x", "float32", (1, 256, 256, 3)),), OUTPUT, 256, 77, 512)
    assert (found.tower, found.input.shape, found.comparable) == ("image", (1, 256, 256, 3), True)
    free = fit(Path("a.tflite"), (TensorInfo("x", "float32", (0, 0, 0, 3)),), OUTPUT, 256, 77, 512)
    assert free.input.shape == (1, 256, 256, 3)
    found = fit(Path("a.onnx"), (TensorInfo("x", "float32", (1, 3, 224, 224)),), OUTPUT, 256, 77, 512)
    assert (found.input.shape, found.comparable) == ((1, 3, 224, 224), False)


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ((TensorInfo("x", "float32", (1, 4)),), "neither pixels"),
        ((TensorInfo("x", "int64", (1, 77)), TensorInfo("y", "float32", (1, 3, 8, 8))), "2 inputs"),
    ],
)
def test_a_competitor_that_is_no_tower_is_refused(inputs: tuple[TensorInfo, ...], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        fit(Path("a.onnx"), inputs, OUTPUT, 256, 77, 512)


@pytest.mark.parametrize("text", ["0", "many", "1,,2", "1025"])
def test_threads_are_numbers(text: str) -> None:
    with pytest.raises(UsageError, match=f"`threads` {text}: write a number"):
        parse_threads(text)


def test_forms_and_devices_are_known_in_any_capitals_and_a_slip_meets_its_suggestion() -> None:
    assert parse_forms("folded,folded") == ("folded",)
    with pytest.raises(UsageError, match="did you mean folded"):
        parse_forms("foldet")
    assert get_driver("HOST").kind == "host"
    assert get_driver("Android:S1").selector == "S1"
    with pytest.raises(UsageError, match="unknown device 'hots', did you mean host"):
        get_driver("hots")


def test_a_checkpoint_that_nothing_is_done_with_is_refused(exports: Exports) -> None:
    with pytest.raises(UsageError, match="add `torch="):
        make_request((exports.bundle("onnx", "fp32").path,), checkpoint=Path("x.pt"))


def test_a_quick_protocol_is_small_and_named_so() -> None:
    for name, whole in PROTOCOLS.items():
        small = quick(whole)
        assert (small.name, small.iterations_per_round, small.golden_inputs) == (f"{name}-quick", 3, 8)
        assert small.rounds == min(2, whole.rounds)


def test_the_gate_of_a_competitor_is_the_loosest() -> None:
    assert (_loosest(Gates()).metric, _loosest(Gates()).bound) == ("cosine", 0.98)
