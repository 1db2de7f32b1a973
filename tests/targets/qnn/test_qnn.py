"""Qualcomm's NPU: what is compiled answers on Qualcomm's emulator, and what cannot be placed is refused by name."""

import copy
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from qnn_files import network, require_qnn, write
from tiny import PIECES, inputs, wanted
from writing import chosen, job_of, small_bundle

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle.model_card import _outcome
from mobileclip_deploy.artifacts.towers.head import Head
from mobileclip_deploy.cli.tables import print_report
from mobileclip_deploy.errors import ExportError, InvalidInput, NotRun, RuntimeFailed, UsageError
from mobileclip_deploy.export.plan import ExportPlan, plan_export
from mobileclip_deploy.export.request import ExportRequest, choose
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check, ParityReport
from mobileclip_deploy.parity.metrics import compare
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.benchmarking import SessionSetup
from mobileclip_deploy.targets.onnx.graph import write_graph
from mobileclip_deploy.targets.onnx.opening import OnnxArtifact
from mobileclip_deploy.targets.onnx.quantization import Quantizing
from mobileclip_deploy.targets.qnn import chips, emulator, npu
from mobileclip_deploy.targets.qnn.chips import CHIPS, chips_of
from mobileclip_deploy.targets.qnn.emulator import KEPT, EmulatorRunner, emulated
from mobileclip_deploy.targets.qnn.npu import NpuSession
from mobileclip_deploy.targets.qnn.opening import QnnArtifact
from mobileclip_deploy.targets.qnn.options import QnnOptions
from mobileclip_deploy.targets.qnn.writing import lift_norms
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import layers
from mobileclip_deploy.targets.values import TensorInfo
from mobileclip_deploy.verify.checks.shipped import check_shipped

pytestmark = pytest.mark.slow  # test_conformance.py writes and runs a tower

require_qnn()

PIXELS = TensorInfo("pixel_values", "float32", (1, 3, 64, 64))


@pytest.fixture(scope="module")
def model() -> MobileCLIP:
    return network()


