"""Shares, switches and comparison of packages, and what `lint` prints of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from targets.mil.programs import build, ct, save

from mobileclip_deploy.cli import cli
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.targets.mil import load
from mobileclip_deploy.targets.mil.lint.report import LintReport, compare
from mobileclip_deploy.targets.mil.lint.rules import lint


def lookup(mb: Any, x: Any) -> Any:
    """A gather from 10 x 4 (80 bytes) between nothing and two native ops, the second a linear of 4 x 2 (16 bytes)."""
    rows = mb.gather(x=np.ones((10, 4), np.float16), indices=x)
    return mb.linear(x=mb.relu(x=rows), weight=np.ones((2, 4), np.float16))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lint")
    build(path / "lookup.mlpackage", {"x": ((3,), "int32")}, lookup)
    build(path / "relu.mlpackage", {"x": ((1, 3), "float16")}, lambda mb, x: mb.relu(x=x))
    return path


def report(folder: Path, name: str, device: str = "a15") -> LintReport:
    return lint(load(folder / f"{name}.mlpackage", evaluate=False), device)


def test_shares_count_operations_and_the_bytes_of_their_weights(folder: Path) -> None:
    found = report(folder, "lookup")
    leaves, ready = found.share("leaves"), found.share("ready")
    assert (leaves.operations, leaves.of_operations) == (1, pytest.approx(1 / 3))
    assert leaves.weight_bytes >= 80
    assert leaves.of_bytes + ready.of_bytes == pytest.approx(1)
    assert found.switches == 1
    assert sum(share.operations for share in found.shares.values()) == len(found.operations)


def test_a_flexible_input_is_found_on_the_package(tmp_path: Path) -> None:
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import get_new_symbol

    @mb.program(input_specs=[mb.TensorSpec(shape=(get_new_symbol(), 3))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        return mb.relu(x=x)

    inputs = [ct.TensorType(name="x", shape=(ct.RangeDim(1, 8, default=1), 3))]
    found = lint(load(save(program, tmp_path / "flexible.mlpackage", inputs=inputs), evaluate=False), "m4")
    assert [finding.rule for finding in found.package_findings] == ["flexible-input"]
    assert found.found("flexible-shape")


def test_a_comparison_counts_statuses_and_rules_on_both_sides(folder: Path) -> None:
    both = compare(report(folder, "lookup"), report(folder, "relu"))
    counts = {change.name: (change.before.operations, change.after.operations) for change in both.statuses}
    assert counts == {"ready": (2, 1), "risk": (0, 0), "leaves": (1, 0)}
    assert {change.name for change in both.rules} == {"gather", "linear"}
    assert both.switches == (1, 0)


def test_an_unknown_device_is_refused_and_reports_of_different_ones_are_not_compared(folder: Path) -> None:
    with pytest.raises(UsageError, match="m1"):
        compare(report(folder, "relu", "m1"), report(folder, "relu", "a15"))
    with pytest.raises(UsageError, match="a14, a15"):
        report(folder, "relu", "a3")


def test_the_command_names_ops_and_addresses(folder: Path) -> None:
    result = CliRunner().invoke(cli, ["lint", str(folder / "lookup.mlpackage")])
    assert result.exit_code == 0, result.output
    assert "gather gather_0" in result.output
    assert "https://github.com/apple/coremltools/issues/1103" in result.output
    assert "Core ML decides on the device" in result.output


def test_the_command_gives_everything_as_json(folder: Path) -> None:
    paths = [str(folder / "lookup.mlpackage"), "--compare", str(folder / "relu.mlpackage")]
    result = CliRunner().invoke(cli, ["lint", *paths, "--device", "M1", "--json"])
    found = json.loads(result.output)
    assert [package["package"] for package in found["packages"]] == ["lookup.mlpackage", "relu.mlpackage"]
    assert found["packages"][0]["shares"]["leaves"]["operations"] == 1
    assert found["comparisons"][0]["device"] == "m1"
    assert found["packages"][0]["operations"][0]["findings"][0]["rule"] == "gather"


def test_packages_of_one_name_are_told_apart_by_their_folders(folder: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        shutil.copytree(folder / "relu.mlpackage", tmp_path / name / "relu.mlpackage")
    paths = [str(tmp_path / name / "relu.mlpackage") for name in ("one", "other")]
    result = CliRunner().invoke(cli, ["lint", paths[0], "--compare", paths[1]])
    assert "relu.mlpackage on a14" in result.output
    heading = next(line for line in result.output.splitlines() if "status or rule" in line)
    assert heading.split()[-2:] == ["one", "other"]
