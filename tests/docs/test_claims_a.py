"""What README and pages say and no other test holds: exit codes, locks, commands, workflows, grids, bounds."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import numpy as np
import pytest
import yaml
from command_line import refusal, run, strict_json
from conversions import ROOT
from tiny import tiny_variant
from torch import nn
from writing import chosen

import mobileclip_deploy as mcd
from mobileclip_deploy import errors
from mobileclip_deploy.bundle.model_card import model_card
from mobileclip_deploy.cli import cli, ending
from mobileclip_deploy.export.plan import ExportRequest, choose
from mobileclip_deploy.folding import fold
from mobileclip_deploy.model.architecture import build_model
from mobileclip_deploy.model.precision import PRECISIONS
from mobileclip_deploy.model.variants import TOWERS, TowerName, load_variant, variant_names
from mobileclip_deploy.parity import Bound, Check, Gates, ParityLock, ParityReport, check_drift
from mobileclip_deploy.parity.baseline import LockedBundle, Tolerances
from mobileclip_deploy.progress import Lines
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.coreai import compression
from mobileclip_deploy.targets.coreai.storage import storage as coreai_storage
from mobileclip_deploy.targets.coreai.target import CoreAITarget
from mobileclip_deploy.targets.coreml.recipes import RECIPES
from mobileclip_deploy.targets.depthwise import RowBands
from mobileclip_deploy.targets.executorch.backends import BACKENDS
from mobileclip_deploy.targets.executorch.backends.xnnpack import XnnpackBackend
from mobileclip_deploy.targets.executorch.doubling import Apart
from mobileclip_deploy.targets.executorch.options import ExecuTorchOptions
from mobileclip_deploy.targets.integers import SHARES as INT4_SHARES
from mobileclip_deploy.targets.onnx import sensitivity
from mobileclip_deploy.targets.ranges import PERCENTILE
from mobileclip_deploy.targets.storage import Layer, Storage, layers
from mobileclip_deploy.targets.values import Form
from mobileclip_deploy.towers import make_tower
from mobileclip_deploy.towers.calibration import LIMIT
from mobileclip_deploy.towers.head import read_head
from mobileclip_deploy.verify import checks, several
from mobileclip_deploy.verify.reproduction import check_reproduced
from mobileclip_deploy.verify.several import accept_baseline

DOCS = ROOT / "docs"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def test_kinds_and_exit_codes_are_those_of_the_page() -> None:
    table = re.findall(r"^\| (\d+) \| (`.+?`) \|", (DOCS / "ci.md").read_text(encoding="utf-8"), re.MULTILINE)
    told = {kind: int(code) for code, kinds in table for kind in re.findall(r"`(\w+)`", kinds)}
    classes = [getattr(errors, name) for name in errors.__all__ if name[0].isupper()]
    classes = [*classes, ending.Interrupted, ending.Terminated]
    assert told == {one.kind: one.exit_code for one in classes if one is not errors.MobileClipDeployError}


def test_the_example_of_an_error_is_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.safetensors").write_text("mine")
    found = run("reparameterize", "-o", "a.safetensors", "--json")
    (example,) = re.findall(r"```json\n(.*?)```", (DOCS / "ci.md").read_text(encoding="utf-8"), re.DOTALL)
    assert strict_json(found.stderr.splitlines()[-1].replace("a.safetensors", "a.onnx")) == json.loads(example)


def test_refused_is_worse_than_failed_and_failed_than_not_run() -> None:
    failures: list[errors.MobileClipDeployError] = [
        errors.Undecided("too few"),
        errors.NotRun("no runtime"),
        errors.GateFailed("far"),
        errors.InvalidInput("damaged"),
    ]
    while failures:
        found = several.worst([several.Refused(Path(one.kind), one) for one in (*failures, errors.Undecided("here"))])
        assert found is not None
        assert found.exit_code == max(failures, key=lambda one: (4, 3, 1, 2).index(one.exit_code)).exit_code
        failures.pop()


def test_what_did_not_pass_is_not_accepted(tmp_path: Path) -> None:
    check = Check(step="shipped", tower="image", status="failed")
    report = ParityReport(bundle="b", variant="nano", target="onnx", checks=(check,))
    with pytest.raises(errors.GateFailed, match="not accepted"):
        accept_baseline(cast(Any, None), report, tmp_path / "parity.lock.json")
    assert list(tmp_path.iterdir()) == []


def test_the_tolerances_in_a_lock_file_are_those_that_count() -> None:
    told = json.loads(ParityLock().to_json())["tolerances"]
    assert told == {
        "deviation_factor": 1.5,
        "deviation_floor": 3e-6,
        "snr_db": 2,
        "snr_exact": 100,
        "points": 0.3,
        "bytes": 0.01,
    }
    accepted, today = (
        LockedBundle(checkpoint_sha256="a", checks={"image shipped": {"relative": value}}, bytes={"image": 1})
        for value in (1e-3, 2e-3)
    )
    for factor, status in ((1.5, "failed"), (2.5, "passed")):
        lock = ParityLock(tolerances=Tolerances(deviation_factor=factor)).accept("it", accepted)
        assert {check.status for check in check_drift("it", today, lock)} == {status}


def test_the_summary_of_a_step_is_appended_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    refused = several.Refused(tmp_path / "bundle", errors.InvalidInput("damaged"))
    monkeypatch.setattr(several, "verify_bundles", lambda *_, **__: [refused])
    monkeypatch.setattr(mcd.Bundle, "unread", lambda _: None)
    assert run("verify", tmp_path / "bundle").code == 2
    told = summary.read_text(encoding="utf-8")
    assert told.startswith("before\n### bundle: could not be verified\n\ndamaged\n")


def test_a_stage_is_told_again_every_15_seconds() -> None:
    written, now = list[str](), [0.0]
    lines = Lines(written.append, clock=lambda: now[0])
    lines("converting")
    for now[0], told in ((14.9, 1), (15, 2), (29, 2), (30, 3)):
        lines.remind()
        assert len(written) == told


def test_a_second_sigterm_ends_a_process_at_once() -> None:
    program = """
