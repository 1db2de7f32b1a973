"""Faults that passed `verify` once, by name, each with the check that fails for it now.

A row says what is done, to which bundle, and which check sees it. How much else of its kind is seen, the tests of that
check show: test_attachment_faults.py, test_rounding_faults.py, verify/test_claims.py and others.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmark import documents
from benchmark.test_answers import LIES, job, sent
from exports import Exports
from faults import test_attachment_faults as attachments
from faults import test_rounding_faults as rounding
from faults.executorch_planting import PlantedProgram
from faults.files import require
from faults.onnx_planting import PlantedOnnx
from tiny import WORDS, known
from verify import test_claims as claims
from verify import test_classifier_graph as classifiers
from verify import test_masks as masks

import mobileclip_deploy as mcd
from mobileclip_deploy.benchmark.answers import judge
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.files import artifact_bytes, artifact_sha256
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets.graph import first_difference
from mobileclip_deploy.verify.attachments import check_attachments
from mobileclip_deploy.verify.checks import check_shipped, replaced_gates
from mobileclip_deploy.verify.claims import check_contents, check_measured
from mobileclip_deploy.verify.companions import check_golden, check_settings
from mobileclip_deploy.verify.graph import check_graph
from mobileclip_deploy.verify.opening import VerifyRequest, opened_subject
from mobileclip_deploy.verify.reproduction import check_reproduced
from mobileclip_deploy.verify.subject import OpenedSubject
from mobileclip_deploy.verify.weights import check_weights

pytestmark = pytest.mark.whole  # in `make test` each is seen by a test of its own
Edit = Callable[[Path], object]
Asked = Callable[[OpenedSubject, TowerName], Iterable[Check]]
LABELS = ["a dog", "a cat", "a house"]
BUNDLES: dict[str, dict[str, Any]] = {
    "onnx": {"target": "onnx", "precision": "fp32", "options": {"ort": True}, "verify": True},
    "pte": {
        "target": "executorch",
        "precision": "fp32",
        "tower": "text",
        "options": {"bundled_program": True, "etrecord": True},
    },
    "classifier": {"target": "onnx", "precision": "w8", "labels": LABELS},
    "both towers": {"target": "coreml", "precision": "fp16", "options": {"multifunction": True}},
    "tflite": {"target": "litert", "precision": "w4", "tower": "text"},
}
IMAGE, TEXT = "onnx/vision_model", "onnx/text_model"


@dataclass
class Made:
    """Small bundles that pass, each exported when it is first asked for."""

    folder: Path
    checkpoint: Path
    exports: Exports
    bundles: dict[str, Bundle] = field(default_factory=dict)

    def bundle(self, name: str) -> Bundle:
        if name not in self.bundles:
            if BUNDLES[name]["target"] == "litert":
                require("litert")
            model, asked = mcd.load_model(WORDS, self.checkpoint), {"verify": False} | BUNDLES[name]
            with self.exports.store.conversions():
                self.bundles[name] = mcd.export(
                    model, asked.pop("target"), asked.pop("precision"), self.folder / name, **asked
                )
        return self.bundles[name]

    def failed(self, name: str, tower: TowerName, edit: Edit, asked: Asked) -> set[str]:
        """The checks that fail for an edited copy whose hashes are right again; `refused` where it is not opened."""
        path = Path(shutil.copytree(self.bundle(name).path, self.folder / "edited" / name, dirs_exist_ok=False))
        try:
            edit(path)
            repaired(path)
            with self.exports.store.conversions(), opened_subject(VerifyRequest(path, self.checkpoint)) as own:
                return {check.step for check in asked(own, tower) if check.status == "failed"}
        except InvalidInput:
            return {"refused"}
        finally:
            shutil.rmtree(path)

    def nearer(self) -> set[str]:
        """nano's at fp16: at fp32 a deviation is float noise, which nobody claims anything by."""
        sound = self.exports.bundle("onnx", "fp16")
        own = claims.edited(sound, self.folder / "nearer", "parity.json", claims.nearer, mcd.load_model())
        return {check.step for check in check_measured(own, sound.parity) if check.status == "failed"}


def repaired(path: Path) -> None:
    """Make the manifest agree with the files that were changed."""
    file = path / "manifest.json"
    manifest = json.loads(file.read_text(encoding="utf-8"))
    for tower in manifest["towers"].values():
        for entry in (tower, *tower.get("attachments", {}).values()):
            there = path / entry["file"]
            entry |= {"bytes": artifact_bytes(there), "sha256": artifact_sha256(there)}
    file.write_text(json.dumps(manifest), encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, exports: Exports) -> Iterator[Made]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("named")
    with known(folder) as checkpoint:
        yield Made(folder, checkpoint, exports)


# What is asked


def settings(own: OpenedSubject, _: TowerName) -> Iterable[Check]:
    return check_settings(own)


def golden(own: OpenedSubject, _: TowerName) -> Iterable[Check]:
    return check_golden(own)