@pytest.fixture(scope="module")
def image(model: MobileCLIP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(model, "image", "galaxy-s24-ultra", tmp_path_factory.mktemp("qnn"))


def test_files_are_named_by_architecture_and_inspected_by_chip(image: Path) -> None:
    assert sorted(path.name for path in image.iterdir()) == [
        "tiny_image.onnx",
        "tiny_image.v75.bin",
        "tiny_image.v75.onnx",
    ]
    found = QnnArtifact(image)
    assert found.contents["chips"] == {"v75": (image / "tiny_image.v75.bin").stat().st_size}
    assert found.contents["spill_fill"] == {"v75": 0}
    assert re.fullmatch(r"\d\.\d MB, for Hexagon v75 of sm8650, Snapdragon 8 Gen 3", found.facts["binary v75"])
    spilling = onnx.ModelProto.FromString(found.contexts[0].model.SerializeToString())
    next(one for one in spilling.graph.node[0].attribute if one.name == "max_size").i = 4096
    assert replace(found.contexts[0], model=spilling).spilled == 4096
    assert found.ports[0] == TensorInfo("pixel_values", "float32", (1, 3, 64, 64))


@pytest.mark.parametrize(
    ("tower", "precision", "cosine"),
    [("image", "w8a16", 0.999), ("text", "w8a8", 0.98)],
)
def test_integers_with_rounded_activations_run_wholly_on_the_npu(
    model: MobileCLIP, tower: TowerName, precision: str, cosine: float, tmp_path: Path
) -> None:
    rows, path = inputs(tower), tmp_path / f"a_{tower}.qnn"
    job = replace(job_of(model, tower, "fp32"), precision=precision, calibration=rows)
    chosen("qnn", chip="sm8650").write(job, path)
    found = QnnArtifact(path)
    assert compare(wanted(model, tower), found.runner()(rows)).cosine > cosine
    assert {value.most for value in found.quantized().values} == {2 ** int(precision[3:]) - 1}
    assert not found.compiled("npu").left


@pytest.fixture(scope="module")
def sixteen(model: MobileCLIP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text tower with int8 weights and activations of 16 bits, as it is compiled."""
    path = tmp_path_factory.mktemp("sixteen") / "a.onnx"
    job = replace(job_of(model, "text", "fp32"), precision="w8a16", calibration=inputs("text"))
    write_graph(job, path, get_target("qnn").ports(job.variant, "text", job.form), Quantizing(beforehand=True))
    return path


def step_of(path: Path, kind: str, place: int, changed: Path) -> OnnxArtifact:
    """The same file with another step of the table: in one of the nodes of a type, the first of which are its own."""
    model = onnx.load(path)
    node = [node for node in model.graph.node if node.op_type == kind][place]
    node.input[1] = "another"
    model.graph.initializer.append(numpy_helper.from_array(np.array(1.5, np.float32), "another"))
    onnx.save(model, changed)
    return OnnxArtifact(changed)


def test_a_table_is_read_with_its_step_and_the_scales_of_its_rows(
    model: MobileCLIP, sixteen: Path, tmp_path: Path
) -> None:
    assert model.text is not None
    table = model.text.token_embedding.weight.detach().numpy()
    stored = next(weight for weight in OnnxArtifact(sixteen).weights or () if weight.values.shape == table.shape)
    assert (stored.bits, stored.kind) == (8, "integers")
    assert np.abs(stored.values - table).max() <= np.abs(table).max() / 127 / 2
    edited = step_of(sixteen, "DequantizeLinear", 0, tmp_path / "edited.onnx")
    wrong = next(weight for weight in edited.weights or () if weight.values.shape == table.shape)
    assert np.allclose(wrong.values, 1.5 * stored.values)


def test_the_integers_that_rounding_chose_are_those_in_the_model(model: MobileCLIP, tmp_path: Path) -> None:
    job = replace(job_of(model, "image", "fp32"), precision="w8a16", calibration=inputs("image"))
    target, learned, wanted = get_target("qnn"), copy.deepcopy(job.module), []
    target.capabilities.storing.absorb(learned)
    storage = storage_of(target, "image", learned, job.precision)
    with torch.no_grad():
        for name, weight in learned.named_parameters():
            if storage[name].bits == 8:
                step = weight.abs().flatten(1).amax(1).reshape(-1, *[1] * (weight.ndim - 1)) / 127
                nearest = (weight / step).round()
                weight.copy_((nearest + (nearest.abs() < 100)) * step)  # one off, but for what the step is found by
                wanted.append(weight.numpy())
    ports = target.ports(job.variant, "image", job.form)
    write_graph(replace(job, module=learned), tmp_path / "a.onnx", ports, Quantizing(beforehand=True))
    stored = [one.values.reshape(len(one.values), -1) for one in OnnxArtifact(tmp_path / "a.onnx").weights or ()]
    assert len(wanted) > 5
    for weight in wanted:
        rows = weight.reshape(len(weight), -1)
        assert any(one.shape == rows.shape and np.abs(one - rows).max() < 1e-3 * np.ptp(rows) / 254 for one in stored)


@pytest.mark.parametrize(("kind", "place"), [("QuantizeLinear", 0), ("DequantizeLinear", 1)])
def test_rows_of_a_table_that_are_rounded_by_another_step_are_refused(
    sixteen: Path, kind: str, place: int, tmp_path: Path
) -> None:
    edited = step_of(sixteen, kind, place, tmp_path / "edited.onnx")
    with pytest.raises(InvalidInput, match="is not dequantized with the scale it was quantized with"):
        edited.quantized()


def norm_and_product(tokens: int | str) -> onnx.ModelProto:
    """A norm whose result is rounded to 16 bits and multiplied by int8 weights with a step a column, [1, tokens, 32] ->
    the same."""
    random = np.random.default_rng(0)
    graph = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 21]>
        one (float[1,{tokens},32] pixel_values) => (float[1,{tokens},32] y)
        <float s = {{0.0002}}, uint16 z = {{32768}}> {{
            normed = LayerNormalization <axis = -1> (pixel_values, gain)
            integers = QuantizeLinear (normed, s, z)
            rounded = DequantizeLinear (integers, s, z)
            floats = DequantizeLinear <axis = 1> (weight, step)
            product = MatMul (rounded, floats)
            out = QuantizeLinear (product, s, z)
            y = DequantizeLinear (out, s, z)
        }}
    """)
    gain, step = np.ones(32, np.float32), random.uniform(0.001, 0.004, 32).astype(np.float32)
    constants = {"weight": random.integers(-50, 50, (32, 32), np.int8), "gain": gain, "step": step}
    graph.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return onnx.shape_inference.infer_shapes(graph)


def lifted(model: onnx.ModelProto, contexts: tuple[int, ...] = ()) -> onnx.ModelProto:
    changed = ir.from_proto(model)
    lift_norms(changed, contexts)
    return ir.to_proto(changed)


def test_norms_of_16_tokens_get_a_dimension_more_and_no_other_does() -> None:
    free = norm_and_product("tokens")
    first = [
        lifted(*given).graph.node[0].op_type for given in ((norm_and_product(17),), (free, (32, 77)), (free, (16,)))
    ]
    assert first == ["LayerNormalization", "LayerNormalization", "Unsqueeze"]
    changed, rows = lifted(norm_and_product(16)), np.random.default_rng(1).random((1, 16, 32), np.float32)
    assert [node.op_type for node in changed.graph.node[:3]] == ["Unsqueeze", "LayerNormalization", "Squeeze"]
    answers = [
        ReferenceEvaluator(model).run(None, {"pixel_values": rows})[0] for model in (norm_and_product(16), changed)
    ]
    assert np.array_equal(*answers)


def test_the_product_behind_a_norm_of_16_tokens_is_computed_right_because_of_that_dimension(tmp_path: Path) -> None:
    """Where the first line fails, Qualcomm mended its compiler, and `lift_norms` may go."""
    decibels = []
    for model in (norm_and_product(16), lifted(norm_and_product(16))):
        onnx.save(model, tmp_path / "a.onnx")
        port = TensorInfo("pixel_values", "float32", (1, 16, 32))
        rows = np.random.default_rng(1).random((1, 16, 32), np.float32)
        exact = ReferenceEvaluator(model).run(None, {"pixel_values": rows})[0]
        (found,) = emulated(chips_of("v75")[0], tmp_path / "a.onnx", port, rows).values()
        decibels.append(10 * np.log10((exact**2).sum() / ((exact - found) ** 2).sum()))
    assert decibels[0] < 10
    assert decibels[1] > 40


def test_towers_of_16_tokens_pass_their_usual_gates_at_16_bits(tmp_path: Path) -> None:
    bundle = small_bundle(PIECES, "qnn", "w8a16", tmp_path, options={"chip": "v75"})
    assert {check.status for check in bundle.parity} == {"passed"}


def test_what_the_npu_does_not_take_is_refused_by_name_and_left_to_the_cpu_where_that_is_wanted(
    model: MobileCLIP, tmp_path: Path
) -> None:
    job = replace(job_of(model, "text", "fp32"), precision="w8")  # a table whose rows have scales of their own
    with pytest.raises(
        ExportError, match=r"operations of a_text cannot run on the NPU of sm8650, Gather .*`allow_cpu`"
    ):
        chosen("qnn", chip="sm8650").write(job, tmp_path / "a_text.qnn")
    allowing = chosen("qnn", chip="sm8650", allow_cpu=True)
    allowing.write(job, tmp_path / "b_text.qnn")
    found = allowing.open(tmp_path / "b_text.qnn")
    (report,) = found.lint("npu")
    assert {operation.type for operation in report.operations if operation.status == "leaves"} >= {"Gather"}
    with mock.patch.object(chips, "DEFAULT", ("sm8650",)):
        (before,) = mcd.lint(tmp_path / "b_text.qnn" / "b_text.onnx", target="qnn")
    assert (before.package, before.operations) == ("b_text.onnx", report.operations)
    with pytest.raises(InvalidInput, match="operations, not one of the type EPContext"):
        _ = get_target("qnn").open(tmp_path / "b_text.qnn").inputs


@pytest.mark.parametrize("pixels", [255.0, -0.1, np.nan])
def test_pixels_out_of_range_are_refused_because_their_answers_would_look_right(pixels: float) -> None:
    runner = EmulatorRunner(CHIPS[0], {PIXELS.shape: Path("never_read.onnx")}, PIXELS)
    with pytest.raises(InvalidInput, match=r"not in \[0, 1\]"):
        runner(np.full((1, 3, 64, 64), pixels, np.float32))


def test_a_text_of_a_length_without_a_binary_is_refused_and_a_phone_gets_the_binary_of_its_length(
    tmp_path: Path,
) -> None:
    paths = {(1, length): tmp_path / f"a.v75-{length}.onnx" for length in (16, 77)}
    runner = EmulatorRunner(chips_of("v75")[0], paths, TensorInfo("input_ids", "int32", (1, 0)))
    with pytest.raises(InvalidInput, match=r"of shape \[2, 20\]; there are binaries for \[1, 16\] or \[1, 77\]"):
        runner(np.zeros((2, 20), np.int32))
    for name in ("a.v75.bin", "a.v75-16.bin"):
        (tmp_path / name).touch()
    found = [QnnArtifact(tmp_path).compiled_for("sm8650", (1, length))[0].name for length in (16, 77)]
    assert found == ["a.v75-16.bin", "a.v75.bin"]


def test_a_chip_is_known_by_code_architecture_name_and_phone() -> None:
    for word in ("sm8650", "v75", "Snapdragon 8 Gen 3", "galaxy-s24-ultra"):
        assert [chip.code for chip in chips_of(word)] == ["sm8650"]
    assert [chip.label for chip in chips_of("sm8850,sc8380xp,galaxy-s23")] == ["v73", "sc8380xp", "sm8850"]
    assert [chip.label for chip in chips_of(None)] == ["v73", "v75", "v79"]
    with pytest.raises(UsageError, match=r"unknown chip 'galaxy-s24', did you mean galaxy-s24-ultra\?; known: sm8450"):
        chips_of("galaxy-s24")
    with pytest.raises(UsageError, match="unknown chip"):
        chosen("qnn", chip="sm1").require({"image": "fp16"})


def test_no_file_of_two_chips_has_one_name_and_no_word_means_two() -> None:
    assert len({chip.label for chip in CHIPS}) == len(CHIPS)
    words = [word for chip in CHIPS for word in chip.names]
    assert len({*words}) == len(words)


@pytest.mark.parametrize(("device", "reason"), [("host", "not an NPU's latency"), ("android", "glibc")])
def test_the_emulator_is_never_timed(device: str, reason: str) -> None:
    with pytest.raises(NotRun, match=reason):
        get_target("qnn").places(device, {})


def test_an_npu_of_this_machine_is_timed_and_runs_the_first_binary_that_it_takes(
    model: MobileCLIP, image: Path, tmp_path: Path
) -> None:
    """The emulator stands in for it: the calls are those that a provider for Arm gets."""
    with mock.patch.object(npu.platform, "machine", return_value="ARM64"):
        (place,) = get_target("qnn").places("host", {})
    found = QnnArtifact(image)
    setup = SessionSetup(place, 1, found.inputs[0], found.outputs[0])
    damaged = replace(found.contexts[0], path=tmp_path / "gone.onnx")
    session = NpuSession((damaged, *found.contexts), setup)
    session.feed(inputs("image")[:1])
    session.run()
    assert place.label == "onnxruntime-qnn-npu"
    assert compare(wanted(model, "image")[:1], session.answer()[None]).cosine > 0.9999
    with pytest.raises(NotRun, match="no profiler"):
        session.profile()
    with pytest.raises(RuntimeFailed, match=r"rejects every binary of the bundle \(sm8650: .*gone.onnx"):
        NpuSession((damaged,), setup)


IN_FLOAT = "encoder.stages.3.blocks.0.token_mixer.proj"


def test_a_layer_whose_step_is_coarse_is_found_and_one_that_stays_in_float_is_float(
    model: MobileCLIP, tmp_path: Path
) -> None:
    rows, path = inputs("image"), tmp_path / "a_image.qnn"
    job = replace(job_of(model, "image", "fp32"), precision="w8a8", calibration=rows)
    bits = []
    for kept in (f"image.{IN_FLOAT}", None):
        chosen("qnn", chip="sm8650", float_layers=kept).write(job, path)
        bits.append(sorted(weight.bits for weight in QnnArtifact(path).weights or ()))
    assert bits[0].count(8) == bits[1].count(8) - 1
    before = {one.layer: one for one in QnnArtifact(path).layer_noise(rows[:2])}
    held = {layer.parameter.removesuffix(".weight") for layer in layers(job.module)}
    assert {*before} <= held
    assert IN_FLOAT in before
    assert all(abs(one.compiled - one.interpreted) < 3 for one in before.values() if one.interpreted < 50)
    coarse = onnx.load(path / "a_image.onnx")
    for tensor in coarse.graph.initializer:
        if tensor.name == "conv2d_27_scale":
            tensor.CopyFrom(numpy_helper.from_array(20 * numpy_helper.to_array(tensor), tensor.name))
    onnx.save(coarse, path / "a_image.onnx")
    after = {one.layer: one for one in QnnArtifact(path).layer_noise(rows[:2])}
    spoiled = [name for name in before if after[name].compiled < before[name].compiled - 10]
    assert spoiled[0] == "encoder.stages.3.blocks.0.ffn.fc1"


@pytest.mark.parametrize(
    ("options", "precision", "reason"),
    [
        ({"float_layers": "encoder.conv"}, "w8a16", "does not begin with a tower"),
        ({"float_layers": "image.encoder"}, "fp16", "is in float16; leave it out"),
    ],
)
def test_layers_stay_in_float_in_a_tower_of_integers(options: dict[str, Any], precision: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        chosen("qnn", **options).require({"image": precision})


@pytest.mark.parametrize(("head", "around"), [(Head(), "image."), (Head(normalised=True), "image.tower.")])
def test_a_layer_that_is_not_there_is_refused_with_a_name_that_is_near_before_anything_runs(
    tmp_path: Path, head: Head, around: str
) -> None:
    def plan(layers: str) -> ExportPlan:
        asked = ExportRequest(("qnn",), ("w8a16",), tmp_path, "image", head, {"float_layers": layers})
        return plan_export(choose(asked), Source.of(mcd.load_model()))

    assert plan(f"{around}encoder.stages.3, {around}encoder.projection").bundles
    near = rf"unknown layer '{around}encoder.projektion', did you mean {around}encoder.projection\?"
    with pytest.raises(UsageError, match=near):
        plan(f"{around}encoder.projektion")


def test_layers_that_stay_in_float_are_known_by_the_name_of_their_weight() -> None:
    options = QnnOptions(float_layers="text.encoder")
    assert options.keeps("text", "encoder.blocks.0.fc1.weight")
    assert not options.keeps("image", "encoder.stem.conv.weight")


def test_what_no_engine_can_be_asked_for_is_reported_as_not_run_and_the_rest_is_proven() -> None:
    passed = Check(step="shipped", tower="image", status="passed")
    artifact, tower = mock.Mock(unasked="the emulator loads none"), mock.MagicMock()
    artifact.runners = lambda: iter([artifact.runner])
    tower.name, tower.artifact, tower.check_answers.return_value = "image", artifact, passed
    found = check_shipped(tower)
    assert [(one.status, one.detail) for one in found] == [("passed", None), ("not run", "the emulator loads none")]
    report = ParityReport(bundle="a", variant="a", target="qnn", checks=tuple(found))
    assert report.passed
    assert report.left_out == (found[1],)
    assert _outcome(found[1]) == "not run: the emulator loads none"


def test_a_report_names_the_chip_of_every_answer(capsys: pytest.CaptureFixture[str]) -> None:
    found = Check(step="shipped", tower="text", status="passed", detail="16 of 24 inputs")
    rows = tuple(found.model_copy(update={"engine": f"emulator of v{number}"}) for number in (73, 75))
    print_report(ParityReport(bundle="a", variant="a", target="qnn", checks=rows))
    shown = capsys.readouterr().out
    assert all(f"16 of 24 inputs; emulator of v{number}" in shown for number in (73, 75))


def child(code: str) -> Callable[..., tuple[list[str], dict[str, str]]]:
    """In place of the process: other code, in the environment of this one."""
    return lambda *words: ([sys.executable, "-c", code], {**os.environ})


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"died \(SIGSEGV\)"),
        ("import time; print('chatter'); time.sleep(60)", "was stopped after 0.5 s"),
        ("import sys; print('refused: [X] : a reason. Advice', file=sys.stderr); sys.exit(1)", "failed: .*a reason"),
        ("import sys; print('chatter'); sys.exit(1)", "failed: no reason given"),
    ],
)
def test_a_process_that_does_not_answer_is_told_in_one_line(
    code: str, ending: str, capfd: pytest.CaptureFixture[str]
) -> None:
    runner = EmulatorRunner(CHIPS[0], {PIXELS.shape: Path("a.onnx")}, PIXELS)
    with (
        mock.patch.object(emulator, "python", child(code)),
        mock.patch.object(emulator, "SECONDS", 0.5 if "sleep" in code else 60),
        pytest.raises(RuntimeFailed, match=rf"^Qualcomm's emulator {ending} \(a.onnx\)$") as refused,
    ):
        runner(np.zeros((1, 3, 64, 64), np.float32))
    assert refused.value.exit_code == 3
    assert capfd.readouterr() == ("", "")


