"""`audit` of files that other tools wrote: the model, the convention of its inputs, and what is wrong with it."""

import contextlib
import copy
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import run
from exports import Exports
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput, RuntimeFailed
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.verify.audit import opening

PIXELS = torch.linspace(0, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


class Wrapped(nn.Module):
    """A tower between two functions, as exporters write it."""

    def __init__(self, tower: nn.Module, before: Callable[..., Any], after: Callable[..., Any]) -> None:
        super().__init__()
        self.tower, self.before, self.after = tower, before, after

    def forward(self, *inputs: Tensor) -> Any:
        return self.after(self.tower(self.before(*inputs)))


class Joint(nn.Module):
    """CLIP's joint graph, as transformers' exporters write it."""

    def __init__(self, model: MobileCLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image = F.normalize(self.model.encode_image(pixels))
        text = F.normalize(self.model.encode_text(ids * mask))
        return self.model.logit_factor * image @ text.T, text, image


def same(x: Any) -> Any:
    return x


def write(
    path: Path, tower: nn.Module, example: Tensor | tuple[Tensor, ...], before: Any = same, after: Any = same
) -> Path:
    """Writes a tower with torch's own exporter, unfolded."""
    examples = example if isinstance(example, tuple) else (example,)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = Wrapped(tower, before, after).eval()
        torch.onnx.export(wrapped, examples, path, dynamo=False, input_names=["x"], output_names=["y"])
    return path


@pytest.fixture(scope="module")
def model() -> Any:
    return mcd.load_model()


@pytest.fixture(scope="module")
def ids() -> Tensor:
    return torch.from_numpy(encode(["a photo of a dog"]))


def test_the_convention_of_a_right_file_is_found(model: Any, tmp_path: Path) -> None:
    path = write(
        tmp_path / "theirs.onnx",
        model.image,
        torch.rand(1, 64, 64, 3),
        before=lambda x: x.permute(0, 3, 1, 2).flip(1) / 255,
        after=F.normalize,
    )
    report = mcd.verify_file(path)
    (tower,) = report.towers
    assert (report.verdict, tower.precision, tower.weights.found) == ("same", "fp32", tower.weights.total)
    assert tower.input.form == "NHWC float32, BGR, 0 ... 255"
    assert tower.output.length == "normalised"
    assert tower.distance < 5e-6
    assert report.unknown


def test_a_branch_left_out_is_named(model: Any, tmp_path: Path) -> None:
    tower = copy.deepcopy(model.image)
    tower.stages[1].blocks[0].token_mixer.mixer.scale = None
    path = write(tmp_path / "theirs.onnx", tower, PIXELS)
    outcome = run("--quiet", "audit", path, "--checkpoint", "nano", "--json")
    document = json.loads(outcome.stdout)
    assert outcome.code == 1
    assert (document["verdict"], document["passed"]) == ("defect", False)
    assert document["towers"][0]["cause"] == "branch:scale-branch"
    assert "stages.1.blocks.0.token_mixer.mixer" in document["sentence"]


def activation(kind: nn.Module) -> Callable[[Any], None]:
    def change(tower: Any) -> None:
        for module in tower.modules():
            if isinstance(getattr(module, "act", None), nn.GELU):
                module.act = kind

    return change


def causal(tower: Any) -> None:
    tower.causal_mask = torch.full((77, 77), -1e4).triu(1)


@pytest.mark.slow  # the others are in verify/audit/judge_subjects.py, a script
@pytest.mark.parametrize(
    ("side", "change", "cause"),
    [
        ("image", activation(nn.GELU(approximate="tanh")), "gelu-tanh"),
        ("text", causal, "mask-causal"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_planted_fault_is_named(
    model: Any, ids: Tensor, tmp_path: Path, side: str, change: Callable[[Any], None], cause: str
) -> None:
    tower = copy.deepcopy(getattr(model, side))
    change(tower)
    report = mcd.verify_file(write(tmp_path / "theirs.onnx", tower, PIXELS if side == "image" else ids))
    assert (report.verdict, report.towers[0].cause) == ("defect", cause)


@pytest.mark.slow
def test_a_normalisation_that_the_checkpoint_does_not_have_is_named(model: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "theirs.onnx", model.image, PIXELS, before=lambda x: (x - MEAN) / STD)
    tower = mcd.verify_file(path).towers[0]
    assert (tower.verdict, tower.cause) == ("defect", "normalised-inside")
    assert "ImageNet" in str(tower.cause_text)


@pytest.mark.slow
def test_weights_of_another_training_are_not_called_a_defect(model: Any, tmp_path: Path) -> None:
    tower = copy.deepcopy(model.image)
    generator = torch.Generator().manual_seed(3)
    for value in tower.parameters():
        value.data += 0.5 * value.data.std(correction=0) * torch.randn(value.shape, generator=generator)
    report = mcd.verify_file(write(tmp_path / "theirs.onnx", tower, PIXELS))
    assert report.verdict == "other weights"


@pytest.mark.slow
def test_one_changed_layer_is_named(model: Any, tmp_path: Path) -> None:
    tower = copy.deepcopy(model.image)
    tower.stages[1].blocks[0].ffn.fc1.weight.data *= 1.0005
    report = mcd.verify_file(write(tmp_path / "theirs.onnx", tower, PIXELS))
    assert report.verdict == "differs"
    assert report.towers[0].weights.different == ("stages.1.blocks.0.ffn.fc1.weight",)


@pytest.mark.slow
def test_both_towers_of_a_joint_graph_are_judged(model: Any, ids: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "joint.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Joint(model).eval(),
            (PIXELS, ids, (ids != 0).long()),
            path,
            dynamo=False,
            input_names=["pixel_values", "input_ids", "attention_mask"],
            output_names=["logits_per_image", "text_embeds", "image_embeds"],
        )
    described = json.loads(run("inspect", str(path), "--json").stdout)
    assert [port["name"] for port in described["inputs"]] == ["pixel_values", "input_ids", "attention_mask"]
    report = mcd.verify_file(path)
    assert [(tower.tower, tower.verdict, tower.output.name) for tower in report.towers] == [
        ("image", "same", "image_embeds"),
        ("text", "same", "text_embeds"),
    ]


def trained_on(tower: Any) -> None:
    weight = tower.blocks[1].fc1.weight.data
    weight += 0.03 * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "verdict", "cause", "different"),
    [
        (same, "same", None, ()),
        (activation(nn.GELU(approximate="tanh")), "defect", "gelu-tanh", ()),
        (trained_on, "differs", None, ("blocks.1.fc1.weight",)),
    ],
    ids=["clean", "gelu-tanh", "trained-on"],
)
def test_the_rounding_of_int8_hides_no_fault(
    model: Any, ids: Tensor, tmp_path: Path, change: Any, verdict: str, cause: str | None, different: tuple[str, ...]
) -> None:
    """Both faults change embeddings by less than half of what the rounding does."""
    from onnxruntime.quantization import quantize_dynamic

    tower = copy.deepcopy(model.text)
    change(tower)
    quantize_dynamic(write(tmp_path / "float.onnx", tower, ids), tmp_path / "int8.onnx")
    found = mcd.verify_file(tmp_path / "int8.onnx").towers[0]
    assert (found.verdict, found.cause, found.weights.different) == (verdict, cause, different)
    assert found.precision == "w8a8"


def test_a_bundle_and_a_file_of_other_tools_have_their_own_command(exports: Exports, tmp_path: Path) -> None:
    (tmp_path / "theirs.onnx").write_bytes(b"")
    for words in (("theirs.onnx",), ("--embeddings", "theirs.npy", "--images", "."), ("theirs.onnx", "--text", "x")):
        outcome = run("verify", *(tmp_path / word if word == "theirs.onnx" else word for word in words))
        assert (outcome.code, "`audit`" in outcome.stderr, outcome.stderr.count("\n")) == (2, True, 1)
    outcome = run("audit", exports.bundle("onnx", "fp32").path)
    assert (outcome.code, "is a bundle; check it with `verify`" in outcome.stderr) == (2, True)
    outcome = run("classify", tmp_path / "theirs.onnx", "cat.png")
    assert outcome.code == 2
    assert "check it with `audit` and --checkpoint, or replace it with `export` and --like" in outcome.stderr


def test_a_model_is_compared_on_pictures_and_texts_of_ones_own(model: Any, ids: Tensor, tmp_path: Path) -> None:
    files = [write(tmp_path / "image.onnx", model.image, PIXELS), write(tmp_path / "text.onnx", model.text, ids)]
    pictures, texts = tmp_path / "pictures", tmp_path / "texts.txt"
    pictures.mkdir()
    for index in range(2):
        Image.new("RGB", (70, 64), (40, 90 * index, 200)).save(pictures / f"{index}.png")
    texts.write_text("a red car\na blue one\n", encoding="utf-8")
    report = mcd.audit(files, images=pictures, texts=texts)
    assert isinstance(report, mcd.ForeignReport)
    assert [(tower.verdict, tower.inputs) for tower in report.towers] == [("same", 3), ("same", 4)]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("hangs", "was stopped after 8 s; raise the limit (--budget)"),
        ("dies", "its runtime died"),
        ("repeats", "answers out of order: another request's answer; run it again"),
    ],
)
def test_a_process_that_is_stopped_or_dies_ends_the_audit(
    how: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a refusal of the convention that was tried, its end would be part of a verdict."""
    monkeypatch.setattr(opening, "PROCESS", "verify.audit.stubborn")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("HF_TOKEN", "secret")
    path = tmp_path / f"{how}.onnx"
    path.write_bytes(b"")
    outcome = run("--quiet", "audit", path, "--budget", "8")
    assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (3, "", 1)
    assert words in outcome.stderr
    with contextlib.closing(opening.OpenedFile(path)) as file:
        assert file.engine == "no token"


def test_the_time_limit_is_of_our_own_work_too(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "theirs.onnx", model.image, PIXELS)
    started = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: started + (3600 if said else 0))
    said: list[str] = []
    with pytest.raises(RuntimeFailed, match="was stopped after 600 s"):
        mcd.audit(path, progress=said.append)
    assert len(said) == 1


def test_a_large_output_is_no_embedding(model: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "theirs.onnx", model.image, PIXELS, after=lambda x: x.repeat(1, 513))
    with pytest.raises(InvalidInput, match="its outputs are too large for embeddings"):
        mcd.audit(path)


def test_an_older_format_of_core_ml_is_named(tmp_path: Path) -> None:
    (tmp_path / "theirs.mlmodel").write_bytes(b"")
    with pytest.raises(RuntimeFailed, match=r"^\S+: only a Mac runs the neural network"):
        mcd.verify_file(tmp_path / "theirs.mlmodel")


@pytest.mark.slow
def test_an_output_that_is_no_embedding_is_named(model: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "classes.onnx", model.image, PIXELS, after=lambda x: F.softmax(x[:, :10], dim=1))
    report = mcd.verify_file(path)
    assert (report.verdict, report.towers[0].cause) == ("differs", "no-embedding")
    assert "10 class probabilities instead of an embedding of 128" in report.sentence


@pytest.mark.slow
def test_an_export_has_the_names_and_types_of_the_file_that_it_replaces(
    model: Any, ids: Tensor, tmp_path: Path
) -> None:
    theirs = write(tmp_path / "theirs.onnx", model.text, ids.int(), after=F.normalize)
    outcome = run("--quiet", "export", "--like", str(theirs), "--precision", "fp32", "-o", str(tmp_path), "--no-verify")
    assert outcome.code == 0, outcome.stderr
    written = mcd.verify_file(tmp_path / "nano-like-theirs-fp32" / "theirs.onnx").towers[0]
    before = mcd.verify_file(theirs).towers[0]
    assert (written.verdict, written.output.length) == ("same", "normalised")
    assert (written.input.name, written.input.convention, written.output.name) == (
        before.input.name,
        before.input.convention,
        before.output.name,
    )
    bgr = write(tmp_path / "bgr.onnx", model.image, PIXELS, before=lambda x: x.flip(1))
    outcome = run("--quiet", "export", "--like", str(bgr), "-o", str(tmp_path))
    assert (outcome.code, "BGR instead of RGB" in outcome.stderr) == (2, True)
