"""The preset `finetune`: what it reads, freezes, slows and stops at; the mix with the original; what it refuses."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import refusal, run
from emoji_pairs import write_pairs
from torch import nn

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation import checkpoints
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.dataset_files import read_dataset
from mobileclip_deploy.evaluation.pairs import pairs_of, parse_pairs
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint
from mobileclip_deploy.network.model.variants import load_variant
from mobileclip_deploy.pictures.image_sources import Content
from mobileclip_deploy.training.door import finetune_recipe
from mobileclip_deploy.training.reinforcement.samples import PairDataset, collate
from mobileclip_deploy.training.trainer.network import optimizer, start
from mobileclip_deploy.training.trainer.recipe import Recipe
from mobileclip_deploy.training.trainer.running import LogRow, _Training, fitting_batch, held_out, training_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs, the same as tables, and as one folder for each class."""
    place = tmp_path_factory.mktemp("finetune")
    write_pairs(place / "pairs", 12)
    rows = [json.loads(line) for line in (place / "pairs/pairs.jsonl").read_text().splitlines()]
    for name, comma in (("commas", ","), ("semicolons", ";")):
        lines = [f"image{comma}text", *(f"pairs/{row['image']}{comma}{row['text']}" for row in rows)]
        (place / f"{name}.csv").write_text("\n".join(lines) + "\n")
    for number, row in enumerate(rows):
        (place / "classes" / f"kind {number % 3}").mkdir(parents=True, exist_ok=True)
        shutil.copy(place / "pairs" / row["image"], place / "classes" / f"kind {number % 3}")
    return place


def recipe(data: Path, **fields: Any) -> Recipe:
    built = finetune_recipe(data, builtin_checkpoint())
    return Recipe.model_validate(built.model_dump() | {"batch": 4, "steps": 2} | fields)


@pytest.mark.parametrize("form", ["pairs", "commas.csv", "semicolons.csv", "classes"])
def test_every_form_of_data_is_read_and_a_third_is_held_out(folder: Path, form: str) -> None:
    wanted = recipe(folder / form)
    data, held = training_data(wanted), held_out(wanted)
    assert isinstance(data, PairDataset)
    assert (len(data), len(held.images)) == (8, 4)
    trained = {(data.pairs.folder / row.image).resolve() for row in data.pairs.rows}
    assert not trained & {Path(str(image)).resolve() for image in held.images}
    texts = {row.text for row in data.pairs.rows}
    assert (
        texts == {load_variant("nano").template.replace("{}", f"kind {number}") for number in range(3)}
        if form == "classes"
        else len(texts) == 8
    )
    assert isinstance(data[data.choose(1, torch.Generator())[0]].crop, torch.Tensor)