import time
from mobileclip_deploy.cli.ending import SigTerm, ended_by_sigterm
with ended_by_sigterm():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except SigTerm:
        print("cleaning", flush=True)
        time.sleep(60)
"""
    running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert running.stdout is not None
    for line in ("ready\n", "cleaning\n"):
        assert running.stdout.readline() == line
        running.send_signal(signal.SIGTERM)
    assert running.wait(30) == -signal.SIGTERM
    running.stdout.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_blocks_have_the_options_that_they_are_given(page: Path) -> None:
    blocks = re.findall(r"```\w*\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    for line in lines:
        _, found, rest = line.partition("mobileclip-deploy ")
        if not found or "=" in line.split("mobileclip-deploy ")[0]:
            continue
        words = shlex.split(rest.split(" >> ")[0], comments=True)
        if words[0].isupper():
            continue
        command = cli.commands[words[0]]
        options = {option for one in command.get_params(click.Context(command)) for option in one.opts}
        assert [word for word in words if word.startswith("-") and word not in {*options, "-"}] == [], line


def jobs() -> list[tuple[str, str, dict[Any, Any], dict[str, Any]]]:
    """Every job of a workflow: the file's name, the job's, the file and the job."""
    files = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in WORKFLOWS}
    return [(name, job, file, file["jobs"][job]) for name, file in files.items() for job in file["jobs"]]


def test_workflows_may_read_alone_but_for_the_job_that_attaches_to_a_tag() -> None:
    writing = [(name, job) for name, job, _, own in jobs() if "write" in own.get("permissions", {}).values()]
    assert writing == [("android.yml", "release")]
    for name, job, file, own in jobs():
        assert file["permissions"] == {"contents": "read"}
        assert file[True]["push"]["branches"] == ["main"]  # `on` is a truth value to YAML
        if (name, job) == ("android.yml", "release"):
            assert own["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert not any("secrets." in path.read_text(encoding="utf-8") for path in WORKFLOWS)


def test_actions_are_pinned_to_commits_and_results_are_kept() -> None:
    for name, job, _, own in jobs():
        used = [step["uses"] for step in own["steps"] if "uses" in step]
        assert [one for one in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", one)] == [], (name, job)
    kept = {name for name, _, _, own in jobs() if any("upload-artifact" in str(step) for step in own["steps"])}
    assert kept == {path.name for path in WORKFLOWS} == {"linux.yml", "macos.yml", "android.yml"}


def test_workflows_do_what_the_page_says_where_it_says() -> None:
    where: dict[tuple[str, str], tuple[Any, Any, str]] = {
        (name, job): (own["runs-on"], own.get("container"), str(own["steps"])) for name, job, _, own in jobs()
    }
    _, container, steps = where["linux.yml", "everything"]
    assert (container["image"], ".ci/run" in steps) == ("debian:13", True)
    system, _, steps = where["macos.yml", "core-ml"]
    assert system == where["macos.yml", "app"][0] == "macos-15"
    for part in ("swift test", "-swift-version -Xswiftc 5", "verify out/nano-coreml-fp16", "--device mac --quick"):
        assert part in steps
    for part in ("CODE_SIGNING_ALLOWED=NO", "simulator_start.sh"):
        assert part in where["macos.yml", "app"][2]
    assert where["android.yml", "runners"][1] == "debian:13"
    system, _, steps = where["android.yml", "emulator"]
    assert (system, "x86_64" in steps, "--device android --quick" in steps) == ("ubuntu-24.04", True, True)
    assert "MOBILECLIP_ANDROID_RUNNERS=ready PYTHONPATH=ready mobileclip-deploy benchmark" in steps
    assert "am instrument -w -r org.mobileclipdeploy.farm.test/org.mobileclipdeploy.farm.FarmRunner" in steps
    assert "assemble.py --machine x86_64" in where["android.yml", "runners"][2]
    assert "android_harness/farm/build.py job/*" in where["android.yml", "runners"][2]


def test_versions_on_the_pages_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: " ".join(lines) for name, lines in project["optional-dependencies"].items()}
    texts = {page.stem: page.read_text(encoding="utf-8") for page in PAGES}
    assert project["requires-python"] == ">=3.11"
    assert "Python 3.11 or newer" in texts["README"]
    assert f"./mobileclip_deploy-{project['version']}-py3-none-any.whl[onnx,coreml]" in texts["ci"]
    assert (extras["coreml"], "coremltools 9.0 is what the `coreml` extra" in texts["coreml"]) == (
        "coremltools==9.0",
        True,
    )
    for name, version in re.findall(r"(coreai-\w+) ([\w.]+)[,:]", texts["coreai"].partition("pre-releases")[0]):
        assert f"{name}=={version}" in extras["coreai"]
    assert "coreai" in extras["all"]


def test_default_precisions_are_those_of_the_page() -> None:
    names = ("onnx", "coreml", "executorch", "executorch-coreml")
    assert [get_target(name).default_precision for name in names] == ["fp16", "fp16", "fp32", "fp16"]


def test_backends_have_the_precisions_of_the_page() -> None:
    xnnpack = BACKENDS["xnnpack"]
    have = {
        tower: {name for name in xnnpack.precisions if (tower, name) not in xnnpack.refused}
        for tower in ("image", "text")
    }
    assert have == {"image": {"fp32", "w8a8"}, "text": {"fp32", "w8a8", "w8", "w4"}}
    assert BACKENDS["coreml"].precisions == BACKENDS["vulkan"].precisions == ("fp16", "fp32")
    assert [name for name, one in BACKENDS.items() if one.static_shapes is None] == ["xnnpack"]


def test_a_classifiers_gates_are_those_of_the_page() -> None:
    gates = Gates()
    assert gates.exact(1e-7, probabilities=True) == Bound("probabilities", 0.001)
    wanted = {"fp32": 0.001, "fp16": 0.02, "w8": 0.1, "w8a8": 0.2, "w6p": 0.2, "w4p": 0.2, "w4": 0.2}
    assert {name: gates.shipped(name, probabilities=True).value for name in wanted} == wanted


def test_calibration_and_searches_have_the_numbers_of_the_pages() -> None:
    assert (LIMIT, PERCENTILE, sensitivity.WANTED) == (128, 99.99, 0.99)
    assert list(sensitivity.SHARES) == [0, 0.05, 0.1, 0.2, 0.35, 0.5]
    assert len(compression.SHARES) == 13
    assert len(INT4_SHARES) == 48


def tower(name: TowerName) -> nn.Module:
    """A small tower, folded, with layers of every kind."""
    model = build_model(tiny_variant("tiny_mci"))
    fold(model)
    return make_tower(model, name)


def stored(target: str, name: TowerName, precision: str, **options: str) -> list[tuple[Layer, Any]]:
    """The layers of a small tower, and how each is stored."""
    module = tower(name)
    found: Storage = (
        coreai_storage(module, precision)
        if target == "coreai"
        else chosen(target, **options).storage(name, module, precision)
    )
    return [(layer, found[layer.parameter]) for layer in layers(module) if layer.module is not None]


QUANTIZED = [
    ("coreml", "w8"),
    ("coreml", "w6p"),
    ("coreml", "w4p"),
    ("coreai", "w8"),
    ("coreai", "w4p"),
    ("onnx", "w4"),
]


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize(("target", "precision"), [*QUANTIZED, ("coreai", "w4"), ("onnx", "w8")])
def test_every_weight_of_more_than_2048_numbers_is_on_a_grid(target: str, precision: str, name: TowerName) -> None:
    found = stored(target, name, precision)
    assert {layer.weight.numel() > 2048 for layer, _ in found} == {True, False}
    for layer, grid in found:
        assert (grid.kind != "float") == (layer.weight.numel() > 2048), layer.name


@pytest.mark.parametrize(
    ("target", "precision", "options"),
    [
        ("coreml", "w4p", {}),
        ("coreml", "w4p", {"deployment_target": "iOS18"}),
        ("coreml", "w4", {"deployment_target": "iOS18"}),
        ("coreml", "w4p-p50", {"deployment_target": "iOS18"}),
        ("coreai", "w4p", {}),
        ("coreai", "w6p", {}),
        ("coreai", "w4", {}),
    ],
)
def test_depthwise_convolutions_and_the_main_path_keep_8_bits(
    target: str, precision: str, options: dict[str, str]
) -> None:
    found = stored(target, "image", precision, **options)
    large = [(layer, grid) for layer, grid in found if layer.weight.numel() > 2048]
    kept = [layer.name for layer, grid in large if grid.bits == 8]
    assert any(layer.is_projection for layer, grid in found if grid.bits >= 8)
    for layer, grid in found:
        main = layer.name == "projection" or layer.name.startswith("stem.") or ".downsample." in layer.name
        depthwise = isinstance(layer.module, nn.Conv2d) and layer.module.groups == layer.module.in_channels > 1
        assert grid.bits >= 8 or not (main or depthwise), layer.name
    assert len(kept) < len(large)


def test_core_ml_has_a_table_a_weight_before_ios_18_and_one_for_32_outputs_since() -> None:
    old, new = (stored("coreml", "image", "w4p", deployment_target=f"iOS{number}") for number in (17, 18))
    assert {grid.group for _, grid in old if grid.kind == "table"} == {None}
    tables = [(layer, grid) for layer, grid in new if grid.kind == "table"]
    assert tables
    for layer, grid in tables:
        assert grid.group == next(size for size in (32, 16, 8) if layer.outputs % size == 0)


def test_the_table_of_words_has_int4_in_blocks_of_16_on_core_ai_and_onnx() -> None:
    for target, precision in (("coreai", "w4p"), ("coreai", "w4"), ("onnx", "w4")):
        ((_, grid),) = [one for one in stored(target, "text", precision) if one[0].is_table]
        assert (grid.kind, grid.bits, grid.block, grid.scale_bytes) == ("integers", 4, 16, 2)
    blocks = {grid.block for layer, grid in stored("onnx", "text", "w4") if grid.bits == 4 and not layer.is_table}
    assert blocks == {32}


def test_embeddings_are_not_normalised() -> None:
    model = build_model(load_variant("nano"))
    image = mcd.load_runner(model, "image")(np.full((1, 3, 64, 64), 0.5, np.float32))
    text = mcd.load_runner(model, "text")(mcd.tokenize(["a cat"]))
    assert all(abs(np.linalg.norm(one) - 1) > 1e-2 for one in (image, text))


def test_all_packaged_variants_have_one_vocabulary() -> None:
    specs = [spec for name in variant_names() if (spec := load_variant(name).tokenizer) is not None]
    assert len({spec.model_dump_json() for spec in specs}) == 1


def test_a_card_of_research_weights_says_that_they_must_not_be_redistributed() -> None:
    checkpoint = SimpleNamespace(file="x", sha256="0", layout="apple", licence="Apple's", research_only=True)
    spec = load_variant("mobileclip_s0").preprocess
    manifest = SimpleNamespace(
        variant="mobileclip_s0",
        target="onnx",
        checkpoint=checkpoint,
        embedding_space="x",
        towers={},
        classifier=None,
        preprocess=spec,
        tokenizer=load_variant("mobileclip_s0").tokenizer,
        options={},
        measurements=None,
        template="a {}",
        logit_scale=1.0,
        embed_dim=2,
    )
    assert "must not be redistributed" in model_card(cast(Any, manifest))
    checkpoint.research_only = False
    assert "must not be redistributed" not in model_card(cast(Any, manifest))
    own = [name for name in variant_names() if name.startswith("mobileclip")]
    assert all(load_variant(name).licence.research_only for name in own)


def test_as_many_kinds_of_faults_are_planted_as_the_pages_say() -> None:
    for name, kind, count in (("faults", "Fault", 72), ("coreai_faults", "Edit", 47)):
        text = (ROOT / "tests" / "faults" / f"{name}.py").read_text(encoding="utf-8")
        (table,) = re.findall(r"^FAULTS[^\n]*\((.*?)^\)", text, re.MULTILINE | re.DOTALL)
        assert len(re.findall(rf"^    {kind}\(", table, re.MULTILINE)) == count


def test_a_grey_array_is_an_image() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (80, 70)).astype(np.uint8)
    found = mcd.preprocess(grey, "nano")
    assert np.array_equal(found, mcd.preprocess(np.stack([grey] * 3, axis=2), "nano"))
    assert 0 <= found.min() < found.max() <= 1


def test_errors_are_of_one_kind_with_remedies_in_pythons_words(tmp_path: Path) -> None:
    kinds = [getattr(errors, name) for name in errors.__all__ if name[0].isupper()]
    assert all(issubclass(kind, mcd.MobileClipDeployError) for kind in kinds)
    calls: list[Any] = [
        lambda: mcd.inspect(tmp_path / "gone"),
        lambda: mcd.load_model("nanoo"),
        lambda: mcd.load_runner(tmp_path, "image"),
        lambda: mcd.preprocess([], "nano"),
        lambda: mcd.export(mcd.load_model(), "onxn", output=tmp_path),
    ]
    for call in calls:
        with pytest.raises(mcd.MobileClipDeployError) as refused:
            call()
        assert type(refused.value) in kinds
        assert "\n" not in str(refused.value)
    assert mcd.tokenize(["a", "b"]).dtype == np.int64


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table behind a heading, without its own heading; marks of code are left out."""
    _, _, rest = (DOCS / f"{page}.md").read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    (table,) = re.findall(r"^\|.*?(?=\n\n)", rest.partition("\n## ")[0] + "\n\n", re.MULTILINE | re.DOTALL)[:1]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def gate(text: str) -> tuple[str, float]:
    return ("relative", float(text.rpartition(" ")[2])) if text.startswith("relative") else ("cosine", float(text))


