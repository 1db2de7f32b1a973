"""Recovery trains on the grid that exports store, keeps the better tower, and refuses what it cannot do."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from command_line import refusal, run
from emoji_pairs import invert, write_pairs
from json_files import edited_json
from learning.reinforcement.test_building import narrow
from safetensors.torch import load_file
from writing import written

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.towers.tower import example_input, make_tower
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.mil import load
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import by_numbers
from mobileclip_deploy.training.recovery.plan import Settings
from mobileclip_deploy.training.recovery.recovering import Recovery
from mobileclip_deploy.training.recovery.training import Closeness, closeness

FEW = Settings(steps=6, batch=12, images=40, augmentations=1, learning_rate=3e-4)
GENTLE = Settings(steps=8, batch=12, images=40, augmentations=1, learning_rate=5e-5)
LONGER = replace(GENTLE, steps=16)  # ONNX's image tower at w4 is no nearer after 8
Array = npt.NDArray[np.generic]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "mine", 40)


class Results(dict[tuple[str, TowerName], tuple[Path, Recovery]]):
    """A tower of nano recovered for two precisions of Core ML or one of the others, a few steps, when first asked for.

    Both towers at once are what the test of the command recovers.
    """

    SETTINGS: ClassVar[dict[tuple[str, TowerName], tuple[str, str, Settings]]] = {
        ("w4", "image"): ("coreml", "w4", GENTLE),
        ("w4p", "text"): ("coreml", "w4p", GENTLE),
        ("onnx", "image"): ("onnx", "w4", LONGER),
        ("executorch", "image"): ("executorch", "w8a8", GENTLE),
        ("executorch", "text"): ("executorch", "w4", GENTLE),
    }

    def __init__(self, pairs: Path, folder: Path) -> None:
        self.pairs, self.folder = pairs, folder

    def __missing__(self, name: tuple[str, TowerName]) -> tuple[Path, Recovery]:
        target, precision, settings = self.SETTINGS[name]
        output, work = self.folder / f"{'-'.join(name)}.safetensors", self.folder / "embeddings"
        model = mcd.load_model()
        with pytest.MonkeyPatch.context() as patched:
            if precision == "w8a8":
                # A tower at w8a8 is within 0.0002 of its original: whether so few steps help hangs on the processor. It
                # is stored either way here, so that its integers can be compared.
                patched.setattr(Closeness, "better_than", lambda trained, without: True)
            how = {"tower": name[1], "target": target, "work": work, "settings": settings}
            found = mcd.recover(model, precision, self.pairs, output, **how)  # type: ignore[arg-type]
        self[name] = output, found
        return self[name]


@pytest.fixture(scope="module")
def results(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results(pairs, tmp_path_factory.mktemp("recovered"))


@functools.cache
def answers() -> Reference:
    """What nano answers. Bundles of recovered networks get it too, a second each: of these only weights are read."""
    model = mcd.load_model()
    return Reference.compute(model, sample_inputs(model))


def exported(checkpoint: Path, target: str, precision: str, folder: Path, towers: tuple[TowerName, ...]) -> mcd.Bundle:
    model = mcd.load_model(None, checkpoint)
    return written(model, get_target(target), dict.fromkeys(towers, precision), folder, answers(), verify=False).bundle


def sha256(integers: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(integers.astype(np.int8)).tobytes()).hexdigest()


def stored_integers(bundle: mcd.Bundle, tower: TowerName) -> set[str]:
    """SHA-256 of every array of integers that a Core ML package stores for a weight."""
    graph = load(bundle.artifact(tower)).graph
    found = set()
    for value in graph.fixed.values():
        operands = getattr(getattr(value, "source", None), "operands", {})
        for name in ("data", "quantized_data"):
            if name in operands:
                found.add(sha256(np.asarray(operands[name].array())))
    return found


@pytest.fixture(scope="module")
def verified(results: Results, tmp_path_factory: pytest.TempPathFactory) -> mcd.Bundle:
    """The image tower recovered for Core ML's w4, exported and verified."""
    model = mcd.load_model(None, results["w4", "image"][0])
    return mcd.export(model, "coreml", "w4", tmp_path_factory.mktemp("verified"), tower="image")


