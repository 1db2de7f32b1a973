"""A text tower distilled over parallel sentences, from the built-in checkpoint and its evaluation's names."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import CheckpointError, GateFailed, InvalidInput, UsageError
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint
from mobileclip_deploy.network.model import variants
from mobileclip_deploy.network.model.variants import models_dir
from mobileclip_deploy.training.language.distilling import distillation_loss

pytestmark = pytest.mark.slow  # a text tower is learned

RECIPE = {
    "version": 1,
    "steps": 24,
    "batch": 96,
    "learning_rate": 0.002,
    "average": 0.5,
    "vocabulary": 6000,
    "context": 16,
    "negatives": 64,
    "english": 0.3,
    "english_bound": 30,
    "evaluate_every": 24,
    "checkpoint_every": 24,
    "parallel": ["learned.tsv"],
    "held_out": "held_out.tsv",
    "languages": ["de"],
}


def names() -> list[tuple[str, str]]:
    """The English and the German name of each emoji of the evaluation set."""
    folder = models_dir() / "nano" / "evaluation"
    english = [json.loads(line)["text"] for line in (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    return list(zip(english, (folder / "languages" / "de.txt").read_text(encoding="utf-8").splitlines(), strict=True))


def divided(count: int | None = None) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What is learned, of which the first `count` alone, and what is held out: every twelfth name."""
    rows = names()
    return [row for number, row in enumerate(rows) if number % 12][:count], rows[::12]


def written(folder: Path, learned: list[tuple[str, str]], **changed: object) -> Path:
    """A recipe with its tables."""
    for name, part in (("learned", learned), ("held_out", divided()[1])):
        lines = ["en\tde", *("\t".join(row) for row in part)]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = folder / "recipe.yaml"
    recipe.write_text(json.dumps(RECIPE | changed), encoding="utf-8")
    return recipe


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tower")
    return mcd.train_text_tower(written(folder, divided()[0]), folder / "run").weights


def test_every_tensor_of_the_image_tower_keeps_its_bytes(tower: Path) -> None:
    before, after = load_file(builtin_checkpoint()), load_file(tower)
    kept = [name for name in before if not name.startswith("text_encoder.")]
    assert len(kept) > 100
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in kept)
    assert {value.dtype for name, value in after.items() if value.is_floating_point()} == {torch.float16}


def test_the_checkpoint_brings_its_vocabulary_and_has_the_space_of_its_teacher(tower: Path) -> None:
    model, teacher = mcd.load_model(checkpoint=tower), mcd.load_model()
    assert model.provenance.embedding_space == teacher.provenance.embedding_space
    assert model.provenance.weights != teacher.provenance.weights
    assert model.variant.tokens.vocab_size < 6000  # no pair of tokens occurs twice any more
    ids = mcd.tokenize(["Hund", "日本 ☕"], model)
    assert ids.shape == (2, 16)
    assert ids.max() == model.variant.tokens.eot


