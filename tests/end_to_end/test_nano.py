"""The built-in checkpoint through the real command line: exported to every target, verified, used; and interrupted."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from command_line import run, spawn
from conversions import STORED
from exports import Exports
from programs import output

import mobileclip_deploy as mcd
from mobileclip_deploy.cli.tables import print_exports, relative
from mobileclip_deploy.export.steps import Written
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.parity import Gates, ParityReport
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.verify import chain
from mobileclip_deploy.verify.subject import Evidence, OpenedSubject, Subject


@pytest.fixture(scope="module", autouse=True)
def verified_once() -> Iterator[None]:
    """A bundle that is as it was has the report that it had."""
    reports: dict[tuple[str, str], ParityReport] = {}
    verify_subject = chain.verify_subject

    def verify(own: Subject) -> ParityReport:
        key = str(own.bundle.path), own.bundle.manifest.to_json()
        if key not in reports:
            reports[key] = verify_subject(own)
        return reports[key]

    with mock.patch.object(chain, "verify_subject", verify):
        yield


# `verify` measures accuracy on 1,911 images.
pytestmark = pytest.mark.usefixtures("stored_embeddings")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a newcomer's first command writes."""
    return exported(tmp_path_factory.mktemp("newcomer"))


def exported(folder: Path) -> Path:
    """The folder `out` of an export in a process of its own; what it converts others find."""
    found = spawn("export", "--target", "onnx", "-o", "out", "--quiet", cwd=folder, program=STORED)
    assert found.code == 0, found.stderr
    (line,) = found.stderr.splitlines()  # no chatter of converters
    assert line.startswith("Using the built-in checkpoint nano")
    rows = [row for row in found.stdout.splitlines() if "passed" in row]
    assert len(rows) == 2
    assert f"wrote {Path('out') / 'nano-onnx-fp16'}" in found.stdout
    return folder / "out"


def files(bundle: Path) -> dict[str, bytes]:
    return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}


def assert_verified(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    checks = json.loads((bundle / manifest["measurements"]).read_text(encoding="utf-8"))["checks"]
    assert {check["status"] for check in checks} == {"passed"}
    (task,) = [check for check in checks if check["step"] == "task"]
    assert all(abs(value) <= 0.5 for figure, value in task["figures"].items() if figure.endswith("_drop"))
    card = (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert manifest["checkpoint"]["licence"] in card
    assert manifest["embedding_space"] in card


def test_export_writes_a_verified_bundle(out: Path) -> None:
    assert [path.name for path in out.iterdir()] == ["nano-onnx-fp16"]
    assert_verified(out / "nano-onnx-fp16")


@pytest.mark.slow
def test_table_card_and_report_name_the_same_rows_for_both_towers(
    exports: Exports, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, model = exports.bundle("onnx", "fp16"), mcd.load_model(None, exports.checkpoint)
    mcd.reparameterize(model)
    checks = bundle.parity
    own = OpenedSubject(bundle, Evidence(Reference.read(bundle.golden)), Gates(), Path(), source=Source.of(model))
    storage = own.stored_weights
    report = ParityReport(bundle=bundle.path.name, variant="nano", target="onnx", checks=checks, storage=storage)
    print_exports([Written(bundle, report)])
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    for tower in ("image", "text"):
        steps = {check.step for check in checks if check.tower == tower}
        assert steps >= {"structure", "folded", "tower", "twin", "shipped", "weights"}
        (row,) = [row for row in table if tower in row[:2]]
        figures = [
            relative(check) for check in checks if (check.tower, check.step) in ((tower, "shipped"), (tower, "twin"))
        ]
        assert set(figures) <= set(row)
    card = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (bundle.path / "MODEL_CARD.md").read_text(encoding="utf-8").splitlines()
    ]
    rows = dict.fromkeys((one.tower, one.step, "passed") for one in checks)  # `padding` checks several kinds of ids
    assert [tuple(row) for row in card if row[-1] == "passed"] == [*rows]
    stored = [[one.tower, one.grid, str(one.layers), f"{one.weights:,}", f"{one.bytes:,}"] for one in storage]
    assert {one.tower for one in storage} == {"image", "text"}
    assert [row for row in card if len(row) == 5][2:] == stored


# Another number of threads, and another instruction set: sums are taken in another order.
ELSEWHERE = {"OMP_NUM_THREADS": "4", "ATEN_CPU_CAPABILITY": "avx2"}
AGAIN = """
import sys
import mobileclip_deploy as mcd
checkpoint, target, tower = sys.argv[1:]
mcd.export(mcd.load_model(None, checkpoint), target, "fp16", ".", tower=tower, verify=False)
"""


@pytest.mark.slow  # faults/test_reproduction.py; test_conformance.py writes twice
def test_exporting_again_elsewhere_gives_the_same_bytes(exports: Exports, tmp_path: Path) -> None:
    words = (AGAIN, exports.checkpoint, "onnx", "image")
    printed = output(sys.executable, "-c", *words, cwd=tmp_path, env=os.environ | ELSEWHERE)
    assert printed == ""  # no chatter of converters
    bundle = exports.unverified("onnx", "fp16", "image").path
    first, again = files(bundle), files(tmp_path / bundle.name)
    for found in (first, again):
        found.pop("parity.json", None)  # what each machine measured
    assert again.keys() == first.keys()
    assert [name for name in first if first[name] != again[name]] == []


LOCK = Path(__file__).parent / "parity.lock.json"
"""The accepted figures; after a change that is meant, and explained: verify BUNDLE --baseline LOCK --accept."""


def test_the_bundle_has_the_figures_last_accepted(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "nano-onnx-fp16"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    found = run("verify", out / name, "--baseline", LOCK, "--markdown", tmp_path / "parity.md")
    assert found.code == 0, found.stdout
    assert (tmp_path / "parity.md").read_text(encoding="utf-8").startswith(f"### {name}: parity passed")
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").startswith(f"### {name}: parity passed")