@pytest.mark.slow  # grids/test_train.py: what is trained is what is encoded
def test_core_ml_stores_the_integers_that_were_trained(results: Results, verified: mcd.Bundle) -> None:
    (weights,) = (one.weights for one in results["w4", "image"][1].towers)
    assert len(weights) > 8
    stored = stored_integers(verified, "image")
    assert [weight.name for weight in weights if weight.sha256 not in stored] == []


@pytest.mark.slow  # grids/test_train.py
def test_xnnpack_stores_the_integers_that_were_trained_for_four_bits(results: Results) -> None:
    from torchao.quantization import IntxUnpackedToInt8Tensor

    from mobileclip_deploy.targets.executorch.embedding import Int8Embedding

    quantized = on_xnnpack(results["executorch", "text"][0], "text", "w4")
    linear = [one.qdata for one in quantized.parameters() if isinstance(one, IntxUnpackedToInt8Tensor)]
    tables = [one.table for one in quantized.modules() if isinstance(one, Int8Embedding)]
    stored = {sha256(integers.numpy()) for integers in (*linear, *tables)}
    (weights,) = (one.weights for one in results["executorch", "text"][1].towers)
    assert len(weights) > 8
    assert [one.name for one in weights if one.sha256 not in stored] == []


def on_xnnpack(checkpoint: Path, tower: TowerName, precision: str) -> torch.nn.Module:
    """A tower as it is quantized before it is lowered."""
    from mobileclip_deploy.targets.executorch.authoring import authored, split_large_depthwise
    from mobileclip_deploy.targets.executorch.backends import FreeShape
    from mobileclip_deploy.targets.executorch.quantization import quantize
    from mobileclip_deploy.targets.executorch.stages import Stages

    model = mcd.load_model(None, checkpoint)
    exported = make_tower(model, tower)
    storage = storage_of(get_target("executorch"), tower, exported, precision)
    grids = {key: storage[name] for key, name in by_numbers(exported, storage).items()}
    module = authored(exported)
    split_large_depthwise(module)
    inputs = example_input(model, tower)
    return quantize(module, precision, inputs, Stages(tower, module, inputs, 0.5), grids, FreeShape())


@pytest.mark.once
@pytest.mark.parametrize("name", [name for name, (_, precision, _) in Results.SETTINGS.items() if precision != "w8a8"])
def test_training_brings_a_tower_closer_to_its_original(results: Results, name: tuple[str, TowerName]) -> None:
    (told,) = results[name][1].towers
    assert told.kept
    assert told.trained.mean > told.without.mean


@pytest.mark.slow  # rounding/ has it of learned rounding
def test_a_tower_that_training_makes_worse_stays_as_it_was(pairs: Path, tmp_path: Path) -> None:
    wild = Settings(steps=3, batch=12, images=40, augmentations=1, learning_rate=1.0)
    output = tmp_path / "wild.safetensors"
    result = mcd.recover(mcd.load_model(), "w4", pairs, output, tower="text", settings=wild)
    assert not result.towers[0].kept
    model = mcd.load_model()
    mcd.reparameterize(model)
    before, after = model.state_dict(), load_file(output)
    assert [name for name, value in before.items() if not torch.equal(value, after[name])] == []
    again = mcd.load_model(None, output)
    assert again.provenance.recovered is None
    assert "not recovered for w4 on coreml, training did not help" in again.provenance.notes[-1]


def test_the_file_says_what_it_is_and_stays_in_the_space_of_its_source(results: Results) -> None:
    source, model = mcd.load_model().provenance, mcd.load_model(None, results["w4", "image"][0]).provenance
    assert model.recovered.source_sha256 == source.sha256
    assert model.recovered.precisions["image"] == "w4"
    assert (model.sha256, model.builtin) != (source.sha256, True)
    assert model.embedding_space == source.embedding_space


@pytest.mark.slow
def test_an_export_of_it_is_verified_against_what_was_trained(verified: mcd.Bundle) -> None:
    shipped = next(check for check in verified.parity if check.step == "shipped")
    assert shipped.deviation.cosine > 0.999
    recovered = verified.manifest.checkpoint.recovered
    assert recovered.target == "coreml"
    # How near the float original that is, the notes say.
    assert verified.manifest.checkpoint.notes[-1].startswith(
        "image tower recovered for w4 on coreml: mean cosine to the float original 0.9"
    )


