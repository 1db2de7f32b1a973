"""Figures in docs/figures/benchmarks.md are those of the results beside the suites, and the results are sound."""

import subprocess
import sys
from pathlib import Path

import pytest

from mobileclip_deploy.benchmark.assembly import complete
from mobileclip_deploy.benchmark.documents import read_result

pytestmark = pytest.mark.slow  # it reads all published results

ROOT = Path(__file__).parents[2]
KEPT = sorted((ROOT / "benchmarks" / "results").glob("*-[0-9]*.json"))
RESULTS = [
    path for path in KEPT if not path.name.startswith("guard-")
]  # which is read by tests/benchmark/test_suites.py


def test_the_page_is_what_its_command_makes_of_the_results(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "benchmarks" / "page.py", tmp_path / "page.md"], check=True)
    written = (tmp_path / "page.md").read_text(encoding="utf-8")
    published = (ROOT / "docs" / "figures" / "benchmarks.md").read_text(encoding="utf-8")
    assert published == written, "type: python benchmarks/page.py"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_published_result_answers_rightly_and_sums_up_its_own_samples(path: Path) -> None:
    result = read_result(path)
    assert not result.device.simulated
    assert {cell.status for cell in result.cells} == {"done"}
    for asked, cell in zip(result.job.cells, result.cells, strict=True):
        incomparable = asked.competitor and asked.golden is None  # SigLIP's files: no bundle has its embeddings
        assert incomparable or (cell.golden is not None and cell.golden.passed), cell.id
    for cell, again in zip(result.cells, complete(result).cells, strict=True):
        assert again.summary.median_interval_ns == cell.summary.median_interval_ns
        wanted = cell.summary.model_dump(exclude={"median_interval_ns"})
        found = again.summary.model_dump(exclude={"median_interval_ns"})
        assert found == pytest.approx(wanted, rel=1e-12)  # NumPy rounds an interpolation's last bit its own way
