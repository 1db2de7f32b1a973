"""Converting between layouts: both directions where there are two, lossless or refused."""

from pathlib import Path

import pytest
import torch
from network.checkpoints.test_loading import write
from safetensors.torch import load_file
from tiny import checkpoint

from mobileclip_deploy.errors import CheckpointError, UsageError
from mobileclip_deploy.network.checkpoints.convert import convert
from mobileclip_deploy.network.checkpoints.loading import load
from mobileclip_deploy.network.folding import is_folded


def test_open_clip_with_a_trained_bias_does_not_go_to_apple(tmp_path: Path) -> None:
    source = write(tmp_path / "o.pt", checkpoint("tiny_both", "open_clip"))
    with pytest.raises(
        CheckpointError, match=r"bias \(visual\.trunk\.head\.fc\.bias\).* written as open_clip or folded"
    ):
        convert(source, "apple", tmp_path / "a.pt")
    assert not (tmp_path / "a.pt").exists()


@pytest.mark.parametrize(("here", "there"), [("apple", "open_clip"), ("open_clip", "apple")])
def test_another_network_is_refused(tmp_path: Path, here: str, there: str) -> None:
    source = write(tmp_path / "tiny_stem.pt", checkpoint("tiny_stem", here))
    with pytest.raises(
        CheckpointError, match=r"\(stem_padding, norm_eps differ\).*can be written as (apple|open_clip) or f"
    ):
        convert(source, there, tmp_path / "x.pt")


def test_a_text_tower_goes_where_the_whole_model_could_not(tmp_path: Path) -> None:
    weights = {key: value for key, value in checkpoint("tiny_stem", "apple").items() if key.startswith("text_")}
    convert(write(tmp_path / "a.pt", weights), "open_clip", tmp_path / "o.pt", "tiny_stem")
    assert load(tmp_path / "o.pt", "tiny_stem").towers == ("text",)


@pytest.mark.parametrize("name", ["tiny_five", "tiny_plain", "tiny_patch"])
def test_own_layout_loses_wrappers_and_keeps_names(tmp_path: Path, name: str) -> None:
    weights = checkpoint(name, "open_clip")
    training = {"epoch": 1, "state_dict": {f"module.{key}": value.half() for key, value in weights.items()}}
    torch.save(training, tmp_path / "epoch_1.pt")
    result = convert(tmp_path / "epoch_1.pt", "open_clip", tmp_path / "bare.safetensors", name, preprocess="card")
    bare = load_file(tmp_path / "bare.safetensors")
    assert bare.keys() == weights.keys()
    assert result.tensors == len(weights)
    assert {value.dtype for value in bare.values() if value.is_floating_point()} == {torch.float16}


def test_to_folded(tmp_path: Path) -> None:
    source = write(tmp_path / "a.pt", checkpoint("tiny_mci", "apple"))
    result = convert(source, "folded", tmp_path / "f.safetensors")
    assert result.layout == "folded"
    assert is_folded(load(tmp_path / "f.safetensors"))
    with pytest.raises(CheckpointError, match="is folded, which cannot be undone"):
        convert(tmp_path / "f.safetensors", "apple", tmp_path / "x.pt")


def test_a_layout_that_it_lacks_and_a_place_that_is_taken_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "a.pt", checkpoint("tiny_mci", "apple"))
    with pytest.raises(UsageError, match="tiny_mci has no open_clip checkpoints; it can be written as apple or folded"):
        convert(source, "open_clip", tmp_path / "x.pt")
    with pytest.raises(UsageError, match="unknown layout 'onnx'; known: apple, open_clip, transformers, folded"):
        convert(source, "onnx", tmp_path / "x.pt")
    with pytest.raises(UsageError, match="unknown layout 'openclip', did you mean open_clip"):
        convert(source, "OpenClip", tmp_path / "x.pt")
    (tmp_path / "x.pt").write_text("mine")
    with pytest.raises(UsageError, match="exists; replace it with `force=True`"):
        convert(source, "apple", tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_text() == "mine"
    convert(source, "apple", tmp_path / "x.pt", force=True)
