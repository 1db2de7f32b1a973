"""A sweep makes every combination once, keeps what is done and every error, and refuses what it cannot follow."""

import hashlib
import importlib.metadata
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmark import documents
from command_line import refusal, run
from emoji_pairs import write_pairs
from safetensors.torch import load_file, save_file

import mobileclip_deploy as mcd
from mobileclip_deploy.base.files import file_sha256
from mobileclip_deploy.benchmark.driver import Listing
from mobileclip_deploy.benchmark.sweep import door, latency
from mobileclip_deploy.benchmark.sweep.cells import SweepCell, cell_memory, list_cells, record
from mobileclip_deploy.benchmark.sweep.result import Row, markdown
from mobileclip_deploy.benchmark.sweep.specification import CheckpointChoice, Specification, read_specification
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint
from mobileclip_deploy.network.model.variants import load_variant

SWEEP = """\
version = 1
targets = ["onnx"]
precisions = ["fp32"]
dataset = "mine"
device = "android:none"
"""


SMALL = 'version = 1\ntargets = ["onnx"]\nprecisions = ["w8a8"]\n'


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Dask is not installed: in this process."""
    monkeypatch.setitem(sys.modules, "distributed", None)


def write(folder: Path, text: str = SWEEP) -> Path:
    file = folder / "sweep.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.slow
@pytest.mark.usefixtures("here", "without_phones")
def test_what_failed_keeps_its_error_and_is_tried_again_and_what_is_done_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("sweep", write(tmp_path), "-o", tmp_path / "out")
    pairs = write_pairs(tmp_path / "mine", 12)
    (pairs / "dataset.json").write_text('{"name": "mine", "pairs": "pairs.jsonl"}')
    damaged = sorted(pairs.glob("*.png"))[0]
    whole = damaged.read_bytes()
    damaged.write_bytes(b"no picture")
    without = run(*command, "--json")
    assert without.code == 2
    (row,) = without.json["rows"]
    assert row["state"] == "error"
    assert str(tmp_path / "mine") in row["error"]["message"]
    assert without.stderr.splitlines()[-1].startswith('{"schema_version": 1, "error": ')

    damaged.write_bytes(whole)
    made = run(*command, "--json")
    (row,) = made.json["rows"]
    assert (row["state"], row["bundle"], row["variant"]) == ("passed", "nano/nano-onnx-fp32", "nano")
    assert (tmp_path / "out" / row["bundle"] / "manifest.json").is_file()
    assert min(row["cosine"].values()) > 0.9999
    assert row["drop"] == {"image_to_text_recall@1": 0}
    # The bundle is there; the phone is not, which ends the command as it would end `benchmark`.
    assert made.code == 3
    assert made.json["latency_error"]["message"] in json.loads(made.stderr.splitlines()[-1])["error"]["message"]

    monkeypatch.setattr(door, "make_cell", lambda *_: pytest.fail("made again"))
    again = run(*command)
    assert "wrote" in again.stdout
    assert "1 passed" in again.stdout
    table = (tmp_path / "out" / "sweep.md").read_text()
    assert "| nano | onnx | fp32 |" in table
    assert table in markdown(mcd.SweepResult.model_validate(made.json))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cells are made at once: their manifests say what of. Gives the contents of those that were made."""
    contents: list[str] = []

    def make(cell: SweepCell, folder: Path, one_thread: bool) -> Row:
        contents.append(cell.content)
        bundle = folder / cell.folder / "nano-onnx-fp32"
        bundle.mkdir(parents=True, exist_ok=True)
        (bundle / "manifest.json").write_text(json.dumps({"content": cell.content}), encoding="utf-8")
        found = {"state": "passed", "bundle": f"{cell.folder}/{bundle.name}", "bytes": len(contents)}
        return record(cell, cell.row.model_copy(update=found), folder)

    monkeypatch.setattr(door, "make_cell", make)
    return contents