def test_statistics_are_frozen_and_rates_fall_by_layer(folder: Path) -> None:
    wanted = recipe(folder / "pairs", learning_rate=1e-2, augmentation=None)
    training = _Training(wanted, training_data(wanted), folder / "frozen")
    before = {name: value.clone() for name, value in training.network.state_dict().items()}
    data = training_data(wanted)
    training.update(collate([data[choice] for choice in data.choose(4, torch.Generator())]))
    after = training.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "image.projection.weight" in moved
    assert not [name for name in moved if "running_" in name or "num_batches" in name]
    norms = [module for module in training.network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(module.training for module in norms)

    groups = optimizer(start(wanted), nn.Module(), wanted).param_groups
    model = start(wanted)
    rates: dict[str, float] = {}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in optimizer(model, nn.Module(), wanted).param_groups:
        for parameter in group["params"]:
            assert names[id(parameter)] not in rates  # each once
            rates[names[id(parameter)]] = group["lr"]
    assert len(rates) == len(names)
    assert len(groups) > 6
    rate = wanted.learning_rate
    assert rates["image.projection.weight"] == rates["logit_scale"] == rate
    stages = 1 + max(int(name.split(".")[2]) for name in rates if name.startswith("image.stages."))
    first = next(name for name in rates if name.startswith("image.stages.0."))
    last = next(name for name in rates if name.startswith(f"image.stages.{stages - 1}."))
    assert rates[last] == pytest.approx(rate * 0.8)
    assert rates[first] == pytest.approx(rate * 0.8**stages)
    assert rates[next(name for name in rates if name.startswith("image.stem."))] == pytest.approx(
        rate * 0.8 ** (stages + 1)
    )


def test_lora_trains_factors_and_merges_them(folder: Path) -> None:
    wanted = recipe(folder / "pairs", lora=2, learning_rate=1e-2, layer_decay=None, average=0.0)
    data = training_data(wanted)
    training = _Training(wanted, data, folder / "lora")
    assert len(training.optimizer.state_dict()["param_groups"]) == 2
    trained = {name for name, parameter in training.network.named_parameters() if parameter.requires_grad}
    assert all(name == "logit_scale" or name.endswith(("weight.0.down", "weight.0.up")) for name in trained)
    for _ in range(2):  # the first step moves one factor alone, since the other begins at zero
        training.update(collate([data[choice] for choice in data.choose(4, torch.Generator())]))
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        unmerged = training.averaged.encode_image(pixels)
        merged = training.result.encode_image(pixels)
    assert torch.allclose(merged, unmerged, rtol=1e-4, atol=1e-4)
    before, after = start(recipe(folder / "pairs")).state_dict(), training.result.state_dict()
    assert before.keys() == after.keys()
    moved = {name: after[name] - before[name] for name in before if not torch.equal(before[name], after[name])}
    assert {"logit_scale", "image.projection.weight", "text.projection.weight"} <= moved.keys()
    assert all(torch.linalg.matrix_rank(value.flatten(1)) <= 2 for value in moved.values() if value.ndim)


def test_it_stops_without_a_better_recall_and_writes_the_best(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recalls = iter((40.0, 60.0, 50.0, 60.0))
    seen: list[dict[str, torch.Tensor]] = []

    def measure(self: _Training) -> LogRow:
        seen.append({name: value.clone() for name, value in self.averaged.state_dict().items()})
        value = next(recalls)
        return LogRow(self.step, 4 * self.step, 1.0, 0.1, 100.0, value, value)

    monkeypatch.setattr(_Training, "measure", measure)
    lines: list[str] = []
    wanted = recipe(folder / "pairs", steps=9, evaluate_every=1, patience=2, learning_rate=1e-3)
    done = mcd.train(wanted, folder / "stopped", announce=lines.append)
    assert [row.step for row in done.log] == [1, 2, 3, 4]
    written = mcd.load_model(None, done.weights).state_dict()
    weight = "image.projection.weight"
    assert torch.equal(written[weight], seen[1][weight])
    assert not torch.equal(seen[1][weight], seen[3][weight])
    (line,) = lines
    assert line.startswith("9 steps of 4: about ")
    assert "CPU hours" in line
    model = mcd.load_model(None, done.weights)
    assert model.provenance is not None
    assert any("fine-tuned from weights.safetensors" in note for note in model.provenance.notes)


def test_impossible_numbers_are_refused_before_a_step(folder: Path) -> None:
    with pytest.raises(
        InvalidInput, match="a batch of 100,000 of 8 pairs would repeat each pair; set batch to at most 8"
    ):
        training_data(recipe(folder / "pairs", batch=100_000))
    preset = finetune_recipe(folder / "pairs", builtin_checkpoint())
    assert (fitting_batch(preset, 8), fitting_batch(preset, 1), fitting_batch(preset, 65)) == (8, 2, 64)
    assert len(training_data(preset)) == 8
    path = folder / "recipe.yaml"
    fields = "version: 1\nvariant: nano\npreset: finetune\ndata: pairs\nsteps: 2\nbatch: 4\nlearning_rate: 0.001\n"
    for line, message in (
        ("augmentation: {hue: 2}\nstart: weights.pt\n", "augmentation.hue is 2; it must be at most 1.6"),
        ("", "frozen statistics need a start"),
        ("start: weights.pt\ntemplate: a photo\n", "the template has no {}"),
        ("start: weights.pt\nstatistics: null\nlora: 0\n", "lora is 0; it must be above 0"),
        ("statistics: null\nlora: 8\n", "lora needs a start"),
        ("start: weights.pt\npatience: 0\n", "patience is 0; it must be above 0"),
    ):
        path.write_text(fields + line)
        assert message in refusal(run("train", path, "-o", folder / "never"))
    assert not (folder / "never").exists()


def test_pairs_that_cannot_be_trained_on_are_refused(tmp_path: Path) -> None:
    inside = Dataset("shard", (Content("shards/0.tar: a.jpg", b""),), ("0",), ("a cat",), (0,))
    with pytest.raises(InvalidInput, match="is inside of an archive, which training cannot read; unpack it"):
        pairs_of(inside, tmp_path, "a photo of a {}")
    with pytest.raises(InvalidInput, match="list:1: captions without a text; give the true caption as text"):
        parse_pairs('{"image": "a.png", "captions": ["a cat"]}', tmp_path, "list")


def test_options_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    for words, message in (
        (("--recipe", "finetune"), "--recipe finetune needs --data"),
        (("recipe.yaml", "--held-out", "x"), "go with --recipe finetune"),
        (("recipe.yaml", "--checkpoint", "x"), "a RECIPE names it with start"),
        (("--recipe", "finetune", "--data", "x", "--checkpoint", "missing.pt"), "no checkpoint at missing.pt"),
    ):
        assert message in refusal(run("train", *words, "-o", tmp_path / "out"))


def test_the_mix_is_the_best_that_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracy by the weights themselves: old pictures up to a ratio of 0.4, new ones rising to 1."""
    original, tuned = mcd.load_model(), mcd.load_model()
    tuned.logit_scale.data += 1.0
    begin = float(original.logit_scale)

    def hits(model: Any, dataset: Dataset, how: Any = None, progress: Any = None) -> np.ndarray:
        ratio, count = float(model.logit_scale) - begin, len(dataset.images)
        share = ratio if dataset.name == "new" else 0.5 if ratio < 0.5 else 0.2
        return np.arange(count) < round(share * count)

    monkeypatch.setattr(checkpoints, "_hits", hits)
    data = read_dataset(folder / "commas.csv")
    many = {
        name: Dataset(name, data.images * 10, data.rows * 10, ("a",) * 120, tuple(range(120)))
        for name in ("old", "new")
    }
    curve = checkpoints.choose_ratio(original, tuned, many["old"], many["new"])
    assert curve.ratio == 0.4
    assert [point.ratio for point in curve.points] == list(checkpoints.RATIOS)
    assert curve.old.value == pytest.approx(0, abs=1e-9)
    assert curve.new.value == pytest.approx(40, abs=1)
    other = mcd.load_model()
    other.towers = ("image",)
    with pytest.raises(UsageError, match="different towers"):
        checkpoints.choose_ratio(original, other, many["old"], many["new"])


@pytest.mark.slow
def test_a_fine_tune_is_mixed_and_compared_by_commands(folder: Path, tmp_path: Path) -> None:
    fields = {"version": 1, "variant": "nano", "preset": "finetune", "data": str(folder / "pairs"), "steps": 2}
    fields |= {"batch": 4, "start": str(builtin_checkpoint()), "evaluation": str(folder / "pairs")}
    (tmp_path / "recipe.yaml").write_text(json.dumps(fields))
    assert run("train", tmp_path / "recipe.yaml", "-o", tmp_path / "tuned").code == 0
    weights, mixed = tmp_path / "tuned/weights.safetensors", tmp_path / "mixed.safetensors"
    words: Sequence[Any] = (
        "--mix",
        builtin_checkpoint(),
        "--keep",
        folder / "pairs",
        "--dataset",
        folder / "commas.csv",
    )
    done = run("convert", weights, *words, "-o", mixed)
    assert done.code == 0, done.stderr
    assert "confirmed on the other pictures" in done.stdout
    exported = run("export", "--target", "onnx", "--checkpoint", weights, "-o", tmp_path / "out", "--no-verify")
    assert exported.code == 0, exported.stderr
    assert "fine-tuned from weights.safetensors, whose embeddings cannot be compared" in exported.stderr
    words = ("--checkpoint", weights, "--baseline", builtin_checkpoint(), "--dataset", folder / "pairs")
    compared = run("compare", tmp_path / "out/nano-onnx-fp16", *words)
    assert "its embeddings cannot be compared with those of weights.safetensors" in compared.stderr
