"""Labels that the tokenizer cannot tell apart are refused; cut and unknown ones are named."""

from pathlib import Path

import pytest
from command_line import refused, run
from exports import Exports
from tiny import PIECES, known

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.heads.label_prompts import check_label_prompts
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.tokenizer import CLIP
from mobileclip_deploy.network.model.variants import load_variant, models_dir

LONG = "word " * 100
PICTURE = next((models_dir() / "nano" / "evaluation" / "images").iterdir())


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (("Cat", "dog", "cat"), "'Cat' and 'cat' are the same prompt to the tokenizer"),
        (("a  cat", "a cat"), "the same prompt to the tokenizer"),
        (("Tom &amp; Jerry", "Tom & Jerry"), "the same prompt to the tokenizer"),
        ((f"{LONG}cat", f"{LONG}dog"), "are equal after being cut"),
    ],
)
def test_labels_that_are_one_prompt_are_refused(labels: tuple[str, ...], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        check_label_prompts(labels, "a photo of a {}", CLIP)


def test_a_label_that_fills_the_context_is_not_cut() -> None:
    room = CLIP.context_length - 2
    assert check_label_prompts((" ".join(["cat"] * room), "dog"), "{}", CLIP) == ()
    (note,) = check_label_prompts((" ".join(["cat"] * (room + 1)), "dog"), "{}", CLIP)
    assert note.startswith("cut at 77 tokens, the rest is ignored: the prompts of cat cat")


def test_words_that_a_vocabulary_does_not_know_are_named(tmp_path: Path) -> None:
    with known(tmp_path, PIECES) as checkpoint:
        tokens = mcd.load_model(PIECES, checkpoint).variant.tokens
        notes = check_label_prompts(("dog", "\u72ac"), "{}", tokens)
    assert len(notes) == 1
    assert "lacks words of the prompts of \u72ac (100%)" in notes[0]


def test_classify_and_export_refuse_and_warn(exports: Exports, tmp_path: Path) -> None:
    bundle = exports.unverified("onnx", "w8", "both").path
    classify = ("classify", bundle, PICTURE, "--labels")
    assert "'Cat' and 'cat' are the same prompt" in refused(*classify, "Cat,cat,dog")
    export = ("export", "--target", "onnx", "-o", tmp_path / "out", "--labels")
    assert "'Cat' and 'cat' are the same prompt" in refused(*export, "Cat,cat,dog")
    found = run(*classify, f"{LONG},dog", "--json")
    assert (found.code, "Warning: cut at 77 tokens" in found.stderr) == (0, True), found.stderr
    assert load_variant("nano").tokens.context_length == 77