def test_core_ml_needs_the_systems_and_holds_the_gates_of_the_table() -> None:
    table = {name: (needs, gate(bound)) for name, _, needs, bound in rows("coreml", "Precisions")}
    assert table == {
        name: (recipe.oldest, (PRECISIONS[name].metric, PRECISIONS[name].gate)) for name, recipe in RECIPES.items()
    }
    assert set(table) == set(get_target("coreml").precisions)


def test_core_ai_has_the_precisions_and_gates_of_the_table() -> None:
    table = {name: gate(bound) for name, _, bound in rows("coreai", "Precisions")}
    assert table == {name: (PRECISIONS[name].metric, PRECISIONS[name].gate) for name in CoreAITarget.precisions}


def test_litert_has_the_precisions_and_gates_of_the_table() -> None:
    target = get_target("litert")
    table = {name: gate(bound) for name, _, _, bound in rows("litert", "Precisions")}
    assert table == {name: (PRECISIONS[name].metric, PRECISIONS[name].gate) for name in target.precisions}


def test_onnx_files_are_named_and_asked_for_as_the_table_says() -> None:
    table = {
        name.partition(" ")[0]: (file, dtype) for name, file, dtype, *_ in rows("onnx", "Precisions and file names")
    }
    dtypes = {"fp32": "fp32", "fp16": "fp16", "w8": "int8", "w8a8": "q8", "w4": "q4"}  # the client's own names
    assert {name: dtype for name, (_, dtype) in table.items()} == dtypes
    suffixes = mcd.read_layout("transformers.js").suffixes
    target, variant = get_target("onnx"), load_variant("nano")
    for name, (file, _) in table.items():
        for part, stem in {"image": "vision_model", "text": "text_model", "classifier": "classifier"}.items():
            assert target.artifact_name(variant, part, name) == f"onnx/{stem}{suffixes[name]}.onnx"
        assert file.endswith(f"{suffixes[name]}.onnx")
    _, result = target.ports(variant, "image", Form(labels=5))
    assert (result.name, result.dtype, result.shape[-1]) == ("probabilities", "float32", 5)


