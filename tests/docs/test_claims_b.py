"""Sentences of pages on proof, data, benchmarks and training that no other test covers: bounds, defaults, tables."""

from __future__ import annotations

import ast
import json
import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmark import documents
from conversions import ROOT
from evaluation.datasets import image
from evaluation.embedders import by_colour
from PIL import Image
from safetensors.torch import load_file
from tiny import tiny_variant

from mobileclip_deploy.benchmark.android.settings import AndroidSettings
from mobileclip_deploy.benchmark.cells import _loosest
from mobileclip_deploy.benchmark.driver import get_driver
from mobileclip_deploy.benchmark.ios import devices, following, job_folder, phone
from mobileclip_deploy.benchmark.ios.driver import IosDriver
from mobileclip_deploy.benchmark.job import Job
from mobileclip_deploy.benchmark.judgement import cell_warnings, run_warnings
from mobileclip_deploy.benchmark.neural_engine import Evidence
from mobileclip_deploy.benchmark.protocol import PROTOCOLS, get_protocol, quick
from mobileclip_deploy.benchmark.result import Result, RoundResult, Summary
from mobileclip_deploy.benchmark.statistics import summarize, trend
from mobileclip_deploy.errors import RuntimeFailed
from mobileclip_deploy.evaluation import measure, read_dataset
from mobileclip_deploy.evaluation.metrics import BLOCK, RESAMPLES
from mobileclip_deploy.learning.reinforcement.augmentation import PARAMETERS, AugmentationPolicy
from mobileclip_deploy.learning.reinforcement.shards import Shard, write_shard
from mobileclip_deploy.learning.training.recipe import read_recipe
from mobileclip_deploy.mil.lint import RULES, Rule
from mobileclip_deploy.mil.lint.rules import PACKAGE_RULES
from mobileclip_deploy.model.architecture import build_model
from mobileclip_deploy.model.precision import PRECISIONS, parse_precisions, precision_label
from mobileclip_deploy.parity import Bound, Deviation, Gates
from mobileclip_deploy.parity.gates import passes
from mobileclip_deploy.parity.metrics import compare
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.graph import changed_constant
from mobileclip_deploy.targets.storage import Grid, as_float
from mobileclip_deploy.towers.inputs import Inputs
from mobileclip_deploy.verify import activations, graph, rounded
from mobileclip_deploy.verify.weights import Matched

DOCS, BENCHMARKS = ROOT / "docs", ROOT / "benchmarks"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_bounds_of_written_files() -> None:
    cosines = {name: recipe.gate for name, recipe in PRECISIONS.items() if recipe.metric == "cosine"}
    assert (cosines.pop("fp16"), cosines.pop("w8"), set(cosines.values())) == (0.999, 0.99, {0.98})
    for scale, passed in ((0.79, False), (0.8, True), (1.25, True), (1.26, False)):
        found = Deviation(relative=0, cosine=1, snr_db=0.0, scale=scale, inputs=1)
        assert passes(found, Bound("cosine", 0.98)) is passed


def test_bounds_of_the_graph() -> None:
    assert graph.HALF_LEAST == 1e-4
    assert graph.HALF_FLOORS == 100
    assert Bound("cosine", 0.999) == graph.CALIBRATED == activations.COSINE
    assert (activations.OFF, activations.WIDTH, activations.ZERO, rounded.TIE) == (0.01, 0.01, 0.75, 0.05)


@pytest.mark.parametrize(("half", "off", "right"), [(False, 0.9e-6, True), (False, 2e-6, False), (True, 2e-6, True)])
def test_bounds_of_a_weight(half: bool, off: float, right: bool) -> None:
    numbers = np.full((2, 4), 0.5, np.float32)
    numbers[0, 0] = 1
    match = Matched("a", numbers, as_float("a", numbers + np.float32(off)), "plain")
    assert (match.wrong(Grid(32), half) is None) is right
    beyond = Matched("a", numbers, as_float("a", numbers * np.float32(1 + 3 * 2**-10 + 2**-14)), "plain")
    assert beyond.wrong(Grid(32), True) is not None


