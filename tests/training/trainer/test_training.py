"""Training follows its recipe, resumes to the same bits after kill -9, and refuses what it cannot train on."""

import csv
import sys
from pathlib import Path

import pytest
import torch
from command_line import Outcome, killed, refusal, run
from emoji_pairs import write_pairs
from programs import output
from safetensors.torch import load_file

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint
from mobileclip_deploy.training.reinforcement.samples import Batch
from mobileclip_deploy.training.trainer import running
from mobileclip_deploy.training.trainer.network import start
from mobileclip_deploy.training.trainer.recipe import read_recipe

RECIPE = """\
version: 1
variant: nano
data: reinforced
evaluation: pairs
steps: 4
batch: 8
learning_rate: 0.001
average: 0.9
checkpoint_every: 1
evaluate_every: 2
"""
PLAIN = (
    RECIPE.replace("data: reinforced", "data: pairs")
    + """\
distillation: 0
anchors: {captions: 4}
augmentation: {hue: 0.5}
"""
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs, the same as an evaluation set, and a reinforced dataset of them."""
    place = tmp_path_factory.mktemp("training")
    write_pairs(place / "pairs", 24)
    (place / "pairs.csv").write_text("image,text\n")
    mcd.reinforce(place / "pairs", [mcd.load_model()], place / "reinforced", augmentations=2)
    return place


def write(folder: Path, text: str = RECIPE, name: str = "recipe.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.fixture(scope="module")
def finished(folder: Path) -> Outcome:
    """A whole run of the recipe, on the command line."""
    return run("train", write(folder), "-o", folder / "whole")


@pytest.fixture(scope="module")
def trained(folder: Path, finished: Outcome) -> Path:
    """The folder of that run."""
    assert finished.code == 0, finished.stderr
    return folder / "whole"


@pytest.mark.slow
def test_what_was_trained_is_a_checkpoint_like_any_other(trained: Path) -> None:
    model = mcd.load_model(None, trained / "weights.safetensors")
    assert (model.variant.name, model.provenance.layout if model.provenance else None) == ("nano", "apple")
    assert torch.isfinite(model.encode_image(torch.rand(2, 3, 64, 64))).all()


def test_loss_and_recall_are_logged_and_shown_when_they_are_measured(trained: Path, finished: Outcome) -> None:
    with (trained / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["step"], row["samples"]) for row in rows] == [("2", "16"), ("4", "32")]
    assert all(float(row["loss"]) > 0 and 0 <= float(row["image_to_text_recall"]) <= 100 for row in rows)
    shown = [line.split(", loss ")[0] for line in finished.stderr.splitlines() if ", held-out recall@1 " in line]
    assert shown == ["step 2", "step 4"]


@pytest.fixture(scope="module")
def trained_plainly(folder: Path) -> Path:
    """The folder of a run on plain pairs, with anchors."""
    return mcd.train(write(folder, PLAIN, "plain.yaml"), folder / "plain").folder


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_to_the_same_bits(folder: Path, trained_plainly: Path) -> None:
    stopped = folder / "killed"
    program = (
        "import os, signal, mobileclip_deploy.training.trainer.running as r\n"
        "update = r._Training.update\n"
        "def dying(self, batch):\n"
        "    if self.step == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    update(self, batch)\n"
        "r._Training.update = dying"
    )
    arguments = ["train", folder / "plain.yaml", "-o", stopped]
    killed(program, *arguments)
    assert not (stopped / "weights.safetensors").exists()
    resumed = run(*arguments)
    assert resumed.code == 0, resumed.stderr
    assert "resumed at step 3" in resumed.stdout
    for name in ("weights.safetensors", "log.csv"):
        assert (stopped / name).read_bytes() == (trained_plainly / name).read_bytes(), name


def test_a_finished_training_is_not_trained_again(folder: Path, trained: Path) -> None:
    before = (trained / "weights.safetensors").read_bytes()
    assert run("train", folder / "recipe.yaml", "-o", trained, "--json").json["resumed_at"] == 4
    assert (trained / "weights.safetensors").read_bytes() == before


def test_another_recipe_does_not_go_on_from_it(folder: Path, trained: Path) -> None:
    other = write(folder, RECIPE.replace("0.001", "0.002"), "other.yaml")
    with pytest.raises(UsageError, match="has a training run with other learning_rate"):
        mcd.train(other, trained)


def test_a_damaged_checkpoint_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 cut off")
    assert "checkpoint.pt is damaged; remove it" in refusal(run("train", write(folder), "-o", tmp_path))


def test_a_training_can_start_from_a_checkpoint(folder: Path) -> None:
    recipe = read_recipe(write(folder, RECIPE + f"start: {builtin_checkpoint()}\n", "start.yaml"))
    ours, theirs = start(recipe), mcd.load_model()
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    assert ours.training


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("steps: 4", "steps: -2"), "steps is -2; it must be above 0"),
        (("batch: 8", "# no batch"), "batch is missing; for example `batch: 64`"),
        (("batch: 8", "batch: 8\nwarmpu: 0.1"), "unknown field warmpu, did you mean warmup?; known: version, steps"),
        (("average: 0.9", "average: 1"), "average is 1; it must be below 1"),
        ((RECIPE, "- steps\n"), "a recipe has one `field: value` per line, such as `steps: 2000`"),
        (("version: 1", "version: 7"), "version is 7; it must be 1"),
        (("version: 1", "version: ["), "is not YAML"),
        (("steps: 4", "steps: yes"), "steps: true (as YAML reads yes"),
        (("steps: 4", "weight_decay: .inf\nsteps: 4"), "weight_decay is Infinity; it must be a finite number"),
        (("steps: 4", "steps: 4\nsteps: 40"), "is not YAML: steps is given twice, again in line "),
        (("variant: nano", "variant: mano"), "unknown variant"),
        (
            ("data: reinforced", "data: pairs"),
            "holds plain pairs, and distillation is 0.7 (the default), which needs what",
        ),
        (("data: reinforced", "data: pairs/pairs.jsonl"), "pairs.jsonl holds plain pairs, and distillation is 0.7"),
        (("data: reinforced", "data: pairs.csv"), "pairs.csv holds plain pairs, and distillation is"),
        (("data: reinforced", "data: ."), "is not a reinforced dataset"),
        (("evaluation: pairs", "evaluation: nowhere"), "nowhere"),
        (("steps: 4", "anchors: {}\nsteps: 4"), "anchors cannot be combined with teachers; set distillation to 0"),
        (("steps: 4", "augmentation: {}\nsteps: 4"), "stores its augmentations; leave `augmentation` out"),
        (
            ("steps: 4", "augmentation: {tint: 1}\nsteps: 4"),
            "unknown field augmentation.tint; known: scale, ratio, mirror",
        ),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(change: tuple[str, str], words: str, folder: Path) -> None:
    path = write(folder, RECIPE.replace(*change), "wrong.yaml")
    assert words in refusal(run("train", path, "-o", folder / "never"))


def test_pairs_without_captions_are_not_trained_on(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", 12, captions=False)
    mcd.reinforce(pairs, [mcd.load_model()], tmp_path / "reinforced", augmentations=1)
    with pytest.raises(InvalidInput, match="has no captions"):
        mcd.train(write(tmp_path), tmp_path / "out")


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.slow  # test_processes.py: shares of a batch have the gradients of the whole
def test_two_processes_go_on_from_one_to_the_weights_of_one(
    folder: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Exception):
        pass

    update = running._Training.update

    def stopping(training: running._Training, batch: Batch) -> None:
        if training.step == 2:
            raise Stopped
        update(training, batch)

    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(running._Training, "update", stopping)
        mcd.train(folder / "recipe.yaml", tmp_path / "two")
    command = [*TORCHRUN, "-m", "mobileclip_deploy", "train", str(folder / "recipe.yaml"), "-o", str(tmp_path / "two")]
    assert output(*command).count("resumed at step 2") == 1  # one of the processes tells
    ours, theirs = (load_file(place / "weights.safetensors") for place in (trained, tmp_path / "two"))
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-5, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")
    rows = [list(csv.DictReader((place / "log.csv").open())) for place in (trained, tmp_path / "two")]
    for one, two in zip(*rows, strict=True):
        assert {name: float(value) for name, value in two.items()} == pytest.approx(
            {name: float(value) for name, value in one.items()}, rel=1e-4
        )
