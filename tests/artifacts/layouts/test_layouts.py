"""Layouts as data: those of the package, a user's own file, and what is refused before anything is converted."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import refusal, run

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.layouts import default_layout, layout_names, read_layout, write_side_files
from mobileclip_deploy.artifacts.layouts.layout import VALUES, values_of
from mobileclip_deploy.artifacts.towers.classifier import unit_length
from mobileclip_deploy.artifacts.towers.head import Head, read_head
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.export.plan import plan_export
from mobileclip_deploy.export.request import ExportRequest, choose
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.variants import load_variant, variant_names
from mobileclip_deploy.targets import RETIRED, Form, get_target, targets


def own(folder: Path, **changes: Any) -> Path:
    """A user's own layout: as one of the package, under another name."""
    file = folder / "mine.json"
    content = mcd.read_layout("immich").as_dict() | {"name": "mine"} | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", layout_names())
def test_every_layout_of_the_package_is_one_that_its_target_can_write(name: str) -> None:
    layout = read_layout(name)
    if layout.target in RETIRED:
        with pytest.raises(UsageError, match="pip install examples/third_party_target"):
            get_target(layout.target)
    else:
        get_target(layout.target).require_form(Form(layout=layout))
    assert layout.name == name
    assert layout.title
    assert layout.source
    assert read_layout(name.upper()) == layout


def test_a_target_has_at_most_one_default_layout() -> None:
    defaults = [layout.target for layout in mcd.layouts() if layout.default]
    assert defaults == ["onnx"]
    assert [name for name in targets() if default_layout(name) is not None] == defaults


@pytest.mark.parametrize("name", [name for name in variant_names() if load_variant(name).text])
def test_side_files_are_filled_from_the_card_of_every_variant(name: str, tmp_path: Path) -> None:
    variant = load_variant(name)
    assert set(values_of(variant)) == VALUES
    write_side_files(tmp_path, mcd.read_layout("immich").model_copy(update={"files": _without_tokenizers()}), variant)
    settings = json.loads((tmp_path / "visual" / "preprocess_cfg.json").read_text())
    assert settings["size"] == [variant.preprocess.size] * 2
    assert settings["interpolation"] == variant.preprocess.interpolation
    assert (settings["mean"], settings["std"]) == ([0.0] * 3, [1.0] * 3)
    assert json.loads((tmp_path / "config.json").read_text())["embed_dim"] == variant.embed_dim


def _without_tokenizers() -> dict[str, Any]:
    files = mcd.read_layout("immich").files
    return {name: file for name, file in files.items() if file.tokenizer is None}


def test_a_layout_names_target_precision_towers_and_length(tmp_path: Path) -> None:
    layout = read_layout(own(tmp_path, precision="fp16", image=None))
    choices = choose(ExportRequest(targets=(), layout=layout))
    assert [(target.name, precisions) for target, precisions in choices.pairs] == [("onnx", {"text": "fp16"})]
    (bundle,) = plan_export(choices, Source.of(mcd.load_model())).bundles
    assert (bundle.path.name, bundle.request.head) == ("nano-mine-fp16", Head(normalised=True))
    assert bundle.request.layout == layout


def test_the_default_layout_by_its_name_is_what_is_written_without_it() -> None:
    named = choose(ExportRequest(targets=(), layout=read_layout("transformers.js")))
    plain = choose(ExportRequest(targets=("onnx",)))
    source = Source.of(mcd.load_model())
    assert [plan_export(one, source).bundles[0].request.layout for one in (named, plain)] == [None, None]
    assert plan_export(named, source).bundles[0].path == plan_export(plain, source).bundles[0].path


