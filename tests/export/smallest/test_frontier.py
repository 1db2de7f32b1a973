"""What is worth trying, by what is predicted, and in which order it is tried."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from tiny import filled

from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.base.progress import silent
from mobileclip_deploy.evaluation.looks import Looks
from mobileclip_deploy.export.plan import BundlePlan
from mobileclip_deploy.export.request import ExportRequest, Limits
from mobileclip_deploy.export.smallest.candidates import Candidate, TowerChoice, frontier, tower_choices
from mobileclip_deploy.export.smallest.log import Trial
from mobileclip_deploy.export.smallest.prediction import Prediction, Predictor
from mobileclip_deploy.export.smallest.search import Smallest, _Search
from mobileclip_deploy.export.smallest.trials import Trials, TriedTower
from mobileclip_deploy.parity import Bound, compare
from mobileclip_deploy.pictures.embedder import model_embedder
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.grids.train import to_nearest
from mobileclip_deploy.targets.rules import storage_of


def choice(name: str, size: int, noise: float, tower: str = "image") -> TowerChoice:
    return TowerChoice(tower, name, size, noise=noise)  # type: ignore[arg-type]


def text_tower() -> torch.nn.Module:
    return make_tower(filled("tiny_twin"), "text").eval()


def test_what_another_is_nearer_than_is_passed_over_and_noise_of_two_towers_adds_up() -> None:
    named = [("w4", 4, 0.2), ("w4p", 5, 0.3), ("w6p", 6, 0.1), ("w8", 8, 0.1), ("w8a8", 8, 0.1), ("fp32", 32, 0.0)]
    found = frontier(Candidate((choice(*one),)) for one in named)
    # w4p is larger and noisier than w4; w8 is as near as w6p, which may fail; w8a8 rounds activations too.
    assert [one.precisions["image"] for one in found] == ["w4", "w6p", "w8", "fp32"]
    pair = Candidate((choice("w4", 4, 0.2), choice("w8a8", 8, 0.05, "text")))
    assert pair.noise == (0.25, 1)


def test_tables_of_their_own_are_candidates_where_the_target_has_them() -> None:
    module = text_tower()
    labels = {one.label for one in tower_choices(get_target("onnx"), "text", module)}
    assert {one for one in labels if "-table-" in one} == {"w4-table-w8", "w8-table-w4", "w8a8-table-w4"}
    assert not [one for one in tower_choices(get_target("onnx"), "image", module) if "-table-" in one.label]
    assert not [one for one in tower_choices(get_target("litert"), "text", module) if "-table-" in one.label]


def test_a_prediction_is_what_rounding_every_weight_does() -> None:
    module, target = text_tower(), get_target("coreml").settled({"text": "w4"})
    ids = np.random.default_rng(0).integers(0, 90, (5, 8))
    ids[:, 0], ids[:, -1] = 90, 91
    predictor = Predictor(module, ids)
    found = {}
    for precision in ("w4p", "w8", "w4-table-w6p", "w4p"):  # the last as the first, whatever was between
        storage = storage_of(target, "text", module, precision)
        rounded = copy.deepcopy(module)
        with torch.no_grad():
            for name, tensor in {**dict(rounded.named_parameters()), **dict(rounded.named_buffers())}.items():
                tensor.copy_(to_nearest(storage[name], tensor))
            answers = [tower(torch.from_numpy(ids)).numpy() for tower in (module, rounded)]
        wanted = compare(*answers)
        found[precision] = predictor.predict(storage)
        assert found[precision] == Prediction(cosine=wanted.cosine, snr_db=wanted.snr_db)
    assert found["w4p"].noise > found["w8"].noise > 0


def test_only_what_is_predicted_to_miss_its_gate_by_far_is_not_converted() -> None:
    bound = Bound("cosine", 0.98, 10.0)
    assert Prediction(cosine=0.97, snr_db=7.5).fails(bound) is None
    assert Prediction(cosine=0.95, snr_db=15.0).fails(bound) == "predicted cosine 0.9500"
    assert Prediction(cosine=0.99, snr_db=6.9).fails(bound) == "predicted SNR 6.9 dB"
    assert Prediction(cosine=math.nan, snr_db=-math.inf).fails(bound) is not None
    assert Prediction(cosine=0.5, snr_db=None).fails(Bound("relative", 1e-5)) is None


def outcome(candidate: Candidate) -> str:
    return candidate.precisions["image"]


class Made(_Search):
    """A search whose candidates fail, are open or pass as they are told, without any file."""

    told: dict[str, str]
    written: list[str]

    def _try(self, candidate: Candidate) -> Trial:
        failed = self.told[outcome(candidate)] == "failed"
        return Trial(
            precisions=candidate.precisions,
            predicted_bytes=candidate.predicted,
            outcome="failed" if failed else "undecided",
        )

    def _may_be_written(self, candidate: Candidate) -> bool:
        is_open = self.told[outcome(candidate)] == "open"
        return not is_open or candidate == self._default()

    def _write(self, candidate: Candidate) -> Smallest | None:
        self.written.append(outcome(candidate))
        return None if self.told.get(f"{outcome(candidate)} in full") == "failed" else object()  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("told", "tried", "written"),
    [
        # From the smallest upward to the first that is confirmed and passes in full.
        ({"w4": "failed", "w4p": "open"}, ["w4p-p50", "w4", "w4p", "w6p"], ["w4p-p50", "w6p"]),
        # The default precision may be open, before anything larger.
        (
            dict.fromkeys(("w4", "w4p", "w6p", "w8", "fp16"), "open"),
            ["w4p-p50", "w4", "w4p", "w6p", "w8", "fp16"],
            "fp16",
        ),
        (dict.fromkeys(("w4", "w4p", "w6p", "w8", "fp16"), "failed"), ["w8", "fp16", "fp32"], "fp32"),
    ],
)
def test_the_smallest_is_found_upward_and_the_default_precision_before_anything_larger(
    told: dict[str, str], tried: list[str], written: list[str] | str, tmp_path: Path
) -> None:
    levels = {"w4p-p50": 12, "w4": 15, "w4p": 20, "w6p": 25, "w8": 31, "fp16": 40, "fp32": 50}
    plan = BundlePlan(tmp_path / "bundle", get_target("onnx"), {"image": "w4"}, ExportRequest(()))
    trials = Trials(plan, None, None, tmp_path / "search")  # type: ignore[arg-type]
    search = Made(trials, Limits(), None, object())  # type: ignore[arg-type]
    search.told = dict.fromkeys(levels, "passed") | {"w4p-p50 in full": "failed"} | told
    search.written = []
    named = enumerate(levels.items())
    search.choices["image"] = [choice(name, 10 + n, 10 ** (-level / 10)) for n, (name, level) in named]
    search.run()
    found = [one.precisions["image"] for one in search.tried.values()]
    assert found[-len(tried) :] == tried
    assert search.written == (written if isinstance(written, list) else ["w4p-p50", written])


def test_accuracy_is_asked_of_what_stands_in_for_a_slow_runtime(tmp_path: Path) -> None:
    fast, slow, plan = mock.Mock(engine="fast"), mock.Mock(engine="slow"), mock.Mock()
    plan.target.open.side_effect = [
        mock.Mock(weights=None, **{"stand_in.return_value": found, "runner.return_value": slow})
        for found in (fast, None)
    ]
    choices = choice("fp16", 1, 0.0), choice("fp16", 1, 0.0, "text")
    tried = {one: TriedTower(tmp_path, 1, None) for one in choices}
    trials = Trials(plan, mock.MagicMock(), mock.Mock(), tmp_path, _towers=tried)
    own = Looks(model_embedder(mock.MagicMock()), mock.Mock())
    embedder = trials._looks(Candidate(choices), own, silent).embedder
    assert (embedder.images, embedder.texts) == (fast, slow)
