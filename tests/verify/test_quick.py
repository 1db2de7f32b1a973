"""The quick checks: accuracy on some of the images, and what of so few is chance."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_line import run
from exports import Exports

from mobileclip_deploy.errors import InvalidInput, NotRun
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.parity import Check, Gates
from mobileclip_deploy.verify.checks import sampled, task
from mobileclip_deploy.verify.checks.reproduced import check_reproduced
from mobileclip_deploy.verify.checks.twin import check_twin


def test_quick_checks_measure_accuracy_on_some_images_and_say_on_how_many(exports: Exports) -> None:
    found = run("verify", exports.bundle("onnx", "fp16").path, "--checks", "quick", "--dataset", "builtin")
    assert found.code == 0, found.stderr
    (line,) = [line for line in found.stdout.splitlines() if " sampled " in line]
    assert "passed" in line
    assert "on 128 of 1,911 images: top1 " in line
    (line,) = [line for line in found.stdout.splitlines() if " task " in line]
    assert "left out of the quick checks" in line
    *_, verdict, unproven = found.stderr.splitlines()
    assert unproven == "Not proven: twin, reproduced, task (left out of the quick checks)."
    assert verdict.startswith("Passed: all ")


def dataset(images: int) -> Dataset:
    files = tuple(Path(f"{number}.png") for number in range(images))
    rows = tuple(map(str, files))
    captions = tuple(f"{number} {which}" for number in range(images) for which in "ab")
    places = tuple(number for number in range(images) for _ in "ab")
    return Dataset("d", files, rows, captions, places, labels=tuple(range(images)), classes=rows)


def test_a_sample_is_spread_evenly_and_keeps_captions_and_classes() -> None:
    some = dataset(10).sample(4)
    assert [str(image) for image in some.images] == ["0.png", "2.png", "5.png", "7.png"]
    assert some.captions == ("0 a", "0 b", "2 a", "2 b", "5 a", "5 b", "7 a", "7 b")
    assert (some.caption_images, some.labels) == ((0, 0, 1, 1, 2, 2, 3, 3), (0, 2, 5, 7))
    assert len(some.classes) == 10
    assert dataset(4).sample(4) == dataset(4)


def test_a_choice_is_confirmed_on_other_images_than_it_was_made_on() -> None:
    for count in (2, 7):
        chosen_on, others = (set(part.images) for part in dataset(count).divided())
        assert chosen_on
        assert others
        assert not chosen_on & others
    with pytest.raises(InvalidInput, match="has one image"):
        dataset(1).divided()


def after_losing(lost: int, monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """The check of an artifact that misses `lost` of 128 images, all of which the checkpoint hits."""
    right, found = np.ones(128, bool), np.arange(128) >= lost
    interval = SimpleNamespace(value=100 * found.mean())
    result = SimpleNamespace(figures={"top1": interval}, engine="engine")
    measured = SimpleNamespace(hits={"top1": found}, result=result)
    monkeypatch.setattr(sampled, "bundle_embedder", lambda *_, **__: None)
    monkeypatch.setattr(sampled, "measure", lambda *_, **__: measured)
    reference = SimpleNamespace(dataset=dataset(128), checkpoint=SimpleNamespace(hits={"top1": right}), total=1911)
    own: Any = SimpleNamespace(
        evidence=SimpleNamespace(sampled=reference),
        gates=Gates(),
        bundle=None,
        runner=None,
        name="b",
        progress=lambda _: None,
    )
    return sampled.check_sampled(own)


def test_what_a_few_images_lose_by_chance_passes_and_a_real_loss_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    (two,) = after_losing(2, monkeypatch)
    assert (two.status, two.detail) == ("passed", "on 128 of 1,911 images")
    assert two.figures == {"top1": pytest.approx(98.4375), "top1_drop": pytest.approx(1.5625)}
    (ten,) = after_losing(10, monkeypatch)
    assert ten.status == "failed"


def test_without_a_runtime_it_was_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise NotRun("no runtime here")

    monkeypatch.setattr(sampled, "bundle_embedder", none)
    own: Any = SimpleNamespace(evidence=SimpleNamespace(sampled=object()), gates=Gates(), bundle=None, runner=None)
    (check,) = sampled.check_sampled(own)
    assert (check.status, check.left_out, check.detail) == ("not run", False, "no runtime here")


def test_quick_checks_leave_out_twin_task_and_reproduced_and_say_so() -> None:
    own: Any = SimpleNamespace(
        bundle=SimpleNamespace(parity=[]),
        evidence=SimpleNamespace(task=None, sampled=None),
        gates=Gates(),
        source=object(),
        target=None,
        thorough=False,
        complete=True,
    )
    image: Any = SimpleNamespace(subject=own, name="image", precision="fp16")
    found = [*check_twin(image), *task.check_task(own), *check_reproduced(image)]
    assert [(check.step, check.left_out) for check in found] == [("twin", True), ("task", True), ("reproduced", True)]
    assert {check.detail for check in found} == {"left out of the quick checks"}