@pytest.mark.slow
def test_activations_are_rounded_while_w8a8_is_trained(pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "w8a8.safetensors"
    (image,) = mcd.recover(mcd.load_model(), "w8a8", pairs, output, tower="image", settings=FEW).towers
    assert 0.9 < image.without.mean < 0.9999
    assert {weight.grid for weight in image.weights} == {"int8, a scale an output"}


@pytest.mark.parametrize(("precision", "tower"), [("w4", "image"), pytest.param("w4p", "text", marks=pytest.mark.slow)])
def test_what_no_residual_branch_passes_by_keeps_eight_bits(results: Results, precision: str, tower: TowerName) -> None:
    (weights,) = (one.weights for one in results[precision, tower][1].towers)
    grids = {weight.name: weight.grid for weight in weights}
    deep = [f"stages.{number}.downsample.1.conv" for number in (1, 2, 3)] if tower == "image" else []
    assert {grids[name] for name in ("projection", *deep)} == {"int8, a scale an output"}
    assert tower == "image" or not grids["token_embedding"].startswith("int8")


@pytest.mark.slow
def test_the_same_recovery_gives_the_same_bytes(pairs: Path, results: Results, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    mcd.recover(mcd.load_model(), "w4", pairs, again, tower="image", settings=GENTLE)
    assert again.read_bytes() == results["w4", "image"][0].read_bytes()


def test_the_command_reports_both_and_writes_a_report(pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine.safetensors"
    arguments = ["--precision", "image=w4,text=w8", "--steps", "2", "--batch", "8", "--images", "20"]
    done = run("recover", *arguments, "--data", pairs, "-o", output)
    assert done.code == 0, done.stderr
    assert "image w4" in done.stdout
    assert "text w8" in done.stdout
    report = json.loads(output.with_suffix(".report.json").read_text())
    assert [one["tower"] for one in report["towers"]] == ["image", "text"]
    assert all(one["weights"][0]["sha256"] for one in report["towers"])
    assert refusal(run("recover", *arguments, "--data", pairs, "-o", output)).endswith("another output with -o")


def test_recovering_twice_is_refused(results: Results, pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="was recovered already; give the original checkpoint"):
        mcd.recover(
            mcd.load_model(None, results["w4", "image"][0]), "w4", pairs, tmp_path / "x.safetensors", settings=FEW
        )


@pytest.mark.parametrize(("target", "precision"), [("onnx", "w4p"), ("executorch", "image=w4,text=w8")])
def test_a_precision_that_the_target_lacks_is_refused(target: str, precision: str, pairs: Path, tmp_path: Path) -> None:
    arguments = ["--target", target, "--precision", precision, "--data", pairs, "-o", tmp_path / "x.safetensors"]
    assert f"{target} has no precision w4" in refusal(run("recover", *arguments))


@pytest.mark.slow
def test_an_export_to_another_target_says_what_the_weights_were_trained_for(results: Results, tmp_path: Path) -> None:
    arguments = ["--checkpoint", results["w4", "image"][0], "--precision", "w4", "--tower", "image", "--no-verify"]
    done = run("export", "--target", "onnx", *arguments, "-o", tmp_path)
    assert done.code in (0, 3), done.stderr
    assert "recovered for coreml; onnx rounds them again" in done.stderr


@pytest.mark.parametrize("precision", ["fp16", "w4p-p50"])
def test_a_precision_without_a_grid_is_refused(precision: str, pairs: Path, tmp_path: Path) -> None:
    line = refusal(run("recover", "--precision", precision, "--data", pairs, "-o", tmp_path / "x.safetensors"))
    assert "cannot be recovered; w8, w8a8, w6p, w4p, w4 can" in line


def test_the_text_tower_needs_captions(tmp_path: Path) -> None:
    plain = write_pairs(tmp_path / "plain", 12, captions=False)
    with pytest.raises(InvalidInput, match=r"has no captions.*`tower='image'`"):
        mcd.recover(mcd.load_model(), "w4", plain, tmp_path / "x.safetensors", tower="text", settings=FEW)


def test_too_little_data_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    output = tmp_path / "x.safetensors"
    five, plain = write_pairs(tmp_path / "five", 5), write_pairs(tmp_path / "plain", 12, captions=False)
    for data, says in ((five, "has 5 images; recovery needs at least 10"), (plain, "has no captions")):
        for force in ([], ["--force"]):
            command = ["recover", "--precision", "w4", "--data", str(data), "-o", str(output), *force]
            refused = run(*command)
            assert (refused.code, says in refused.stderr) == (2, True)
            assert sorted(path.name for path in tmp_path.iterdir()) == ["five", "plain"]


QUICK = ("--precision", "w8", "--tower", "image", "--steps", "1", "--batch", "4", "--images", "10", "--json")


@pytest.mark.slow
def test_figures_are_of_the_pictures_that_are_named_whatever_was_stored_before(tmp_path: Path) -> None:
    mine, other = write_pairs(tmp_path / "mine", 10), invert(write_pairs(tmp_path / "other", 10))
    (tmp_path / "a").mkdir()
    again, fresh = tmp_path / "a" / "x.safetensors", tmp_path / "fresh.safetensors"

    def figures(data: Path, output: Path, *more: str | Path) -> object:
        done = run("recover", *QUICK, "--data", data, "-o", output, *more)
        assert done.code == 0, done.stderr
        return done.json["towers"]

    first, wanted = figures(mine, again), figures(other, fresh)
    assert first != wanted
    assert figures(other, again, "--force") == wanted
    # Without --force too: of an output that is gone, its embeddings may still be there.
    for file in (again, again.with_suffix(".report.json")):
        file.unlink()
    assert figures(mine, again) == first


@pytest.mark.slow
def test_a_folder_of_embeddings_that_was_named_is_replaced_only_when_asked_for(tmp_path: Path) -> None:
    mine, few = write_pairs(tmp_path / "mine", 12), write_pairs(tmp_path / "few", 10)
    mcd.reinforce(mine, [mcd.load_model()], tmp_path / "work")
    command = ["recover", *QUICK, "--data", few, "--work", tmp_path / "work", "-o", tmp_path / "x.safetensors"]
    refused = run(*command)
    assert (refused.code, "replace it with --force" in refused.stderr) == (2, True)
    done = run(*command, "--force")
    assert done.code == 0, done.stderr
    assert done.json["inputs"] == 10


def test_embeddings_of_another_checkpoint_are_refused(pairs: Path, tmp_path: Path) -> None:
    mcd.reinforce(pairs, [mcd.load_model()], tmp_path / "own", augmentations=1)
    with edited_json(tmp_path / "own" / "index.json") as index:
        index["teachers"][0] |= {"sha256": "0" * 64, "weights": "0" * 64}
    with pytest.raises(InvalidInput, match=r"not by weights\.safetensors alone"):
        mcd.recover(mcd.load_model(), "w4", tmp_path / "own", tmp_path / "x.safetensors", settings=FEW)


def test_embeddings_of_another_size_are_refused(pairs: Path, tmp_path: Path) -> None:
    mcd.reinforce(pairs, [narrow()], tmp_path / "other", augmentations=1)
    with pytest.raises(InvalidInput, match=r"has embeddings of 96 dimensions .* has 128"):
        mcd.recover(mcd.load_model(), "w4", tmp_path / "other", tmp_path / "x.safetensors", settings=FEW)


def test_a_tower_is_kept_only_where_it_is_nearer_and_ranks_no_worse() -> None:
    plain = Closeness(0.99, 0.9, 0.95)
    assert Closeness(0.995, 0.9, 0.95).better_than(plain)
    assert not Closeness(0.995, 0.9, 0.94).better_than(plain)
    assert not Closeness(0.99, 0.95, 0.96).better_than(plain)


def test_agreement_counts_what_is_named_first_and_embeddings_that_are_no_numbers_count_as_far_away() -> None:
    class Held:
        across = torch.eye(3)

        def held_back(self) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.zeros(4, 3), torch.eye(3)[[0, 1, 2, 2]]

    held: Any = Held()
    assert closeness(lambda given: torch.eye(3)[[0, 1, 0, 2]], held, 4) == Closeness(0.75, 0.0, 0.75)
    assert closeness(lambda given: torch.full((len(given), 3), torch.nan), held, 2) == Closeness(-1.0, -1.0, 0.0)