def test_an_export_and_its_verification_know_the_vocabulary(tower: Path, tmp_path: Path) -> None:
    model = mcd.load_model(checkpoint=tower)
    bundle = mcd.export(model, target="onnx", precision="fp32", tower="text", output=tmp_path, verify=False)
    opened = mcd.Bundle.open(bundle.path)
    assert opened.manifest.tokens == model.variant.tokens
    assert np.array_equal(mcd.tokenize(["heißer Kaffee"], opened), mcd.tokenize(["heißer Kaffee"], model))
    told = mcd.verify(opened, checkpoint=tower, thorough=False)
    assert told.passed, [check for check in told.checks if check.status == "failed"]
    merges = bundle.path / "tokenizer" / "merges.txt"
    lines = merges.read_text(encoding="utf-8").splitlines()
    merges.write_text("\n".join([lines[0], lines[2], lines[1], *lines[3:]]) + "\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"merges\.txt cannot be used"):
        mcd.Bundle.open(bundle.path)


def test_a_smaller_form_is_learned_folded_and_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nano's text tower with one transformer layer of two; a larger one is refused."""
    card = json.loads((models_dir() / "nano.json").read_text(encoding="utf-8"))
    for name, changed in (("short", {"depth": 1}), ("wide", {"width": 120})):
        other = card | {"name": name, "text": card["text"] | changed}
        (tmp_path / f"{name}.json").write_text(json.dumps(other), encoding="utf-8")
    known = variants._cards() | {name: tmp_path / f"{name}.json" for name in ("short", "wide")}
    monkeypatch.setattr(variants, "_cards", lambda: known)
    weights = mcd.train_text_tower(written(tmp_path, divided()[0], form="short"), tmp_path / "run").weights
    model = mcd.load_model(checkpoint=weights)
    assert (model.variant.name, model.variant.text.depth) == ("nano", 1)
    folded = mcd.load_model(checkpoint=mcd.convert(weights, "folded", tmp_path / "folded.safetensors").output)
    ids = torch.from_numpy(mcd.tokenize(["Hund"], model)).long()
    with torch.no_grad():
        assert torch.allclose(model.encode_text(ids), folded.encode_text(ids), atol=1e-4)
    bundle = mcd.export(model, target="onnx", precision="fp32", tower="text", output=tmp_path, verify=False)
    assert mcd.verify(bundle.path, checkpoint=weights, thorough=False).passed
    with pytest.raises(UsageError, match="2 layers of width 120, and the teacher's 2 of 96"):
        mcd.train_text_tower(written(tmp_path, divided(100)[0], form="wide"), tmp_path / "wide")


def test_another_image_tower_is_refused(tower: Path, tmp_path: Path) -> None:
    with safe_open(tower, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(tower)
    name = next(name for name in tensors if name.startswith("image_encoder.") and tensors[name].is_floating_point())
    tensors[name] = tensors[name] * 1.01
    save_file(tensors, tmp_path / "other.safetensors", metadata)
    with pytest.raises(CheckpointError, match=r"distilled for the image tower of weights\.safetensors"):
        mcd.load_model(checkpoint=tmp_path / "other.safetensors")


def test_a_table_whose_sides_do_not_belong_together_is_refused(tmp_path: Path) -> None:
    """The fault: the English side in another order. The same sentences in their order pass (`tower`)."""
    rows = divided()[0]
    moved = [(rows[number * 7 % len(rows)][0], german) for number, (_, german) in enumerate(rows, start=1)]
    recipe = written(tmp_path, moved)
    with pytest.raises(GateFailed, match=r"de was not learned .* check that both columns say the same"):
        mcd.train_text_tower(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_a_training_goes_on_from_a_checkpoint_with_its_vocabulary(tower: Path, tmp_path: Path) -> None:
    recipe = written(tmp_path, divided(100)[0], steps=2, start=str(tower))
    told = mcd.train_text_tower(recipe, tmp_path / "run")
    assert mcd.load_model(checkpoint=told.weights).variant.tokens == mcd.load_model(checkpoint=tower).variant.tokens
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert tuple(state["merges"]) == mcd.load_model(checkpoint=tower).variant.tokens.merges
    assert state["begun"]["de"]["before"] < 0.35
    with pytest.raises(UsageError, match="is not a checkpoint in training form with a text tower distilled"):
        mcd.train_text_tower(written(tmp_path, divided(100)[0], start=str(builtin_checkpoint())), tmp_path / "other")


def test_what_is_held_out_must_not_be_learned(tmp_path: Path) -> None:
    recipe = written(tmp_path, names()[:100])
    with pytest.raises(InvalidInput, match=r"of its texts are also learned"):
        mcd.train_text_tower(recipe, tmp_path / "run")


def test_a_teacher_is_whole_and_in_training_form(tower: Path, tmp_path: Path) -> None:
    recipe = written(tmp_path, divided(100)[0])
    with pytest.raises(UsageError, match="was itself distilled"):
        mcd.train_text_tower(recipe, tmp_path / "run", checkpoint=tower)
    mcd.convert(builtin_checkpoint(), "folded", tmp_path / "folded.safetensors")
    with pytest.raises(UsageError, match="is folded"):
        mcd.train_text_tower(recipe, tmp_path / "run", checkpoint=tmp_path / "folded.safetensors")


def test_equal_sentences_of_a_batch_are_no_negatives() -> None:
    targets = torch.eye(3)[[0, 1, 0]]
    same = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=torch.bool)
    told = distillation_loss(targets, targets, same, contrast=1.0, temperature=0.01)
    counted = distillation_loss(targets, targets, torch.eye(3, dtype=torch.bool), contrast=1.0, temperature=0.01)
    assert told < 1e-6 < counted