def measured(own: OpenedSubject, tower: TowerName) -> Iterable[Check]:
    return check_measured(own, check_shipped(own, tower))


def graph(own: OpenedSubject, tower: TowerName) -> Iterable[Check]:
    """As of a bundle that other versions wrote: nothing is converted."""
    return [*check_weights(own, tower), *check_graph(own, tower)]


# What is done


def onnx(tower: TowerName, plant: Callable[[PlantedOnnx], object]) -> Edit:
    def edit(path: Path) -> None:
        file = Bundle.open(path).artifact(tower)
        opened = PlantedOnnx(file.read_bytes())
        plant(opened)
        opened.save(file)

    return edit


def told(file: str, change: Callable[[dict[str, Any]], object]) -> Edit:
    """Another word in the manifest, or in `parity.json`."""

    def edit(path: Path) -> None:
        data = json.loads((path / file).read_text(encoding="utf-8"))
        change(data)
        (path / file).write_text(json.dumps(data), encoding="utf-8")

    return edit


def unseen_word(values: np.ndarray[Any, Any]) -> None:
    values.reshape(49_408, -1)[48_000] *= 2


def epsilon(file: PlantedOnnx) -> None:
    file.set(file.all("LayerNormalization")[0], "epsilon", 3e-5)


def bound(file: PlantedOnnx) -> None:
    file.append("Clip", file.add("low", np.float32(-1e4)), file.add("high", np.float32(1e4)))


def scaled_and_back(file: PlantedOnnx) -> None:
    file.append("Mul", file.add("down", np.float32(1 / 4096)))
    before = file.producer(file.graph.output[0].name).input[0]
    file.insert(before, "Mul", file.add("up", np.float32(4096)))


def without_probabilities(path: Path) -> None:
    stored = Reference.read(path / "golden.safetensors")
    assert stored.probabilities is not None
    (path / "golden.safetensors").unlink()
    replace(stored, probabilities=None).save(path / "golden.safetensors")


def swapped_functions(data: dict[str, Any]) -> None:
    data["towers"]["image"]["function"], data["towers"]["text"]["function"] = "text", "image"


def zero_points(path: Path) -> None:
    from mobileclip_deploy.targets.litert.editing import Editor

    file = path / f"{WORDS}_text.tflite"
    editor = Editor(file.read_bytes())
    found = [one.quantization.details for one in editor.graph.tensors if one.quantization is not None]
    next(one for one in found if one is not None).zeroPoints = 0
    file.write_bytes(editor.packed())


def other_values(name: str) -> Edit:
    """A part of XNNPACK's takes, or gives, another value."""

    def edit(path: Path) -> None:
        program = PlantedProgram(path / attachments.PTE)
        part = max(program.parts, key=lambda one: len(one["xnodes"]))
        part[name] = (part[name][0] + 1, *part[name][1:])
        program.save(path / attachments.PTE)

    return edit


# What needs no bundle


def mask(dtype: str, made_by: Callable[[str], Any], change: Callable[[Any], object]) -> set[str]:
    wanted = made_by(dtype)
    written = wanted.copy()
    change(written)
    found = first_difference(masks.graph(written), masks.graph(wanted))
    return set() if found is None else {"reproduced"}


def learned(name: str, change: Callable[[rounding.Learned], rounding.Learned]) -> set[str]:
    """The recorded hash is taken as repaired."""
    own = rounding.of_directions(48, rounding.GRIDS[name], rounding.OUTPUTS)
    assert own.told() is None
    return set() if change(own).told() is None else {"weights"}


def latency(lie: str) -> set[str]:
    answers, gate, expected, _ = LIES[lie]
    found = judge(sent(answers), job(gate), dict.fromkeys(documents.EXPECTED, expected))
    return {"no latency"} if (found.status, found.samples_ns) == ("invalid", ()) else set()


@dataclass(frozen=True)
class Fault:
    """A fault by its name, the check that sees it, and what fails."""

    name: str
    seen: str
    failing: Callable[[Made], set[str]]

    def __str__(self) -> str:
        return self.name


def of(bundle: str, tower: TowerName, edit: Edit, asked: Asked) -> Callable[[Made], set[str]]:
    return lambda made: made.failed(bundle, tower, edit, asked)


def gates(edit: Edit) -> Callable[[Made], set[str]]:
    """What the verdict names."""

    def failing(made: Made) -> set[str]:
        path = Path(shutil.copytree(made.bundle("onnx").path, made.folder / "gates"))
        edit(path)
        with opened_subject(VerifyRequest(path, made.checkpoint)) as own:
            return {*replaced_gates(own)}

    return failing


