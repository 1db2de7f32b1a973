"""A reinforced dataset holds what its teachers say, is the same however often it was stopped, and notices damage."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from command_line import refusal, run
from emoji_pairs import contents, invert, write_pairs
from json_files import edited_json
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation.pairs import read_pairs
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint
from mobileclip_deploy.network.model.variants import load_variant
from mobileclip_deploy.training.reinforcement.building import ReinforcementSettings, reinforce
from mobileclip_deploy.training.reinforcement.index import read_index
from mobileclip_deploy.training.reinforcement.samples import ReinforcedDataset, collate
from mobileclip_deploy.training.reinforcement.teachers import Teacher

COUNT, SHARD = 24, 10
SETTINGS = ReinforcementSettings(augmentations=2, shard_rows=SHARD)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "mine", COUNT)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher.of(mcd.load_model())


@pytest.fixture
def made(pairs: Path, teacher: Teacher, tmp_path: Path) -> Path:
    reinforce(read_pairs(pairs), [teacher], tmp_path / "made", SETTINGS)
    return tmp_path / "made"


def test_what_is_stored_is_what_the_teacher_says_of_what_is_replayed(made: Path, teacher: Teacher) -> None:
    dataset = ReinforcedDataset(made, load_variant("nano"))
    batch = collate([dataset[choice] for choice in dataset.choose(16, torch.Generator().manual_seed(0))])
    images = F.normalize(teacher.model.encode_image(batch.pixels), dim=1)
    assert (images * batch.images[0]).sum(1).min() > 1 - 1e-4
    for number in range(2):
        texts = F.normalize(teacher.model.encode_text(batch.ids[:, number]), dim=1)
        assert (texts * batch.texts[0][:, number]).sum(1).min() > 1 - 1e-4


def narrow() -> mcd.MobileCLIP:
    """A network whose embeddings have 96 numbers."""
    other = mcd.load_model()
    other.image.projection = torch.nn.Linear(256 * 2, 96)  # type: ignore[union-attr]
    other.text.projection = torch.nn.Linear(96, 96)  # type: ignore[union-attr]
    other.variant = other.variant.model_copy(update={"embed_dim": 96})
    return other


def test_two_teachers_of_different_embedding_sizes_are_stored_side_by_side(
    pairs: Path, teacher: Teacher, tmp_path: Path
) -> None:
    reinforce(read_pairs(pairs), [teacher, Teacher.of(narrow())], tmp_path / "two", SETTINGS)
    dataset = ReinforcedDataset(tmp_path / "two", load_variant("nano"))
    assert [tuple(stored.shape) for stored in dataset.images] == [(COUNT, 2, 128), (COUNT, 2, 96)]


def test_images_without_captions_are_stored_too(teacher: Teacher, tmp_path: Path) -> None:
    plain = write_pairs(tmp_path / "plain", 3, captions=False)
    reinforce(read_pairs(plain), [teacher], tmp_path / "made", ReinforcementSettings(augmentations=1))
    dataset = ReinforcedDataset(tmp_path / "made", load_variant("nano"))
    batch = collate([dataset[choice] for choice in dataset.choose(3, torch.Generator())])
    assert batch.ids.shape == (3, 0, 77)
    assert batch.texts[0].shape == (3, 0, 128)


def test_a_damaged_shard_is_named_and_made_again(pairs: Path, made: Path, teacher: Teacher) -> None:
    before = contents(made)
    shard = made / "shard-00000010.safetensors"
    shard.write_bytes(before[shard.name][:-1] + b"\x7f")
    with pytest.raises(InvalidInput, match=r"shard-00000010.*damaged .*repeat the same"):
        ReinforcedDataset(made, load_variant("nano"))
    result = reinforce(read_pairs(pairs), [teacher], made, SETTINGS)
    assert (result.made, result.kept) == (1, 2)
    assert contents(made) == before


def test_an_index_that_does_not_fit_its_shards_or_is_incomplete_is_refused(made: Path) -> None:
    with edited_json(made / "index.json") as index:
        index["teachers"][0]["embed_dim"] = 512
    with pytest.raises(InvalidInput, match=r"images.0 is \[10, 2, 128\], but the index's teachers have \[10, 2, 512\]"):
        ReinforcedDataset(made, load_variant("nano"))
    with edited_json(made / "index.json") as index:
        index["teachers"][0]["embed_dim"] = 128
        index["shards"].pop()
    with pytest.raises(InvalidInput, match="has 20 of 24 pairs"):
        ReinforcedDataset(made, load_variant("nano"))


def test_an_image_that_vanished_stops_before_anything_is_lost(pairs: Path, teacher: Teacher, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(pairs, tmp_path / "mine"))
    output = tmp_path / "made"
    done = run("reinforce", mine, "--augmentations", "1", "--shard-rows", SHARD, "-o", output, "--json").json
    assert (done["made"], done["kept"]) == (len(list(output.glob("*.safetensors"))), 0)
    stored = contents(output)
    gone = sorted(mine.glob("*.png"))[-1]
    gone.unlink()
    line = refusal(run("reinforce", mine, "--augmentations", "1", "--shard-rows", SHARD, "-o", output))
    assert gone.name in line
    assert contents(output) == stored
    with pytest.raises(InvalidInput, match=gone.name):
        ReinforcedDataset(output, load_variant("nano"))


def test_an_image_that_was_replaced_is_noticed_when_it_is_read(pairs: Path, made: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(pairs, tmp_path / "mine"))
    dataset = ReinforcedDataset(made, load_variant("nano"), images=mine)
    first, second = sorted(mine.glob("*.png"))[:2]
    shutil.copy(second, first)
    row = next(number for number, pair in enumerate(dataset.pairs.rows) if pair.image == first.name)
    choice = next(choice for choice in dataset.choose(COUNT, torch.Generator()) if choice.row == row)
    with pytest.raises(InvalidInput, match="has changed since it was embedded"):
        dataset[choice]


def test_captions_for_some_rows_only_are_refused(tmp_path: Path) -> None:
    mine = write_pairs(tmp_path / "mine", 3)
    lines = (mine / "pairs.jsonl").read_text().splitlines()
    bare = json.dumps({"image": json.loads(lines[1])["image"]})
    (mine / "pairs.jsonl").write_text("\n".join([lines[0], bare, lines[2]]))
    line = refusal(run("reinforce", mine, "-o", tmp_path / "out"))
    assert "pair 2 lacks a text" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"text": "cat"}', "pairs.jsonl:1: image: missing"),
        ("cat", "pairs.jsonl:1: invalid JSON, at line 1, column 1"),
        ('{"image": "none.png", "text": "cat"}', "no image at"),
        ("", "holds no pairs"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(row: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(row)
    assert words in refusal(run("reinforce", tmp_path, "-o", tmp_path / "out"))


def test_a_folder_of_another_request_and_one_of_other_files_are_left_alone(
    pairs: Path, made: Path, teacher: Teacher, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="other augmentations, seed"):
        reinforce(read_pairs(pairs), [teacher], made, ReinforcementSettings(augmentations=3, seed=9, shard_rows=SHARD))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="not a reinforced dataset"):
        reinforce(read_pairs(pairs), [teacher], tmp_path / "other")
    assert os.listdir(tmp_path / "other") == ["letter.txt"]


def test_a_teacher_needs_both_towers(tmp_path: Path) -> None:
    half = {key: value for key, value in load_file(builtin_checkpoint()).items() if key.startswith("image_encoder.")}
    save_file(half, tmp_path / "image.safetensors")
    mine = write_pairs(tmp_path / "mine", 2)
    arguments = ("--teacher", tmp_path / "image.safetensors", "-o", tmp_path / "out")
    assert "has the image tower only" in refusal(run("reinforce", mine, *arguments))


def test_what_is_stored_of_other_pictures_of_the_same_names_is_made_again(
    made: Path, teacher: Teacher, tmp_path: Path
) -> None:
    other = read_pairs(invert(write_pairs(tmp_path / "other", COUNT)))
    result = reinforce(other, [teacher], made, SETTINGS)
    assert (result.made, result.kept) == (3, 0)
    reinforce(other, [teacher], tmp_path / "fresh", SETTINGS)
    assert contents(made) == contents(tmp_path / "fresh")


def test_the_same_pictures_elsewhere_are_kept_and_read_from_there(
    pairs: Path, made: Path, teacher: Teacher, tmp_path: Path
) -> None:
    shutil.copytree(pairs, tmp_path / "moved")
    result = reinforce(read_pairs(tmp_path / "moved"), [teacher], made, SETTINGS)
    assert (result.made, result.kept) == (0, 3)
    assert read_index(made).images == str((tmp_path / "moved").resolve())


def test_a_teacher_is_its_weights_whatever_file_holds_them(pairs: Path, made: Path, teacher: Teacher) -> None:
    index = read_index(made)
    assert index.teachers[0].weights == teacher.entry.weights is not None
    elsewhere = teacher.entry.model_copy(update={"file": "nano.pt", "sha256": "0" * 64})
    again = reinforce(read_pairs(pairs), [Teacher(teacher.model, elsewhere)], made, SETTINGS)
    assert (again.made, again.kept, again.index.teachers) == (0, 3, index.teachers)
    old = teacher.entry.model_copy(update={"weights": None})  # as earlier versions wrote it: known by its file
    index.model_copy(update={"teachers": (old,)}).write(made)
    assert reinforce(read_pairs(pairs), [teacher], made, SETTINGS).kept == 3
    with pytest.raises(UsageError, match="other teachers"):
        reinforce(read_pairs(pairs), [Teacher(teacher.model, elsewhere)], made, SETTINGS)


def test_force_begins_anew_and_leaves_nothing_of_what_was_there(pairs: Path, made: Path, tmp_path: Path) -> None:
    command: list[str | Path] = ["reinforce", pairs, "--augmentations", "2", "--shard-rows", str(SHARD), "-o", made]
    assert "3 shards made and 0 kept" in run(*command, "--force").stdout
    few = write_pairs(tmp_path / "few", 4)
    command[1] = few
    refused = run(*command)
    assert (refused.code, "replace it with --force" in refused.stderr) == (2, True)
    (made / "notes.txt").write_text("mine")
    assert run(*command, "--force").code == 0
    assert sorted(contents(made)) == ["index.json", "notes.txt", "pairs.jsonl", "shard-00000000.safetensors"]
    ReinforcedDataset(made, load_variant("nano"))


def test_a_run_that_was_refused_before_it_stored_anything_blocks_none(tmp_path: Path) -> None:
    other = write_pairs(tmp_path / "other", COUNT)
    picture = other / read_pairs(other).rows[0].image
    picture.write_bytes(b"no picture")
    assert picture.name in run("reinforce", other, "-o", tmp_path / "made").stderr
    assert run("reinforce", write_pairs(tmp_path / "few", 3), "-o", tmp_path / "made").code == 0
