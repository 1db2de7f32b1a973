"""Faults in a bundle whose labels were learned from pictures."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import refusal, run
from faults.field_rows import ELSEWHERE
from faults.field_table import other, present

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.bundle.manifest import AttachmentEntry, ClassifierEntry
from mobileclip_deploy.artifacts.bundle.source import open_source
from mobileclip_deploy.artifacts.heads.label_head import NONE, LabelHead
from mobileclip_deploy.errors import InvalidInput, MobileClipDeployError
from mobileclip_deploy.network.model.variants import models_dir
from mobileclip_deploy.parity import Gates
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.verify.checks.graph import check_graph
from mobileclip_deploy.verify.checks.tags import check_tags
from mobileclip_deploy.verify.checks.weights import check_weights
from mobileclip_deploy.verify.subject import Evidence, OpenedSubject

LABELS = {"cat": ("1f431", "1f408", "1f63a", "1f63b"), "car": ("1f697", "1f698", "1f695", "1f699")}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("tags")
    for label, names in LABELS.items():
        (folder / "examples" / label).mkdir(parents=True)
        for name in names:
            file = models_dir() / "nano" / "evaluation" / "images" / f"{name}.png"
            shutil.copy(file, folder / "examples" / label)
    choices = {"labels": list(LABELS), "template": "an emoji of {}", "examples": folder / "examples", "verify": False}
    return mcd.export(mcd.load_model(), "onnx", "fp32", folder / "out", **choices)  # type: ignore[arg-type]


def step_that_fails(folder: Path, graph: bool = False) -> str:
    """The check that fails; `opening` if the bundle is refused, `nothing` if none does."""
    try:
        opened = Bundle.open(folder)
        source = open_source(opened)
        assert source is not None
        reference = Reference.read(opened.golden)
        subject = OpenedSubject(opened, Evidence(reference), Gates(), folder.parent, source=source.folded())
        checks = check_tags(subject)
        if graph:
            checks += [*check_weights(subject.towers["image"]), *check_graph(subject.towers["image"])]
    except MobileClipDeployError:
        return "opening"
    return next((check.step for check in checks if check.status == "failed"), "nothing")


@pytest.mark.slow
def test_every_field_of_learned_labels_is_seen_to_change(bundle: Bundle, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle.path, tmp_path / "copy")
    assert step_that_fails(folder, graph=True) == "nothing"
    path = folder / "manifest.json"
    text = path.read_text(encoding="utf-8")
    seen = {}
    for field in present(ClassifierEntry, json.loads(text)["classifier"], ("classifier",)):
        if not field.name.startswith(("TagsEntry.", "Thresholds.")):
            continue
        document = json.loads(text)
        holder = document
        for key in field.place[:-1]:
            holder = holder[key]
        last = field.place[-1]
        value = holder[last]
        lowered = 0.9 * value if isinstance(value, float) else None
        special = {"Thresholds.aim": 0.06, "TagsEntry.golden": [[0, 1]]}
        holder[last] = special.get(field.name) or lowered or other(field.name, value)
        path.write_text(json.dumps(document), encoding="utf-8")
        seen[field.name] = step_that_fails(folder)
    assert seen == {name: ELSEWHERE[name] for name in seen}
    assert len(seen) == len([name for name in ELSEWHERE if name.startswith(("TagsEntry.", "Thresholds."))])


def planted(bundle: Bundle, folder: Path, head: LabelHead) -> Path:
    """A copy with other learned labels, whose hash the manifest has."""
    shutil.copytree(bundle.path, folder)
    head.save(folder / "labels.safetensors")
    document = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    entry = AttachmentEntry.of(folder / "labels.safetensors", folder)
    document["classifier"]["tags"]["file"] = entry.model_dump(mode="json", exclude_none=True)
    document["classifier"]["tags"]["thresholds"] = head.thresholds.model_dump(mode="json", exclude_none=True)
    (folder / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


@pytest.mark.slow
def test_rows_that_the_artifact_does_not_have_are_found(bundle: Bundle, tmp_path: Path) -> None:
    assert bundle.manifest.classifier is not None
    head = LabelHead.read(bundle.path / "labels.safetensors")
    swapped = replace(head, weights=head.weights[[1, 0, 2]])
    moved = replace(head, biases=head.biases + np.array([0, 0, 0.01], np.float32))
    assert step_that_fails(planted(bundle, tmp_path / "swapped", swapped), graph=True) != "nothing"
    assert step_that_fails(planted(bundle, tmp_path / "moved", moved), graph=True) == "graph"


def test_rows_of_texts_are_compared_with_the_checkpoint(bundle: Bundle, tmp_path: Path) -> None:
    head = LabelHead.read(bundle.path / "labels.safetensors")
    rule = head.thresholds.model_copy(update={"method": "texts"})
    swapped = replace(head, weights=head.weights[[1, 0, 2]], thresholds=rule)
    assert step_that_fails(planted(bundle, tmp_path / "claimed", swapped)) == "tags"


def test_pictures_that_were_learned_from_are_not_evaluated_on(bundle: Bundle, tmp_path: Path) -> None:
    data = shutil.copytree(bundle.path.parents[1] / "examples", tmp_path / "data")
    for label, name in (("cat", "1f639"), ("car", "1f68c")):
        (data / label / "renamed.png").write_bytes((data / label / f"{LABELS[label][0]}.png").read_bytes())
        shutil.copy(models_dir() / "nano" / "evaluation" / "images" / f"{name}.png", data / label)
    with pytest.raises(InvalidInput, match=r"the bundle's labels were learned from this picture; .*skip_bad"):
        mcd.evaluate(bundle, dataset=data)
    result = mcd.evaluate(bundle, dataset=data, skip_bad=True)
    assert (result.images, len(result.skipped)) == (2, 10)


@pytest.mark.slow
def test_another_dimension_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    head = LabelHead.read(bundle.path / "labels.safetensors")
    narrow = replace(head, weights=head.weights[:, :100].copy())
    assert step_that_fails(planted(bundle, tmp_path / "narrow", narrow)) == "opening"


@pytest.mark.slow
def test_the_page_of_a_search_shows_the_pictures_that_were_labelled_wrongly(bundle: Bundle, tmp_path: Path) -> None:
    source = models_dir() / "nano" / "evaluation" / "images"
    for label, names in {"cat": ("1f63c", "1f68c"), "car": ("1f693",), NONE: ("1f69a", "1f355")}.items():
        (tmp_path / "held <out>" / label).mkdir(parents=True)
        for name in names:
            shutil.copy(source / f"{name}.png", tmp_path / "held <out>" / label)
    arguments = ("evaluate", bundle.path, "--dataset", tmp_path / "held <out>", "--html", tmp_path / "wrong.html")
    mistakes = run(*arguments, "--json").json["mistakes"]
    assert [(Path(one["image"]).name, one["label"], *one["predicted"]) for one in mistakes] == [
        ("1f68c.png", "cat", "car"),
        ("1f69a.png", NONE, "car"),
    ]
    page = (tmp_path / "wrong.html").read_text(encoding="utf-8")
    assert (page.count("data:image/jpeg;base64,"), "default-src 'none'" in page, "<out>" in page) == (4, True, False)
    given = (
        f'<span class="score">{mistakes[0]["predicted"]["car"]:.3f}</span> is cat {mistakes[0]["score"]:.3f}: 1f68c.png'
    )
    assert given in page[page.index("<h2>car</h2>") : page.index("<h2>cat</h2>")]
    assert "given car" in page[page.index("<h2>cat</h2>") : page.index(f"<h2>{NONE}</h2>")]
    assert "replace it with --force" in refusal(run(*arguments))
