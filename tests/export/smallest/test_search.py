"""The search for the smallest bundle: what is tried first, what is ruled out, and that no failure is written."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import refusal, run
from export.smallest.targets import NoisyTarget
from exports import Exports
from tiny import WORDS, known
from writing import slow_runtime

import mobileclip_deploy as mcd
import mobileclip_deploy.targets as registry
from mobileclip_deploy.cli.tables import print_failed_export
from mobileclip_deploy.errors import GateFailed, UsageError
from mobileclip_deploy.evaluation import looks
from mobileclip_deploy.evaluation.checkpoints import checkpoint_looks
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.dataset_files import read_dataset
from mobileclip_deploy.evaluation.evaluate import Measurement, measure
from mobileclip_deploy.evaluation.looks import Paired
from mobileclip_deploy.evaluation.metrics import paired_loss
from mobileclip_deploy.export.plan import plan_export
from mobileclip_deploy.export.request import ExportRequest, Limits, choose
from mobileclip_deploy.export.smallest import NothingPasses, Smallest, find_smallest
from mobileclip_deploy.export.smallest.candidates import Candidate, TowerChoice
from mobileclip_deploy.export.smallest.trials import Trials, TriedTower
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.model.variants import TOWERS
from mobileclip_deploy.network.samples import image_paths
from mobileclip_deploy.parity import compare
from mobileclip_deploy.parity.computing import compute_reference
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.pictures.embedder import Embedder
from mobileclip_deploy.verify.subject import Evidence

PRECISIONS = ("fp32", "fp16", "w8", "w4")
ROUGH = 0.3  # cosine 0.958: no gate holds it
# Sixteen images confirm the winner: what so few lose, be it nothing, is known to 3 points.
FEW = Limits(max_drop=10)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Checkpoint of a small network. What is decided depends on the noise given to artifacts, not on the network."""
    with known(tmp_path_factory.mktemp("tiny")) as path:
        yield path


