"""Operator times of ExecuTorch, from its own trace."""

from pathlib import Path

import pytest
from command_line import run
from tiny import WORDS, known

import mobileclip_deploy as mcd
from mobileclip_deploy.benchmark.documents import read_result

pytest.importorskip("executorch", reason="needs executorch: pip install 'mobileclip-deploy[executorch]'")


@pytest.mark.slow  # a conversion with a profile's tables, 10 seconds
def test_a_profile_of_a_pte_names_kernels_and_adds_up(tmp_path: Path) -> None:
    options = ("--quick", "--tower", "text", "--seed", "1", "--profile", "--json", tmp_path / "result.json")
    with known(tmp_path) as checkpoint:
        model = mcd.load_model(WORDS, checkpoint)
        bundle = mcd.export(model, "executorch", "fp32", tmp_path, tower="text", verify=False)
        found = run("benchmark", bundle.path, *options)
    assert found.code == 0, found.stderr
    (cell,) = read_result(tmp_path / "result.json").cells
    calls = {one.operator: one.calls for one in cell.profile}
    assert calls["Fully Connected (NC, F32) GEMM"] > 1
    assert calls["native_layer_norm.out"] > 1
    assert calls["embedding.out"] == calls["between operators"] == 1
    assert not {"DELEGATE_CALL", "OPERATOR_CALL", "Method::execute"} & set(calls)
    assert [one.total_ns for one in cell.profile] == sorted((one.total_ns for one in cell.profile), reverse=True)
    assert sum(one.total_ns for one in cell.profile) > 0
    assert "one inference by operator" in found.stdout
    assert "Fully Connected" in found.stdout