@pytest.mark.usefixtures("here")
def test_a_recipe_gets_its_own_bundle_back_after_another_took_its_place(
    made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_file(builtin_checkpoint())
    for name, factor in (("a", 1.0), ("b", 1.5)):
        save_file({key: value * factor for key, value in first.items()}, tmp_path / f"{name}.safetensors")
    rows = []
    for name in ("a", "b", "a", "a"):
        text = SMALL + f'[checkpoints.mine]\nfile = "{name}.safetensors"\n'
        rows.append(mcd.sweep(write(tmp_path, text), tmp_path / "out").rows[0])
        manifest = json.loads((tmp_path / "out" / str(rows[-1].bundle) / "manifest.json").read_text())
        assert manifest["content"] == file_sha256(tmp_path / f"{name}.safetensors")
    assert len(made) == 3  # the last A is kept
    assert [row.bytes for row in rows] == [1, 2, 3, 3]
    # Another version of the runtime may write another file.
    installed = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0" if name == "onnx" else installed(name))
    assert mcd.sweep(write(tmp_path, text), tmp_path / "out").rows[0].bytes == 4


@pytest.mark.usefixtures("here")
def test_a_dataset_and_a_calibration_count_by_their_content(made: list[str], tmp_path: Path) -> None:
    def sweep(dataset: str, calibration: str) -> int:
        text = SMALL + f'dataset = "{dataset}"\ncalibration = "{calibration}"\n'
        mcd.sweep(write(tmp_path, text), tmp_path / "out")
        return len(made)

    pairs = write_pairs(tmp_path / "mine", 6)
    (pairs / "dataset.json").write_text('{"name": "mine", "pairs": "pairs.jsonl"}')
    shutil.copytree(pairs, tmp_path / "pictures")
    assert sweep("mine", "pictures") == 1
    for name in ("mine", "pictures"):
        shutil.move(tmp_path / name, tmp_path / f"{name}-moved")
    assert sweep("mine-moved", "pictures-moved") == 1
    pictures = sorted((tmp_path / "mine-moved").glob("*.png"))
    shutil.copy(pictures[0], pictures[1])
    assert sweep("mine-moved", "pictures-moved") == 2
    shutil.copy(pictures[0], tmp_path / "pictures-moved" / pictures[1].name)
    assert sweep("mine-moved", "pictures-moved") == 3


def test_every_combination_is_a_cell_and_what_there_is_not_is_said(tmp_path: Path) -> None:
    text = """\
version = 1
targets = ["onnx", "coreml"]
precisions = ["fp16", "w4p", "image=fp16,text=fp32"]
[checkpoints.first]
[checkpoints.second]
[options.plain]
[options.ios17]
deployment_target = "iOS17"
"""
    cells, notes = list_cells(read_specification(write(tmp_path, text)))
    named = [(cell.target, cell.precision, cell.named) for cell in cells if cell.checkpoint == "first"]
    assert named == [
        ("onnx", "fp16", "plain"),
        ("onnx", "image=fp16,text=fp32", "plain"),
        ("coreml", "fp16", "plain"),
        ("coreml", "w4p", "plain"),
        ("coreml", "image=fp16,text=fp32", "plain"),
        ("coreml", "fp16", "ios17"),
        ("coreml", "w4p", "ios17"),
        ("coreml", "image=fp16,text=fp32", "ios17"),
    ]
    assert len(cells) == 16
    assert notes == ["onnx has no w4p: left out."]
    assert len({cell.record for cell in cells}) == 16


def test_a_larger_checkpoint_is_expected_to_need_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def need(variant: str) -> int:
        choice = CheckpointChoice(variant=variant, download=True)
        return cell_memory(SweepCell("one", choice, variant, "onnx", "fp16", None, {}, None, None))

    nano, large = need("nano"), need("mobileclip2_l14")
    weights = load_variant("mobileclip2_l14").parameters_image + load_variant("mobileclip2_l14").parameters_text
    assert large - nano > 24 * (weights - 7_000_000)
    assert 4 * large > 24 * 10**9 > large  # four of them do not start on 24 GB


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version = 1\ntargets = [", "is not TOML"),
        ("version = 1", 'field targets is missing; for example `targets = ["onnx", "coreml"]`'),
        (SWEEP + 'precision = "w8"', "unknown field precision, did you mean precisions?; known: version, targets"),
        (SWEEP + '[checkpoints.a]\nfiel = "a.pt"', "unknown field checkpoints.a.fiel, did you mean file?; known: file"),
        (SWEEP + '[checkpoints."../a"]\n', "field checkpoints"),
        (SWEEP + '[checkpoints.a]\nfile = "a.pt"', "a.pt"),
        (SWEEP + '[checkpoints.a]\nfile = "hf:o/n"', "checkpoints.a: name its network, as in variant ="),
        (SWEEP.replace("onnx", "onxn"), "unknown target 'onxn'"),
        (SWEEP.replace("fp32", "fp31"), "unknown precision 'fp31'"),
        (SWEEP + '[options.a]\ndeployment_target = "iOS17"', "none of onnx has an option 'deployment_target'; known: "),
        (SWEEP.replace("fp32", "w4p"), "nothing is left to sweep over: onnx has no w4p: left out."),
        (SWEEP.replace("version = 1", "version = 2"), "field version: not 1"),
        (SWEEP, "no dataset folder or file at "),
        (SWEEP.replace("android:none", "androyd"), "unknown device 'androyd', did you mean android?; known: host"),
        (SWEEP + 'protocol = "paperr"', "unknown protocol 'paperr', did you mean paper?; known: standard"),
    ],
)
def test_a_file_that_cannot_be_followed_is_one_line_and_nothing_is_written(
    text: str, words: str, tmp_path: Path
) -> None:
    assert words in refusal(run("sweep", write(tmp_path, text), "-o", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists and is not a sweep; choose another output"):
        mcd.sweep(write(tmp_path), tmp_path)


def test_a_cell_that_failed_a_gate_or_has_no_bundle_decides_how_the_command_ends() -> None:
    row = Row(checkpoint="a", target="onnx", precision="w4", options=None)
    failed = row.model_copy(update={"state": "failed", "failures": ("text task",)})
    result = mcd.SweepResult(output="out", rows=(row.model_copy(update={"state": "passed"}), failed))
    assert result.failure.exit_code == 1
    assert result.failure.line == "FAILED its gate, but written and marked: a, onnx, w4 (text task)"
    assert mcd.SweepResult(output="out", rows=result.rows[:1]).failure is None
    undecided = mcd.SweepResult(output="out", rows=(row.model_copy(update={"state": "undecided"}),)).failure
    assert undecided.exit_code == 4
    assert undecided.line == "Written, but undecided: a, onnx, w4: too few pictures to tell."
    assert Specification(version=1, targets=("onnx",)).checkpoints == {"nano": CheckpointChoice()}


def test_latencies_of_a_quick_run_are_not_those_of_a_full_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = documents.result()
    done = tuple(cell for cell in result.cells if cell.status == "done")
    cells = tuple(cell for cell in result.job.cells if cell.id in {one.id for one in done})
    job = result.job.model_copy(update={"cells": cells})
    monkeypatch.setattr(latency, "read_result", lambda _: result.model_copy(update={"job": job, "cells": done}))
    monkeypatch.setattr(latency, "complete", lambda found: found)
    artifacts = frozenset((cell.tower, cell.sha256) for cell in cells)
    text = f'{SMALL}device = "{result.device.kind}"\n'
    full, quick = (read_specification(write(tmp_path, text + line)) for line in ("", "quick = true\n"))
    assert job.protocol.name == "standard-quick"
    ready: list[Listing] = []
    monkeypatch.setattr(latency, "get_driver", lambda _: SimpleNamespace(discover=lambda: ready))
    assert latency.earlier_result(tmp_path, quick, artifacts) is not None
    assert latency.earlier_result(tmp_path, full, artifacts) is None
    # Another phone of the same kind is measured itself; the same one is not measured again, whether it is there or not.
    (tmp_path / latency.DEVICE).write_text(hashlib.sha256(b"android:R58N").hexdigest() + "\n")
    for devices, reused in ((["R58N"], True), (["OTHER"], False), ([], True), (["R58N", "OTHER"], True)):
        ready[:] = [Listing(f"android:{serial}", "Galaxy", "ready") for serial in devices]
        assert (latency.earlier_result(tmp_path, quick, artifacts) is not None) is reused, devices
    for device, reused in (("R58N", True), ("OTHER", False)):
        named = quick.model_copy(update={"device": f"android:{device}"})
        assert (latency.earlier_result(tmp_path, named, artifacts) is not None) is reused, device