@pytest.fixture
def model(checkpoint: Path) -> mcd.MobileCLIP:
    return mcd.load_model(WORDS, checkpoint)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The sample photographs, each a class of its own."""
    path = tmp_path_factory.mktemp("data") / "samples.csv"
    lines = ["image,label,text", *(f"{file},{file.stem},{file.stem}" for file in image_paths())]
    path.write_text("\n".join(lines), encoding="utf-8")
    return read_dataset(path)


def noisy(
    model: mcd.MobileCLIP, monkeypatch: pytest.MonkeyPatch, precisions: tuple[str, ...] = PRECISIONS, **noise: float
) -> NoisyTarget:
    target = NoisyTarget(model, precisions, {name.replace("_", " "): value for name, value in noise.items()})
    installed = registry.get_target
    monkeypatch.setattr(registry, "get_target", lambda name: target if name == "noisy" else installed(name))
    return target


def search(
    model: mcd.MobileCLIP,
    output: Path,
    dataset: Dataset | None = None,
    tower: str = "both",
    limits: Limits = FEW,
) -> Smallest:
    """As `export --target noisy --precision smallest` does it."""
    request = ExportRequest(("noisy",), ("smallest",), output, tower=tower, limits=limits)
    plan = plan_export(choose(request), Source.of(model))
    reference = compute_reference(model, sample_inputs(model))
    task = None if dataset is None or tower != "both" else checkpoint_looks(model, dataset)
    return find_smallest(plan.bundles[0], plan.source, Evidence(reference, task))


def outcomes(found: Smallest) -> list[tuple[str, str, str]]:
    return [(trial.precisions["image"], trial.precisions["text"], trial.outcome) for trial in found.log.trials]


def test_the_smallest_is_written_when_it_passes(
    model: mcd.MobileCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    noisy(model, monkeypatch)
    found = search(model, tmp_path, dataset)
    assert outcomes(found) == [("w4", "w4", "passed")]
    assert found.report.passed
    assert found.report.notes == ()
    assert [path.name for path in tmp_path.iterdir()] == [f"{WORDS}-noisy-smallest"]
    log = json.loads((found.bundle.path / "smallest.json").read_text(encoding="utf-8"))
    (trial,) = log["trials"]
    assert trial["drops"].keys() == {"top1", "image_to_text_recall@1"}
    assert log["candidates"] == 16
    assert mcd.Bundle.open(found.bundle.path).manifest == found.bundle.manifest


@pytest.mark.slow
def test_a_slow_runtime_is_asked_for_the_gate_and_what_computes_the_same_for_accuracy(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    bundle, source = exports.bundle("onnx", "fp16"), Source.of(mcd.load_model())  # shared: made at the usual pace
    slow_runtime(monkeypatch, "onnx", 2)
    plan = plan_export(choose(ExportRequest(("onnx",), ("smallest",), tmp_path)), source)
    own = checkpoint_looks(source.model, dataset)
    reference = replace(Reference.read(bundle.golden), floor=dict.fromkeys(TOWERS, 1e-6))
    searched = Trials(plan.bundles[0], source.folded(), Evidence(reference, own), tmp_path)
    for tower in TOWERS:  # as an earlier run has left it
        file = bundle.artifact(tower)
        (tmp_path / f"{tower}-fp16").mkdir()
        shutil.copy(file, tmp_path / f"{tower}-fp16" / file.name)
    asked: list[Embedder] = []

    def measured(embedder: Embedder, *more: Any, **how: Any) -> Measurement:
        asked.append(embedder)
        return measure(embedder, *more, **how)

    monkeypatch.setattr(looks, "measure", measured)
    candidate = Candidate((TowerChoice("image", "fp16", 0), TowerChoice("text", "fp16", 0)))
    assert {loss.points for loss in searched.losses(candidate, own, 100, False).losses.values()} == {0}
    (embedder,) = asked
    assert embedder.engine.endswith("with the weights that stand in the file")
    pixels = reference.inputs.of("image")[:2]
    exact, written = reference.of("image")[:2], mcd.load_runner(bundle, "image")(pixels)
    assert 0 < compare(written, embedder.images(pixels)).relative < 1e-3 < 2 * compare(exact, written).relative


@pytest.mark.slow
def test_a_tower_that_fails_rules_out_all_that_hold_it_and_is_tried_once(
    model: mcd.MobileCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    target = noisy(model, monkeypatch, image_w4=ROUGH)
    found = search(model, tmp_path, dataset)
    last = outcomes(found)[-1]
    assert last == ("w8", "w4", "passed")
    assert all(image == "w4" and outcome == "failed" for image, _, outcome in outcomes(found)[:-1])
    assert target.exported.count("image w4") == 1
    assert "cosine 0.9" in (found.log.trials[0].reason or "")
    sizes = [trial.predicted_bytes for trial in found.log.trials]
    assert sizes == sorted(sizes)


@pytest.mark.slow
def test_accuracy_decides_among_those_that_hold_their_gates(
    model: mcd.MobileCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    noisy(model, monkeypatch)
    lost, none = np.zeros(16, bool), np.ones(16, bool)
    losses = iter([Paired({"top1": paired_loss(none, each)}, 0.0) for each in (lost, none)])
    monkeypatch.setattr(Trials, "losses", lambda self, candidate, own, bound, patient: next(losses))
    found = search(model, tmp_path, dataset, limits=Limits(max_drop=20))
    assert [outcome for *_, outcome in outcomes(found)] == ["failed", "passed"]
    assert (found.log.trials[0].drops, found.log.trials[1].drops) == ({"top1": 100}, {"top1": 0})
    assert str(found.log.trials[0].reason).startswith("top1 drops +100.00")


@pytest.mark.slow
def test_a_winner_that_other_images_do_not_confirm_is_passed_over(
    model: mcd.MobileCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    noisy(model, monkeypatch, ("fp32", "w4"))
    found = search(model, tmp_path, dataset, limits=Limits(max_drop=1))
    *before, last = outcomes(found)
    assert last == ("fp32", "fp32", "passed")  # which is the checkpoint, whatever the images
    assert {outcome for *_, outcome in before} == {"undecided"}
    assert re.search(r"0 lost, 0 won in 5 views\), .* about \d+ more would do", found.log.trials[0].reason or "")
    note, luck = found.report.notes
    assert (
        luck
        == f"accuracy of {len(before) + 1} candidates was confirmed on the same images: one of them may pass by luck"
    )
    first = next(
        trial for trial in found.log.trials if trial.more == min(one.more for one in found.log.trials[:-1] if one.more)
    )
    assert f"whether smaller candidates pass ({len(before)} undecided); about " in note
    assert f" {first.more:,} more pictures would decide image {first.precisions['image']}, text " in note
    (task,) = [check for check in found.report.checks if check.step == "task"]
    assert {lost.examples for lost in task.losses.values()} == {16}


@pytest.mark.slow
def test_too_few_pictures_write_the_default_precision_and_not_something_larger(
    model: mcd.MobileCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    """Only float32 in both towers needs no pictures to pass, and is twice as large."""
    noisy(model, monkeypatch, ("fp32", "fp16", "w4"))
    found = search(model, tmp_path, dataset, limits=Limits(max_drop=1))
    *before, last = found.log.trials
    assert (last.precisions, last.outcome) == ({"image": "fp16", "text": "fp16"}, "undecided")
    assert found.log.fallback
    assert [check.step for check in found.report.undecided] == ["task"]
    assert all(one.predicted_bytes <= last.predicted_bytes for one in before)
    assert found.bundle.manifest.towers["image"].precision == "fp16"
    note = found.report.notes[0]
    first = "no smaller candidate passed; the default precision is written, undecided: image fp16, text "
    assert f"{first}fp16 (" in note
    assert re.search(r"; about [\d,]+ more pictures would decide image ", note)


@pytest.mark.slow
def test_without_anything_that_passes_the_default_precision_is_written_where_it_is_small_enough(
    model: mcd.MobileCLIP, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    noisy(model, monkeypatch, ("fp16", "w4"))
    found = search(model, tmp_path, dataset, limits=Limits(max_drop=1))
    assert (found.log.trials[-1].precisions["text"], found.log.fallback) == ("fp16", True)
    size = found.log.trials[-1].bytes / 1e6
    noisy(mcd.load_model(WORDS, checkpoint), monkeypatch, ("fp16", "w4"))
    with pytest.raises(NothingPasses, match="of at most"):
        search(mcd.load_model(WORDS, checkpoint), tmp_path / "b", dataset, limits=Limits(1, max_size=size - 1e-6))


@pytest.mark.slow
def test_a_default_precision_that_fails_leaves_the_place_to_what_passed(
    model: mcd.MobileCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    noisy(model, monkeypatch, ("fp32", "fp16"), image_fp16=ROUGH, text_fp16=ROUGH)
    found = search(model, tmp_path, dataset, limits=Limits(max_drop=1))
    assert (outcomes(found)[-1], found.log.fallback) == (("fp32", "fp32", "passed"), False)


def test_nothing_is_written_when_nothing_passes(
    model: mcd.MobileCLIP,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: Dataset,
    capsys: pytest.CaptureFixture[str],
) -> None:
    noisy(model, monkeypatch, **{f"image_{name}": ROUGH for name in PRECISIONS})
    with pytest.raises(
        NothingPasses, match=r"4 candidates were tried, and all failed; .* image fp32: relative"
    ) as failed:
        search(model, tmp_path, dataset)
    (found,) = (result.as_dict() for result in failed.value.results)
    assert (found["written"], found["manifest"], len(found["search"]["trials"])) == (False, None, 4)
    print_failed_export(failed.value)
    assert "12 of 16 candidates were not tried: one of their towers failed" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


@pytest.mark.slow
def test_what_the_full_verification_refuses_is_passed_over(
    model: mcd.MobileCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    """A shipped gate that held in the search and a check that only the export makes."""
    from mobileclip_deploy.export.smallest import search as module

    write, refused = module.write_bundle, []

    def refusing(*arguments: object, **options: object) -> object:
        if not refused:
            refused.append(arguments)
            raise GateFailed("seen only in full")
        return write(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_bundle", refusing)
    noisy(model, monkeypatch)
    found = search(model, tmp_path, dataset)
    assert [outcome for *_, outcome in outcomes(found)] == ["failed", "passed"]
    assert found.log.trials[0].reason == "seen only in full"


def test_the_budget_ends_a_search_without_a_bundle(
    model: mcd.MobileCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    noisy(model, monkeypatch)
    with pytest.raises(GateFailed, match=r"within 1e-09 minutes \(0 tried\); repeat the command"):
        search(model, tmp_path, dataset, limits=Limits(budget=1e-9))


def test_what_holds_its_gates_when_the_budget_ends_is_not_said_to_have_passed(
    model: mcd.MobileCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    from mobileclip_deploy.export.smallest import search as module

    tower = Trials.tower

    def slow(self: Trials, choice: TowerChoice) -> TriedTower:
        monkeypatch.setattr(module.time, "monotonic", lambda: float("inf"))
        return tower(self, choice)

    monkeypatch.setattr(Trials, "tower", slow)
    noisy(model, monkeypatch)
    with pytest.raises(NothingPasses, match=r"nothing passed within 60 minutes \(1 tried\)") as ended:
        search(model, tmp_path, dataset, limits=Limits(budget=60))
    (trial,) = ended.value.results[0].log.trials
    assert (trial.outcome, trial.reason) == (
        "undecided",
        "passes its gates, but is not confirmed: the time limit was reached",
    )


@pytest.mark.slow
def test_nothing_above_the_size_that_was_given_is_tried_and_the_refusal_says_what_it_came_to(
    model: mcd.MobileCLIP, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy(model, monkeypatch, image_w4=ROUGH)
    found = search(model, tmp_path / "a")
    needed = found.log.trials[-1].predicted_bytes / 1e6
    again = noisy(mcd.load_model(WORDS, checkpoint), monkeypatch, image_w4=ROUGH)
    with pytest.raises(
        NothingPasses, match=r"candidates of at most .* MB were tried, and all failed; the largest, \d"
    ) as failed:
        search(model, tmp_path / "b", limits=Limits(max_size=needed - 1e-6))
    assert f"the next candidate needs `max_size` {needed:.2f}" in str(failed.value)
    assert "image w8" not in again.exported
    assert failed.value.results[0].log.max_size == needed - 1e-6
    with pytest.raises(NothingPasses, match="there is no candidate of at most 0"):
        search(model, tmp_path / "b", limits=Limits(max_size=0.001))


def test_one_tower_alone_is_held_against_its_gate(
    model: mcd.MobileCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    noisy(model, monkeypatch)
    found = search(model, tmp_path, dataset, tower="text")
    assert (found.log.trials[-1].precisions, found.log.trials[-1].drops) == ({"text": "w4"}, {})
    assert found.log.dataset is None


def test_a_destination_that_exists_is_refused_before_anything_runs(
    model: mcd.MobileCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = noisy(model, monkeypatch)
    with pytest.raises(UsageError, match="leave `multifunction` out"):
        choose(ExportRequest(("coreml",), ("smallest",), tmp_path, options={"multifunction": True}))
    (tmp_path / f"{WORDS}-noisy-smallest").mkdir()
    (tmp_path / f"{WORDS}-noisy-smallest" / "mine.txt").touch()
    with pytest.raises(UsageError, match="is not a bundle"):
        search(model, tmp_path)
    assert target.exported == []


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    export = ["export", "--target", "onnx", "-o", tmp_path]
    assert "must be the only precision" in refusal(run(*export, "--precision", "smallest", "--precision", "fp16"))
    assert "must be the only precision" in refusal(run(*export, "--precision", "smallest", "--no-verify"))
    for limit in ("--max-drop", "--max-size", "--budget"):
        assert "need --precision smallest" in refusal(run(*export, limit, "1"))
    assert "--max-size 0 must be above 0" in refusal(run(*export, "--precision", "smallest", "--max-size", "0"))
