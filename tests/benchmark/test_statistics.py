"""Statistics: defined by vectors that every language shares, and by what they are for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobileclip_deploy.benchmark.statistics import percentile, summarize, trend, trimmed_mean

FILE = Path(__file__).with_name("statistics_vectors.json")
VECTORS = json.loads(FILE.read_text(encoding="utf-8"))["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_shared_vectors_hold(vector: dict[str, Any]) -> None:
    found = summarize(vector["rounds_ns"], vector["cpu_ns"], vector["trim_fraction"])
    assert found.model_dump(mode="json") == vector["summary"]


def test_the_vectors_are_what_their_command_writes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mobileclip_deploy.benchmark.statistics", str(tmp_path / "vectors.json")]
    subprocess.run(command, check=True)
    assert (tmp_path / "vectors.json").read_bytes() == FILE.read_bytes()


@pytest.mark.parametrize("q", [0, 0.025, 0.5, 0.9, 0.99, 1])
@pytest.mark.parametrize("count", [1, 2, 9, 100])
def test_a_percentile_is_numpys(q: float, count: int) -> None:
    samples = np.random.default_rng(count).integers(1, 10**9, count)
    assert percentile(list(samples), q) == pytest.approx(np.percentile(samples, 100 * q), rel=1e-12)


def test_the_papers_mean_drops_ten_at_either_end_of_each_round() -> None:
    round_ = [10**9] * 10 + [1] * 10 + [500] * 30
    assert trimmed_mean([round_, round_], 0.2) == 500


def test_a_device_that_slows_down_has_a_trend_above_one() -> None:
    assert trend([100] * 10 + [200] * 10) == 2
    assert trend([100] * 7) is None


def test_the_interval_holds_the_median_and_narrows_with_more_samples() -> None:
    noise = np.random.default_rng(0).normal(10**6, 10**5, 4000).astype(int).tolist()
    few, many = (summarize([noise[:count]], [None], 0.1) for count in (20, 4000))
    for found in (few, many):
        assert found.median_interval_ns.low <= found.median_ns <= found.median_interval_ns.high
    width = [found.median_interval_ns.high - found.median_interval_ns.low for found in (few, many)]
    assert width[1] < width[0] / 5


def test_a_round_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="without samples"):
        summarize([[1], []], [None, None], 0.1)