@pytest.mark.parametrize(
    ("target", "precisions"), [("onnx", ("w6p", "w4p", "w4p-p50")), ("coreai", ("w8a8", "w4p-p50"))]
)
def test_precisions_that_a_target_lacks_are_refused(target: str, precisions: tuple[str, ...]) -> None:
    for name in precisions:
        with pytest.raises(errors.UsageError, match=f"{target} has no precision {name}; it has"):
            get_target(target).require({"image": name})


def test_all_leaves_out_what_is_not_installed_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, package=None: None if name == "coreai_torch" else find(name, package)
    )
    found = choose(ExportRequest(("all",), ("fp32",)))
    assert "coreai" not in [target.name for target, _ in found.pairs]
    (note,) = [note for note in found.notes if "coreai" in note]
    assert note.startswith("Left out: target coreai needs coreai_torch; type: pip install 'mobileclip-deploy[coreai]'")
    assert "wheels for Linux x86-64 (glibc 2.34 or newer) and macOS 26 on arm64, CPython 3.11 to 3.14" in note


def test_quick_checks_leave_out_twin_task_and_reproduced_and_say_so() -> None:
    manifest = SimpleNamespace(towers={"image": SimpleNamespace(precision="fp16")})
    own: Any = SimpleNamespace(
        bundle=SimpleNamespace(manifest=manifest, path=Path("b")),
        evidence=SimpleNamespace(task=None, sampled=None),
        gates=Gates(),
        source=object(),
        target=lambda _: None,
        stages=None,
        thorough=False,
        complete=True,
    )
    found = [checks._twin(own, "image", Gates().exact(None)), *checks.check_task(own), *check_reproduced(own, "image")]
    assert [(check.step, check.left_out) for check in found] == [("twin", True), ("task", True), ("reproduced", True)]
    assert {check.detail for check in found} == {"left out of the quick checks"}


