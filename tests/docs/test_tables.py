"""Tables and examples of the pages are what the code says."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import torch
from command_line import run, strict_json
from conversions import ROOT
from safetensors.torch import load_file

import mobileclip_deploy as mcd
from mobileclip_deploy import errors
from mobileclip_deploy.benchmark.job import PROTOCOLS
from mobileclip_deploy.cli import ending
from mobileclip_deploy.network.model.precision import PRECISIONS
from mobileclip_deploy.network.model.variants import load_variant
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.coreml.options import NEEDED
from mobileclip_deploy.targets.values import Form
from mobileclip_deploy.training.reinforcement.policy import PARAMETERS
from mobileclip_deploy.training.reinforcement.shards import Shard, write_shard

DOCS = ROOT / "docs"


def test_kinds_and_exit_codes_are_those_of_the_page() -> None:
    table = re.findall(r"^\| (\d+) \| (`.+?`) \|", (DOCS / "ci.md").read_text(encoding="utf-8"), re.MULTILINE)
    told = {kind: int(code) for code, kinds in table for kind in re.findall(r"`(\w+)`", kinds)}
    classes = [
        one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.MobileClipDeployError)
    ]
    classes = [*classes, ending.Interrupted, ending.Terminated]
    assert told == {one.kind: one.exit_code for one in classes if one is not errors.MobileClipDeployError}


def test_the_example_of_an_error_is_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.safetensors").write_text("mine")
    found = run("reparameterize", "-o", "a.safetensors", "--json")
    (example,) = re.findall(r"```json\n(.*?)```", (DOCS / "ci.md").read_text(encoding="utf-8"), re.DOTALL)
    assert strict_json(found.stderr.splitlines()[-1].replace("a.safetensors", "a.onnx")) == json.loads(example)


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table behind a heading, without its own heading; marks of code are left out."""
    _, _, rest = (DOCS / f"{page}.md").read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    (table,) = re.findall(r"^\|.*?(?=\n\n)", rest.partition("\n## ")[0] + "\n\n", re.MULTILINE | re.DOTALL)[:1]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def gate(text: str) -> tuple[str, float]:
    return ("relative", float(text.rpartition(" ")[2])) if text.startswith("relative") else ("cosine", float(text))


def test_core_ml_needs_the_systems_of_the_table() -> None:
    table = {name: needs for name, _, needs, _ in rows("coreml", "Precisions")}
    assert table == {name: NEEDED[name][0] for name in get_target("coreml").capabilities.storing.precisions}


@pytest.mark.parametrize("target", ["coreml", "coreai", "litert"])
def test_a_target_has_the_precisions_and_gates_of_the_table(target: str) -> None:
    table = {name: gate(bound) for name, *_, bound in rows(target, "Precisions")}
    own = get_target(target).capabilities.storing.precisions
    assert table == {name: (PRECISIONS[name].metric, PRECISIONS[name].gate) for name in own}


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


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def between(text: str, begin: str, end: str) -> str:
    return text.partition(begin)[2].partition(end)[0].strip()


def test_the_rooms_of_the_page_are_the_layers_that_are_checked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = [
        one["layers"] for one in contracts if one["type"] == "layers" and any("web" in layer for layer in one["layers"])
    ]
    table = between(page("ARCHITECTURE.md"), "| room | what it knows |\n|---|---|", "\n\n")
    rooms = [re.findall(r"`(\w+)(?:/|\.py)`", line.split("|")[1]) for line in table.splitlines()]
    found = [room for row in rooms for room in row]
    ground = rooms[0]  # one row for what every room may use
    known = [name for layer in layers for name in re.split(r" [|:] ", layer) if name != "__main__"]
    assert set(ground) == set(known[-len(ground) :])
    assert found[len(ground) :] == known[: -len(ground)][::-1]


def test_every_check_has_a_row_of_the_page() -> None:
    """Names of checks as they stand in the code: literals, and constants called STEP."""
    section = page("proof.md").partition("## The checks\n")[2].partition("\n## ")[0]
    told = {
        name for line in section.splitlines() if line[:2] == "| " for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    sources = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "mobileclip_deploy").rglob("*.py")))
    named = set(re.findall(r'\b(?:step=|STEP = |(?:of_answers|of_faults?|not_run|_run)\(\s*)"(\w+)"', sources))
    assert {"graph", "twin", "files", "task"} <= named
    assert named - told == set()


def test_the_protocols_are_those_of_the_table() -> None:
    table = between(
        page("measuring.md"), "| warm-up | rounds | a round | model | reported |\n|---|---|---|---|---|---|", "\n\n"
    )
    told = {row[1].strip().strip("`"): row for row in (line.split("|") for line in table.splitlines())}
    assert set(told) == set(PROTOCOLS)
    for name, own in PROTOCOLS.items():
        assert [int(cell) for cell in told[name][2:4]] == [own.warm_up_iterations, own.rounds]
        inferences = re.search(r"([\d,]+) inferences", told[name][4])
        assert int(inferences[1].replace(",", "")) == own.iterations_per_round
        seconds = re.search(r"(\d+) s\b", told[name][4])
        assert own.seconds_per_round == (int(seconds[1]) if seconds else 0)
        assert own.reload_each_round == ("reloaded" in told[name][5])
    assert {name: own.statistic for name, own in PROTOCOLS.items()} == {
        "standard": "median",
        "paced": "median",
        "paper": "trimmed_mean",
        "mlperf": "p90",
    }


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