def test_a_bundle_at_length_1_has_another_name_than_the_plain_one() -> None:
    choices = choose(ExportRequest(targets=("onnx",), head=read_head(None, None, True)))
    assert plan_export(choices, Source.of(mcd.load_model())).bundles[0].path.name == "nano-onnx-fp16-normalised"
    with pytest.raises(UsageError, match="not for probabilities of `labels`"):
        read_head("cat,dog", None, True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": None, "text": None}, "it has no image, text or classifier file"),
        ({"target": 7}, "target: not a string"),
        ({"name": "No Name"}, "name: a string that does not match"),
        ({"name": "immich", "precision": "fp16"}, "immich is a packaged layout's name; change that line"),
        ({"default": True}, "`default` is only for packaged layouts"),
        ({"suffixes": {"fp32": ""}, "image": "../model{suffix}.onnx"}, "not a plain path inside a bundle"),
        ({"image": "/model.onnx"}, "not a plain path inside a bundle"),
        ({"image": "a\\b.onnx"}, "not a plain path inside a bundle"),
        ({"image": "manifest.json"}, "manifest.json is a reserved file name of bundles"),
        ({"image": "model{suffix}.onnx"}, "has a suffix, but `suffixes` is empty"),
        ({"image": "{folder}/model.onnx"}, "{folder} in {folder}/model.onnx; known: precision, suffix, variant"),
        ({"image": "textual/model.onnx"}, "textual/model.onnx is also the name of another file"),
        ({"files": {"visual/model.onnx": {"content": {}}}}, "visual/model.onnx is also the name of another file"),
        (
            {"files": {"visual/model.onnx/a": {"content": {}}}},
            "visual/model.onnx/a is also the name of another file, or",
        ),
        ({"files": {"Manifest.json": {"content": {}}}}, "Manifest.json is a reserved file name of bundles"),
        (
            {"suffixes": {"fp32": "/../../a"}, "image": "model{suffix}.onnx"},
            "suffixes.fp32: a string that does not match",
        ),
        ({"suffixes": {"fp32": "..", "w8": ""}, "image": "{suffix}"}, "'..' is not a plain path inside a bundle"),
        (
            {"suffixes": {"fp32": "manifest"}, "image": "{suffix}.json"},
            "manifest.json is a reserved file name of bundles",
        ),
        ({"suffixes": {"fp32": "textual"}, "image": "{suffix}/model.onnx"}, "is also the name of another file"),
        ({"files": {"a.json": {}}}, "either `tokenizer` or `content`"),
        ({"files": {"a.json": {"content": {"x": ["{pixels}"]}}}}, "{pixels} is not known; known: context_length"),
        ({"files": {"../a.json": {"content": {}}}}, "not a plain path inside a bundle"),
        ({"more": 1}, "more: not known here"),
    ],
)
def test_a_file_that_is_no_layout_is_refused_in_one_line(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    if isinstance(changes.get("image"), str):
        changes = changes | {"image": mcd.read_layout("immich").as_dict()["image"] | {"file": changes["image"]}}
    with pytest.raises(InvalidInput) as found:
        read_layout(own(tmp_path, **changes))
    assert said in str(found.value)
    assert "\n" not in str(found.value)


def test_what_a_target_cannot_write_is_refused(tmp_path: Path) -> None:
    floats = {"text": mcd.read_layout("immich").as_dict()["text"] | {"input": {"name": "text", "dtype": "float32"}}}
    for changes, said in (
        (floats, "needs float32 as input of the text tower; onnx has int64 or int32"),
        ({"target": "executorch"}, "ExecuTorch artifacts have no tensor names"),
        ({"target": "onyx"}, "unknown target 'onyx', did you mean onnx?"),
        ({"suffixes": {"fp16": ""}}, "the layout mine has no fp32; it has fp16"),
    ):
        layout = read_layout(own(tmp_path, **changes))
        with pytest.raises(UsageError) as found:
            plan_export(choose(ExportRequest(targets=(), layout=layout)), Source.of(mcd.load_model()))
        assert said in str(found.value)


def test_the_command_line_says_what_to_do(tmp_path: Path) -> None:
    for arguments, said in (
        ((), "no target is given; known: onnx, "),
        (("--layout", "imich"), "unknown layout 'imich', did you mean immich?; known: "),
        (("--layout", "immich", "--target", "coreml"), "is for onnx, not for coreml; leave --target out"),
        (("--layout", "immich", "--labels", "cat,dog"), "the layout immich has no classifier; it has image, text"),
        (("--layout", str(tmp_path / "no.json")), "no such layout file"),
        (("--layout", str(own(tmp_path, image=None)), "--tower", "image"), "has no image tower; leave --tower out"),
    ):
        assert said in refusal(run("export", *arguments, "-o", str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_the_command_lists_them_and_shows_one_as_a_file(tmp_path: Path) -> None:
    listed = run("layouts", "--json")
    assert [layout["name"] for layout in listed.json] == list(layout_names())
    table = run("layouts").stdout
    assert all(name in table for name in layout_names())
    shown = run("layouts", "immich")
    (tmp_path / "immich.json").write_text(shown.stdout, encoding="utf-8")
    assert read_layout(tmp_path / "immich.json") == read_layout("immich")
    assert run("layouts", str(own(tmp_path)), "--json").json[0]["name"] == "mine"
    assert "no such layout file" in refusal(run("layouts", str(tmp_path / "no.json")))


def test_rows_come_to_length_1_in_float16_whatever_their_size() -> None:
    rows = torch.randn(6, 512, generator=torch.Generator().manual_seed(1))
    for factor in (1e-3, 1.0, 300.0, 6000.0):
        small = (rows * factor).half()
        wanted = torch.nn.functional.normalize(small.double(), dim=1)
        found = unit_length(small)
        assert found.dtype == torch.float16
        assert torch.allclose(found.double(), wanted, rtol=3e-3, atol=1e-4)
    squares = (rows * 300).half() ** 2
    assert torch.isinf(squares).any(dim=1).all()  # which is why
