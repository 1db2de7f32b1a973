"""A Core AI bundle on a phone: the harness takes its driver for it, and every choice of units has to answer."""

from pathlib import Path
from typing import Any

import pytest
from benchmark.ios.phone_folder import FolderPhone
from command_line import run
from coreai_assets import require_coreai
from exports import Exports

from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.neural_engine import neural_engine_use
from mobileclip_deploy.benchmark.report.table import columns, rows
from mobileclip_deploy.targets import get_target

UNITS = ("default", "cpuOnly", "preferCPU", "preferGPU", "preferNeuralEngine")


def test_a_phone_and_a_mac_run_it_on_each_choice_of_units_and_no_phone_of_others_does() -> None:
    target = get_target("coreai")
    for device in ("ios", "mac"):
        assert tuple(place.compute_units for place in target.places(device, {})) == UNITS
    assert target.places("android", {}) == ()
    assert [place.label for place in target.places("host", {})] == ["coreai"]


@pytest.fixture
def bundle(exports: Exports) -> Path:
    """nano's text tower, not verified: what answers is the stand-in."""
    require_coreai()
    return exports.unverified("coreai", "fp32", "text").path


@pytest.mark.slow
def test_bundles_of_both_frameworks_are_measured_in_one_run_and_a_wrong_unit_has_no_latency(
    bundle: Path, phone: FolderPhone, answers: list[dict[str, Any]], exports: Exports, tmp_path: Path
) -> None:
    phone.core_ml(
        answers=answers,
        inputs={"text": {"type": "int32", "shape": [1, 77]}},
        wrong=["nano_text.aimodel@gpu"],
        microseconds={"cpuOnly": 600, "neuralEngine": 100, "specialize": 5000},
    )
    both = (bundle, exports.bundle("coreml", "fp16").path)
    done = run("benchmark", *both, "--device", "ios", "--quick", "--tower", "text", "--json", tmp_path / "r.json")
    assert done.code == 1, done.stderr  # one cell answers wrongly
    assert "specialize, ms" in done.stdout
    result = read_result(tmp_path / "r.json")
    assert result.runtimes == {"coreml": "stand-in", "coreai": "stand-in"}
    own = [(cell, found) for cell, found in result.pairs() if cell.runtime == "coreai"]
    assert [cell.compute_units for cell, _ in own] == list(UNITS)
    status = {cell.compute_units: found.status for cell, found in own}
    assert status == dict.fromkeys(UNITS, "done") | {"preferGPU": "invalid"}
    for cell, found in own:
        assert found.specialization_ns is not None, cell.id
        assert found.specialization_ns >= 5_000_000
        assert [item.specialization_ns for item in found.rounds[1:]] == [None] * (len(found.rounds) - 1)
        assert found.load_first_ns is not None
    assert {found.specialization_ns for cell, found in result.pairs() if cell.runtime == "coreml"} == {None}
    place = columns(result).index("specialize, ms")
    assert [row[place].value is not None for row in rows(result)] == [True] * 5 + [False] * 4
    evidence = [one for one in neural_engine_use(result) if one.units == "preferNeuralEngine"]
    assert [(one.share, one.speedup is not None) for one in evidence] == [(None, True)]
