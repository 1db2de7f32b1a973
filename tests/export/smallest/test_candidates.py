"""Which candidates there are, in which order they are tried, and which of them is taken."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from tiny import filled

from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.evaluation import looks
from mobileclip_deploy.evaluation.looks import Looks, Paired
from mobileclip_deploy.evaluation.metrics import paired_loss
from mobileclip_deploy.export.plan import BundlePlan
from mobileclip_deploy.export.request import ExportRequest, Limits
from mobileclip_deploy.export.smallest.candidates import Candidate, TowerChoice, tower_choices
from mobileclip_deploy.export.smallest.search import Smallest, _Search
from mobileclip_deploy.export.smallest.trials import Trials, TriedTower
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder
from mobileclip_deploy.targets import get_target

SIZES = {"w4p-p50": 10, "w4": 11, "w4p": 12, "w6p": 13, "w8": 14, "fp16": 15, "fp32": 16}


def choice(name: str, size: int, tower: str = "image") -> TowerChoice:
    return TowerChoice(tower, name, size)  # type: ignore[arg-type]


def test_tables_of_their_own_are_candidates_where_the_target_has_them() -> None:
    module = make_tower(filled("tiny_twin"), "text").eval()
    labels = {one.label for one in tower_choices(get_target("onnx"), "text", module)}
    # Of those that round activations in addition none is smaller: w8a8 and w8a8-table-w4 are left out.
    assert labels == {"w4-table-w8", "w8-table-w4", "w4", "w8", "fp16", "fp32"}
    assert not [one for one in tower_choices(get_target("onnx"), "image", module) if "-table-" in one.label]
    assert not [one for one in tower_choices(get_target("litert"), "text", module) if "-table-" in one.label]


class Made(_Search):
    """A search whose towers hold their gates, and whose candidates pass in full unless they are in `refused`."""

    refused: set[str]
    written: list[str]

    def _choices(self, tower: TowerName) -> tuple[TowerChoice, ...]:
        return tuple(choice(name, size) for name, size in SIZES.items())

    def _write(self, candidate: Candidate) -> Smallest | None:
        (name,) = candidate.precisions.values()
        self.written.append(name)
        return None if name in self.refused else object()  # type: ignore[return-value]


def searched(tmp_path: Path, losses: dict[str, Paired], failed: set[str], refused: set[str]) -> Made:
    """A search of the image tower; `losses`: of each precision against the checkpoint, nothing for others."""
    plan = BundlePlan(tmp_path / "bundle", get_target("onnx"), {"image": "w4"}, ExportRequest(()))
    trials = Trials(plan, None, mock.MagicMock(), tmp_path / "search")  # type: ignore[arg-type]
    trials.evidence.task.dataset.name = "made"  # type: ignore[union-attr]
    trials.tower = lambda one: TriedTower(tmp_path, 1, one.precision if one.precision in failed else None)  # type: ignore[method-assign]
    trials.losses = lambda one, own, bound, patient: losses.get(one.precisions["image"], Paired({}, 0.0))  # type: ignore[method-assign]
    search = Made(trials, Limits(), None)
    search.refused, search.written = refused, []
    return search


def lost(count: int, pictures: int, views: int = 5) -> Paired:
    """`count` pictures are lost in the first view."""
    before = np.ones((views, pictures), bool)
    after = before.copy()
    after[0, :count] = False
    return Paired({"top1": paired_loss(before, after)}, 0.0)


OPEN, FAILED = lost(3, 300, 1), lost(60, 300, 1)


@pytest.mark.parametrize(
    ("losses", "failed", "tried", "written"),
    [
        # From the smallest upward to the first that passes accuracy, and then in full.
        ({"w4p": OPEN}, {"w4"}, ["w4p-p50", "w4", "w4p", "w6p"], ["w4p-p50", "w6p"]),
        # The default precision may be undecided, before anything larger.
        (dict.fromkeys(SIZES, OPEN), set(), [*SIZES][:-1], ["fp16"]),
        (dict.fromkeys([*SIZES][:-1], FAILED), set(), [*SIZES], ["fp32"]),
        # One of 300 pictures is 1.00 points of every third one, and no loss by the gate of `export`.
        (dict.fromkeys([*SIZES][:-2], FAILED) | {"fp16": lost(1, 300)}, set(), [*SIZES][:-1], ["fp16"]),
    ],
)
def test_the_smallest_is_found_upward_by_the_gate_of_export(
    losses: dict[str, Paired], failed: set[str], tried: list[str], written: list[str], tmp_path: Path
) -> None:
    search = searched(tmp_path, losses, failed, {"w4p-p50"})
    assert search.run() is not None
    assert [one.precisions["image"] for one in search.tried] == tried
    assert search.written == written


def test_accuracy_is_asked_of_what_stands_in_for_a_slow_runtime(tmp_path: Path) -> None:
    fast, slow, plan = mock.Mock(engine="fast"), mock.Mock(engine="slow"), mock.Mock()
    plan.target.open.side_effect = [
        mock.Mock(weights=None, **{"stand_in.return_value": found, "runner.return_value": slow})
        for found in (fast, None)
    ]
    choices = choice("fp16", 1), choice("fp16", 1, "text")
    tried = {one: TriedTower(tmp_path, 1, None) for one in choices}
    trials = Trials(plan, mock.MagicMock(), mock.Mock(), tmp_path, _towers=tried)
    own = Looks(model_embedder(mock.MagicMock()), mock.Mock())
    embedder = trials._looks(Candidate(choices), own).embedder
    assert (embedder.images, embedder.texts) == (fast, slow)


@pytest.mark.parametrize(("lost", "patient", "views"), [(2, False, 5), (5, False, 1), (5, True, 5), (9, True, 1)])
def test_views_follow_where_the_plain_images_are_near_the_bound(
    lost: int, patient: bool, views: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 pictures, of which some are lost: 2 are 0.67 points, 5 a standard error beyond 0.5, and 9 the interval."""
    scale = mock.MagicMock(**{"embedder.scores.scale": 1.0})
    before, after = (mock.Mock(hits={"top1": np.arange(300) >= count}) for count in (0, lost))
    own, other = (Looks(scale.embedder, mock.Mock(), cached=[each] * 5) for each in (before, after))
    monkeypatch.setattr(looks, "divergence", lambda *arguments: 0.0)
    trials = Trials(mock.Mock(), mock.Mock(), mock.Mock(), tmp_path)
    monkeypatch.setattr(trials, "_looks", lambda candidate, own: other)
    candidate = Candidate((choice("fp16", 1), choice("fp16", 1, "text")))
    assert trials.losses(candidate, own, 0.5, patient).losses["top1"].looks == views