BESIDE = check_attachments
FAULTS = (
    # Attachments
    Fault(
        "an .ort's largest weight times 1.5, image",
        "ort answers",
        of("onnx", "image", attachments.weight(IMAGE, attachments.larger), BESIDE),
    ),
    Fault(
        "an .ort's largest weight times 1.5, text",
        "ort answers",
        of("onnx", "text", attachments.weight(TEXT, attachments.larger), BESIDE),
    ),
    Fault(
        "a word of an .ort that no prompt holds",
        "ort",
        of("onnx", "text", attachments.weight(TEXT, unseen_word), BESIDE),
    ),
    Fault(
        "an .ort that may be off by 10", "ort", of("onnx", "text", attachments.tolerating("text", "ort", 10.0), BESIDE)
    ),
    Fault("a weight of a .bpte's program", "bundled_program", of("pte", "text", attachments.another_program, BESIDE)),
    Fault(
        "a .bpte that may be off by 10",
        "bundled_program",
        of("pte", "text", attachments.tolerating("text", "bundled_program", 10.0), BESIDE),
    ),
    Fault(
        "a weight of an ETRecord", "etrecord", of("pte", "text", attachments.a_record(attachments.larger_state), BESIDE)
    ),
    # Constants with a few huge numbers
    Fault("a causal mask's zero off by 7", "reproduced", lambda _: mask("float16", masks.causal, masks.off((9, 3), 7))),
    Fault(
        "a number beside huge ones",
        "reproduced",
        lambda _: mask("float16", masks.with_outliers, masks.off((20, 20), 0.1)),
    ),
    Fault("a row beside huge ones", "reproduced", lambda _: mask("float32", masks.with_outliers, masks.doubled_row)),
    # Learned rounding
    Fault("a learned scale 3% off, 8 bits", "weights", lambda _: learned("int8", rounding.scaled(1.03))),
    Fault("a learned scale 30% off, 4 bits", "weights", lambda _: learned("int4", rounding.scaled(1.3))),
    Fault("learned indices all off by one", "weights", lambda _: learned("table", rounding.moved(1))),
    # Heads
    Fault("a classifier's GELU by tanh", "graph", of("classifier", "image", onnx("image", classifiers.tanh), graph)),
    Fault(
        "a classifier's temperature 5% off",
        "graph",
        of("classifier", "image", onnx("image", classifiers.temperature), graph),
    ),
    Fault(
        "golden answers without probabilities",
        "golden probabilities",
        of("classifier", "image", without_probabilities, golden),
    ),
    # Claims
    Fault(
        "operators that are not there",
        "contents",
        of("onnx", "text", told("manifest.json", claims.more_operators), check_contents),
    ),
    Fault(
        "half the bytes of weights",
        "contents",
        of("onnx", "text", told("manifest.json", claims.smaller_weights), check_contents),
    ),
    Fault("a deviation a hundredth of what it is", "measured", lambda made: made.nearer()),
    Fault(
        "a noise floor a hundred times as high",
        "measured",
        of("onnx", "text", told("parity.json", claims.noisier), measured),
    ),
    Fault(
        "a gate that lets everything pass",
        "relative=1 (loosened)",
        gates(told("manifest.json", lambda data: data["options"].update(gates="relative=1.0"))),
    ),
    # Benchmark
    Fault("answers times 100", "no latency", lambda _: latency("times 100")),
    Fault("lengths a quarter too short", "no latency", lambda _: latency("a quarter too short")),
    Fault("labels swapped", "no latency", lambda _: latency("labels swapped")),
    # Readers
    Fault("zero points of LiteRT's blocks", "weights", of("tflite", "text", zero_points, check_weights)),
    Fault(
        "what a part of XNNPACK's takes", "reproduced", of("pte", "text", other_values("input_ids"), check_reproduced)
    ),
    Fault(
        "what a part of XNNPACK's gives", "reproduced", of("pte", "text", other_values("output_ids"), check_reproduced)
    ),
    Fault(
        "the towers' functions exchanged",
        "settings",
        of("both towers", "image", told("manifest.json", swapped_functions), settings),
    ),
    # Seen by a conversion alone before
    Fault("an epsilon of a norm", "graph", of("onnx", "text", onnx("text", epsilon), graph)),
    Fault("a bound that nothing reaches", "graph", of("onnx", "text", onnx("text", bound), graph)),
    Fault("scaled by 2^12 and back", "graph", of("onnx", "text", onnx("text", scaled_and_back), graph)),
)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_that_passed_once_is_seen_by_its_check(made: Made, fault: Fault) -> None:
    assert fault.seen in fault.failing(made)


@pytest.mark.parametrize(
    ("bundle", "tower", "asked"),
    [
        ("onnx", "image", (BESIDE, measured, check_contents, graph, settings)),
        ("onnx", "text", (BESIDE, measured, check_contents, graph, settings)),
        ("pte", "text", (BESIDE, check_reproduced)),
        ("classifier", "image", (graph, golden)),
        ("both towers", "image", (settings,)),
        ("tflite", "text", (check_weights,)),
    ],
)
def test_without_a_fault_none_of_these_checks_fails(
    made: Made, bundle: str, tower: TowerName, asked: tuple[Asked, ...]
) -> None:
    for one in asked:
        assert made.failed(bundle, tower, lambda path: None, one) == set()