@pytest.mark.parametrize(
    ("dtype", "factor", "same"),
    [("int8", 2, False), ("float32", 1 + 5e-7, True), ("float32", 1 + 3e-6, False), ("float16", 1 + 2**-10, True)],
)
def test_bounds_of_a_constant(dtype: str, factor: float, same: bool) -> None:
    wanted = np.ones((8, 8), dtype)
    written = wanted.copy()
    written[3, 3] = wanted[3, 3] * factor
    assert (changed_constant(written, wanted) is None) is same
    row = wanted.copy()
    row[0] = 2
    assert changed_constant(row, wanted) is not None


def test_reference_answers_are_float64_rounded_and_the_floor_is_what_float32_is_off() -> None:
    torch.manual_seed(0)
    model = build_model(tiny_variant("tiny_patch")).eval()
    pixels, ids = np.random.default_rng(0).random((2, 3, 64, 64), np.float32), np.array([[90, 5, 91, 0, 0, 0, 0, 0]])
    found = Reference.compute(model, Inputs(("a", "b"), ("c",), pixels, ids))
    assert model.text is not None
    with torch.no_grad():
        single = model.text(torch.from_numpy(ids)).numpy()
        exact = model.double().text(torch.from_numpy(ids)).numpy()  # type: ignore[misc]
    np.testing.assert_array_equal(found.of("text"), exact.astype(np.float32))
    assert found.floor["text"] == pytest.approx(compare(exact, single).relative)


def entries(file: str, name: str) -> int:
    """How many elements the tuple or dictionary `name` of a file of faults is written with."""
    for node in ast.parse((ROOT / "tests" / "faults" / file).read_text(encoding="utf-8")).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(one, ast.Name) and one.id == name for one in targets):
            value = getattr(node, "value", None)
            assert isinstance(value, ast.Tuple | ast.List | ast.Dict)
            return len(value.keys if isinstance(value, ast.Dict) else value.elts)
    raise AssertionError(f"{file} has no {name}")


def test_numbers_of_faults_and_harmless_edits() -> None:
    text = " ".join(page("proof.md").partition("## The table of faults")[2].split())
    told = re.search(
        r"(\d+) in Core ML packages .*?(\d+) in ONNX files .*?about (\d+) in ExecuTorch .*?(\d+) in Core AI assets .*?"
        r"(\d+) in LiteRT files .*?(\d+) in what stands beside them; and "
        r"(\d+), (\d+), (\d+), (\d+), (\d+) and (\d+) harmless edits",
        text,
    )
    assert told is not None
    targets = ("onnx", "executorch", "coreai", "litert")
    files = (*(f"{target}_faults.py" for target in targets), "test_companion_faults.py")
    faults = [entries("faults.py", "FAULTS"), *(entries(file, "FAULTS") for file in files)]
    harmless = [entries("harmless.py", "EDITS"), *(entries(file, "HARMLESS") for file in files)]
    assert [int(number) for number in told.groups()] == faults + harmless


def test_every_fault_of_core_ml_packages_has_its_row() -> None:
    """Those that packages in float32 and float16 can have."""
    (faults,) = [
        node.value
        for node in ast.parse((ROOT / "tests" / "faults" / "faults.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FAULTS"
    ]
    assert isinstance(faults, ast.Tuple)
    wanted = []
    for call in faults.elts:
        assert isinstance(call, ast.Call)
        needs = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}.get("needs")
        if needs in (None, "softmax"):
            wanted.append((ast.literal_eval(call.args[1]), ast.literal_eval(call.args[0])))
    rows = between(page("neural-engine.md"), "## What the gates catch", "\n## ").splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:3]] for line in rows if line.startswith(("| image", "| text"))]
    assert [tuple(pair) for pair in cells] == wanted


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # scripts there import one another
    return runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name=name)


def between(text: str, begin: str, end: str) -> str:
    return text.partition(begin)[2].partition(end)[0].strip()