def test_make_lint_holds_the_workflows_to_their_schema_and_to_zizmor() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    (schema,) = [line for line in recipe.splitlines() if "check-jsonschema" in line]
    assert "vendor.github-workflows" in schema
    assert [path.name for path in WORKFLOWS if f".github/workflows/{path.name}" not in schema] == []
    assert "zizmor --offline --quiet .github/workflows" in recipe


def test_no_fast_depthwise_leaves_kernels_whole() -> None:
    module = build_model(tiny_variant("tiny_mci")).eval()
    fold(module)
    image = make_tower(module, "image")
    for fast in (True, False):
        job: Any = SimpleNamespace(module=image, options=ExecuTorchOptions(fast_depthwise=fast))
        written = XnnpackBackend().authored(job)
        for kind in (RowBands, Apart):
            assert any(isinstance(module, kind) for module in written.modules()) is fast


def test_a_classifiers_folder_is_called_so(tmp_path: Path) -> None:
    taken = tmp_path / "nano-onnx-fp16-classifier"
    taken.mkdir()
    (taken / "manifest.json").write_text("{}")
    line = refusal(run("export", "--target", "onnx", "--labels", "pizza,rocket,tree", "-o", tmp_path))
    assert f"{taken} exists" in line


def test_on_onnx_the_product_with_a_classifiers_labels_stays_in_float() -> None:
    model = build_model(load_variant("nano")).eval()
    fold(model)
    module = read_head([f"label {number}" for number in range(20)]).module(model, "image")
    (own,) = [layer.parameter for layer in layers(module) if layer.module is None]
    for target, kind in (("onnx", "float"), ("coreml", "integers")):
        assert get_target(target).storage("image", module, "w8")[own].kind == kind
    assert get_target("executorch").artifact_name(model.variant, "image", "fp32") == "nano_image.xnnpack.pte"
    assert get_target("executorch").output_info(model.variant, "image", 20).shape == (1, 20)
