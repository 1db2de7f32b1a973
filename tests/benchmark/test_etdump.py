"""Operator times of ExecuTorch, from its own trace."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import run
from exports import Exports

from mobileclip_deploy.benchmark.documents import read_result

pytest.importorskip("executorch", reason="needs executorch: pip install 'mobileclip-deploy[executorch]'")


def test_a_profile_of_a_pte_names_kernels_and_adds_up(exports: Exports, tmp_path: Path) -> None:
    bundle = exports.unverified("executorch", "fp32", "text").path
    options = ("--quick", "--tower", "text", "--seed", "1", "--profile", "--json", tmp_path / "result.json")
    found = run("benchmark", bundle, *options)
    assert found.code == 0, found.stderr
    (cell,) = read_result(tmp_path / "result.json").cells
    calls = {one.operator: one.calls for one in cell.profile}
    assert calls["Fully Connected (NC, F32) GEMM"] > 1
    assert calls["native_layer_norm.out"] == 5
    assert calls["embedding.out"] == calls["between operators"] == 1
    assert not {"DELEGATE_CALL", "OPERATOR_CALL", "Method::execute"} & set(calls)
    assert [one.total_ns for one in cell.profile] == sorted((one.total_ns for one in cell.profile), reverse=True)
    assert sum(one.total_ns for one in cell.profile) > 0
    assert "one inference by operator" in found.stdout
    assert "Fully Connected" in found.stdout