def test_the_page_of_precisions_is_what_its_script_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    own = script("precisions", monkeypatch)
    rows = json.loads(own["TABLE"].read_text(encoding="utf-8"))["rows"]
    assert page("precisions.md") == own["page"](rows), "type: python benchmarks/precisions.py --page-only"
    measured = {(row["target"], precision_label(row["precision"])) for row in rows}
    subjects = script("subjects", monkeypatch)
    wanted = (
        (target, parse_precisions(name)) for target, name, *_ in (*subjects["NANO_PRECISIONS"], *subjects["LEARNED"])
    )
    assert measured == {(target, precision_label(precisions)) for target, precisions in wanted}


def test_nano_at_the_default_and_at_w8_is_as_good_as_the_page_says() -> None:
    assert (get_target("onnx").default_precision, get_target("coreml").default_precision) == ("fp16", "fp16")
    assert get_target("executorch").default_precision == "fp32"
    rows = json.loads((BENCHMARKS / "results" / "precision_table.json").read_text(encoding="utf-8"))["rows"]
    rows = [row for row in rows if not row.get("rounding")]  # to the nearest
    half, bytes_ = ([row for row in rows if set(row["precision"].values()) == {name}] for name in ("fp16", "w8"))
    drops = ("top1_drop", "image_to_text_recall@1_drop")
    assert half
    assert max(row["figures"][name] for row in half for name in drops) < 0.055
    assert bytes_
    sizes = [[sum(row["bytes"].values()) for row in found] for found in (bytes_, half)]
    assert sizes[0] == pytest.approx([0.5 * size for size in sizes[1]], rel=0.15)
    assert [row["failed"] for row in bytes_ if row["failed"]] == []


TABLES = [
    ("proof", "rows"),
    ("recovery", None),
    ("reinforcement_throughput", None),
    ("coreai_unseen", "rows"),
    ("coreai_layout", "rows"),
]