def test_the_process_is_told_nothing_of_this_ones_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Bytes of the compiler's memory were seen in binaries: a token there would ship with an app."""
    monkeypatch.setenv("SECRET_TOKEN", "of nobody's business")
    said = tmp_path / "said"
    code = f"import os, pathlib; pathlib.Path({str(said)!r}).write_text(' '.join(os.environ))"
    with mock.patch.object(emulator, "python", child(code)):
        assert emulator._ask(tmp_path, "compile") is None
    # What Python itself sets where the locale is C.
    assert {*said.read_text().split()} <= {*KEPT, "GLIBC_TUNABLES", "LC_CTYPE"}


def test_without_the_package_nothing_is_run_and_the_text_holds_the_pip_line() -> None:
    with (
        mock.patch.object(emulator.importlib.util, "find_spec", return_value=None),
        pytest.raises(NotRun, match=r"pip install 'mobileclip-deploy\[qnn\]'"),
    ):
        EmulatorRunner(CHIPS[0], {PIXELS.shape: Path("a.onnx")}, PIXELS)
    with (
        mock.patch.object(emulator.sys, "platform", "darwin"),
        pytest.raises(NotRun, match="on Linux for x86-64 only"),
    ):
        EmulatorRunner(CHIPS[0], {}, PIXELS)