@pytest.mark.parametrize(("name", "of"), TABLES)
def test_a_table_of_a_page_is_that_of_its_results(name: str, of: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    own = script(name, monkeypatch)
    result = json.loads(own["RESULTS"].read_text(encoding="utf-8"))
    shown = between(own["PAGE"].read_text(encoding="utf-8"), f"<!-- begin: benchmarks/{name}.py -->", "<!-- end -->")
    assert shown == own["table"](result if of is None else result[of])


def test_the_rules_of_lint_are_those_of_the_page() -> None:
    table = between(page("neural-engine.md"), "| rule | means | says | source |\n|---|---|---|---|", "\n\n")
    told = [tuple(cell.strip() for cell in line.split("|")[1:4]) for line in table.splitlines()]
    rules: list[Rule[Any]] = [*RULES, *PACKAGE_RULES]
    assert told == [(rule.name, rule.level, rule.text) for rule in rules]


def test_the_rooms_of_the_page_are_the_layers_that_are_checked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = [one["layers"] for one in settings["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    table = between(page("ARCHITECTURE.md"), "| room | what it knows |\n|---|---|", "\n\n")
    rooms = [re.findall(r"`(\w+)(?:/|\.py)`", line.split("|")[1]) for line in table.splitlines()]
    found = [room for row in rooms for room in row]
    assert set(rooms[0]) == {"errors", "arguments", "progress", "files"}
    folders = [name for name in layers if name not in ("__main__", "files", "arguments", "progress | errors")]
    assert found[4:] == folders[::-1]


def test_the_python_that_is_needed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["requires-python"] == ">=3.11"


# Benchmarks


def test_the_protocols_are_those_of_the_table() -> None:
    table = between(
        page("benchmark.md"), "| warm-up | rounds | a round | model | reported |\n|---|---|---|---|---|---|", "\n\n"
    )
    told = {row[1].strip().strip("`"): row for row in (line.split("|") for line in table.splitlines())}
    assert set(told) == set(PROTOCOLS)
    for name, own in PROTOCOLS.items():
        assert [int(cell) for cell in told[name][2:4]] == [own.warm_up_iterations, own.rounds]
        inferences = re.search(r"([\d,]+) inferences", told[name][4])
        assert inferences is not None
        assert int(inferences[1].replace(",", "")) == own.iterations_per_round
        seconds = re.search(r"(\d+) s\b", told[name][4])
        assert own.seconds_per_round == (int(seconds[1]) if seconds else 0)
        assert own.reload_each_round == ("reloaded" in told[name][5])
    assert {name: own.statistic for name, own in PROTOCOLS.items()} == {
        "standard": "median",
        "paper": "trimmed_mean",
        "mlperf": "p90",
    }


def test_a_quick_protocol_is_small_and_named_so() -> None:
    for name, whole in PROTOCOLS.items():
        small = quick(whole)
        assert (small.name, small.iterations_per_round, small.golden_inputs) == (f"{name}-quick", 3, 2)
        assert small.rounds == min(2, whole.rounds)


def warned(job: Job | None = None, rounds: tuple[RoundResult, ...] = (), **changes: Any) -> list[str]:
    """The first words of what is said of a hundred equal samples, with some figures changed."""
    base = summarize([[1000] * 100], [100_000], 0.1)
    summary = Summary.model_validate(base.model_dump() | changes)
    return [text.partition(":")[0] for text in cell_warnings((job or documents.job()).cells[0], summary, rounds)]


def test_warnings_come_where_the_table_says() -> None:
    assert warned() == []
    assert warned(last_over_first=1.1) == []
    assert warned(last_over_first=1.11) == ["trend"]
    assert warned(median_interval_ns={"low": 950.0, "high": 1051.0}) == ["uncertain"]
    assert warned(median_interval_ns={"low": 951.0, "high": 1050.0}) == []
    assert warned(samples=99) == ["few samples"]
    assert warned(cpu_ns=1000 / 1.19) == []
    assert warned(cpu_ns=1000 / 1.21) == ["waited"]
    for state, said in (("fair", []), ("serious", ["throttled"]), ("critical", ["throttled"])):
        hot = RoundResult(run_id="r", cell="c", round=0, status="done", samples_ns=(1,), thermal_state=state)  # type: ignore[arg-type]
        assert warned(rounds=(hot,)) == said
    unchecked = [cell.model_dump(mode="json") | {"golden": None, "gate": None} for cell in documents.job().cells]
    assert warned(documents.job(cells=unchecked)) == ["answers not checked"]


def test_what_is_said_of_a_run_as_a_whole() -> None:
    assert run_warnings(stated(load_average_1min=0.0, battery_percent=20.0, low_power_mode=False)) == (QUICK_RUN,)
    for changes, word in (
        ({"load_average_1min": 99.0}, "busy"),
        ({"battery_percent": 19.0}, "battery"),
        ({"low_power_mode": True}, "low-power mode"),
        ({"governor": "powersave"}, "CPU governor"),
    ):
        assert [text for text in run_warnings(stated(**changes)) if text.startswith(word)], word
    broken_off = stated()
    environment = broken_off.environment.model_copy(update={"after": None})
    assert any(
        "interrupted" in text for text in run_warnings(broken_off.model_copy(update={"environment": environment}))
    )


QUICK_RUN = "quick: a smoke test of few inferences; not to be quoted"


def stated(**changes: Any) -> Result:
    """A whole result of a real device whose state before and after was this."""
    result = documents.result()
    state = result.environment.before.model_copy(update={"load_average_1min": 0.0, "battery_percent": 90.0} | changes)
    environment = result.environment.model_copy(update={"before": state, "after": state})
    device = result.device.model_copy(update={"simulated": False})
    cells = tuple(cell.model_copy(update={"status": "done"}) for cell in result.cells)
    return result.model_copy(update={"environment": environment, "device": device, "cells": cells})


def test_the_gate_of_a_competitor_is_the_loosest() -> None:
    assert (_loosest(Gates()).metric, _loosest(Gates()).bound) == ("cosine", 0.98)


def test_a_trend_needs_eight_samples() -> None:
    assert trend([100] * 7) is None
    assert trend([100, 100, 5, 5, 5, 5, 300, 300]) == 3


def test_of_many_samples_4096_make_the_interval() -> None:
    samples = [1000] * 10_000
    for number in range(4096):
        samples[number * 10_000 // 4096] = 7
    assert summarize([samples], [None], 0.1).median_interval_ns.high == 7


@pytest.mark.parametrize(("name", "seconds"), [("standard", 200), ("mlperf", 2788)])
def test_how_long_a_round_may_take(name: str, seconds: float) -> None:
    assert AndroidSettings().turn_limit(get_protocol(name)) == seconds
    assert AndroidSettings.of({"MOBILECLIP_ANDROID_TURN_SECONDS": "7"}).turn_limit(get_protocol(name)) == 7
    job = documents.job()  # four rounds, a probe for one thread
    assert AndroidSettings(turn_seconds=7).total_limit(job) == 7 * (4 + 1 + 1)
    assert AndroidSettings.of({}).cooling_seconds == 600


def test_when_an_iphone_is_looked_at_and_what_it_is_sent() -> None:
    assert (following.Patience().between, following.Patience().longest) == (10, 600)
    assert list(phone.PAUSES) == [1, 5, 15]
    assert job_folder.PART_BYTES == 32 << 20


def test_of_several_iphones_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        devices.AppleDevice(udid, f"id-{udid}", f"iPhone {udid}", "iPhone 15", "iPhone15,4", "18.1", "ready", None)
        for udid in ("A1", "B2")
    ]
    monkeypatch.setattr(devices, "list_devices", lambda: tuple(found))
    with pytest.raises(RuntimeFailed, match=r"several devices are ready; name one with `device`: ios:A1 .*ios:B2"):
        devices.choose(None)
    assert devices.choose("b2") == found[1]
    driver = get_driver("ios:B2")
    assert isinstance(driver, IosDriver)
    assert driver.selector == "B2"


@pytest.mark.parametrize(
    ("share", "speedup", "says"),
    [
        (0.9, 1.5, "evidence that it runs"),
        (0.9, 1.49, "mixed"),
        (0.89, 1.5, "mixed"),
        (0.1, 9, "does not run"),
        (0.11, 1.11, "mixed"),
        (0.99, 1.1, "does not run"),
    ],
)
def test_where_the_verdict_on_the_neural_engine_turns(share: float, speedup: float, says: str) -> None:
    assert says in Evidence("a", share, (1, 2), speedup, by_cost=True, simulated=False).verdict


# Datasets


def test_images_are_read_64_at_a_time_and_similarities_256(tmp_path: Path) -> None:
    for number in range(70):
        path = image(tmp_path / ("even" if number % 2 else "odd") / f"{number}.png")
        Image.new("RGB", (1, 1), (number, 0, 9)).save(path)  # equal ones are embedded once
    batches: list[int] = []

    def images(pixels: np.ndarray) -> np.ndarray:
        batches.append(len(pixels))
        return pixels.mean(axis=(2, 3)).astype(np.float32) + np.float32(1)

    measure(by_colour(images=images), read_dataset(tmp_path))
    assert batches == [64, 6]
    assert (BLOCK, RESAMPLES) == (256, 1000)


def test_templates_may_be_a_list(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "pairs.jsonl").write_text('{"image": "a.png", "label": "cat"}\n', encoding="utf-8")
    (tmp_path / "classes.txt").write_text("cat\n", encoding="utf-8")
    about = {"name": "mine", "pairs": "pairs.jsonl", "classes": "classes.txt", "template": ["a {}", "the {}"]}
    (tmp_path / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    assert read_dataset(tmp_path).templates == ("a {}", "the {}")


@pytest.mark.parametrize("image_column", ["image", "filepath", "filename", "path"])
@pytest.mark.parametrize("other", ["label", "class", "text", "caption", "title"])
def test_columns_of_a_table(image_column: str, other: str, tmp_path: Path) -> None:
    image(tmp_path / "pictures" / "a.png")
    (tmp_path / "data.tsv").write_text(f"{image_column}\t{other}\na.png\tcat\n", encoding="utf-8")
    data = read_dataset(tmp_path / "data.tsv", images=tmp_path / "pictures")
    assert data.tasks == (("classification",) if other in ("label", "class") else ("retrieval",))


def test_json_lines_may_have_a_list_of_texts(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "data.jsonl").write_text('{"image": "a.png", "text": ["one", "two"]}\n', encoding="utf-8")
    assert read_dataset(tmp_path / "data.jsonl").captions == ("one", "two")


def test_top5_counts_the_five_nearest_classes(tmp_path: Path) -> None:
    for letter in "abcdefg":
        image(tmp_path / letter / f"{letter}.png", f"#0000{ord(letter):02x}")
    nearest = np.linspace(0.9, 0.3, 7, dtype=np.float32)  # of every image: a first, then b, and so on
    embedder = by_colour(
        images=lambda pixels: np.stack([nearest] * len(pixels)), texts=lambda ids: np.eye(7, dtype="f")
    )
    figures = measure(embedder, read_dataset(tmp_path)).result.figures
    assert figures["top1"].value == pytest.approx(100 / 7)
    assert figures["top5"].value == pytest.approx(500 / 7)


# Training


def test_defaults_of_a_recipe(tmp_path: Path) -> None:
    least = "version: 1\nvariant: nano\ndata: pairs\nsteps: 2\nbatch: 2\nlearning_rate: 0.001\n"
    (tmp_path / "recipe.yaml").write_text(least, encoding="utf-8")
    (tmp_path / "pairs").mkdir()
    recipe = read_recipe(tmp_path / "recipe.yaml")
    told = re.search(r"with their defaults: (.*?)\. AdamW", " ".join(page("reinforcement.md").split()))
    assert told is not None
    defaults = dict(re.findall(r"`(\w+)` (\w[\w.]*?)(?: \(|,|$)", told[1].replace(" (of random weights)", "")))
    assert len(defaults) == 8
    for name, value in defaults.items():
        assert str(getattr(recipe, name)).removesuffix(".0") == value, name
    assert recipe.data == tmp_path / "pairs"
    fields = re.search(r"fields of `augmentation` are (.*?)\. ", " ".join(page("reinforcement.md").split()))
    assert fields is not None
    assert re.findall(r"`(\w+)`", fields[1]) == list(AugmentationPolicy.model_fields)


def test_recipes_of_nano_are_of_three_kinds() -> None:
    recipes = [read_recipe(file) for file in sorted((ROOT / "models" / "nano" / "recipes").glob("*.yaml"))]
    kinds = {(recipe.distillation > 0, recipe.anchors is not None) for recipe in recipes}
    assert kinds == {(True, False), (False, False), (False, True)}


def test_tensors_of_a_shard_are_those_of_the_table(tmp_path: Path) -> None:
    counts, wide = torch.tensor([1, 2]), torch.zeros(2, 3, 5, dtype=torch.bfloat16)
    shard = Shard(torch.zeros(2, 3, 11), torch.zeros(2, 32, dtype=torch.uint8), counts, (wide,), (wide[0].clone(),))
    entry = write_shard(tmp_path, 20, shard)
    assert (entry.file, entry.first, entry.rows) == ("shard-00000020.safetensors", 20, 2)
    table = between(page("reinforcement.md"), "| name | type, shape | |\n|---|---|---|", "\n\n")
    told = {line.split("|")[1].strip().strip("`"): line.split("|")[2].split()[0] for line in table.splitlines()}
    stored = {
        name.replace(".0", ".t"): str(value.dtype).removeprefix("torch.")
        for name, value in load_file(tmp_path / entry.file).items()
    }
    assert told == stored
    words = (
        "left",
        "top",
        "width",
        "height",
        "mirror",
        "angle",
        "shear",
        "brightness",
        "contrast",
        "saturation",
        "hue",
    )
    assert words == PARAMETERS
