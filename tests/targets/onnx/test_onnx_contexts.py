"""A causal text tower that takes several lengths, from export to benchmark."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contexts import CONTEXTS, causal_model
from torch import Tensor
from writing import slow_runtime

import mobileclip_deploy as mcd
from mobileclip_deploy.benchmark.cells import Cells
from mobileclip_deploy.benchmark.host.driver import HostDriver
from mobileclip_deploy.benchmark.request import Request
from mobileclip_deploy.errors import GateFailed, InvalidInput, UsageError
from mobileclip_deploy.export.request import ExportRequest, choose
from mobileclip_deploy.network.model.architecture.text import TextTransformer

SHORT, LONGER = "a cat", "a photo of " + "dog " * 20  # 4 and 25 tokens


@pytest.mark.slow  # the check of it, below
def test_short_prompts_are_answered_at_a_short_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = mcd.export(causal_model(tmp_path, monkeypatch), "onnx", "fp32", tmp_path, contexts=(32, 16), verify=False)
    assert bundle.path.name == "tiny_causal-onnx-fp32-contexts"
    entry = bundle.manifest.towers["text"]
    assert (entry.contexts, entry.input.shape) == (CONTEXTS, (0, 0))

    report = mcd.verify(bundle)
    assert report.passed
    found = [check.detail for check in report.checks if check.step == "contexts"]
    assert found == ["16 tokens, 9 of 24 prompts", "32 tokens, 16 of 24 prompts"]
    assert next(check for check in report.checks if check.step == "reproduced").status == "passed"

    runner = mcd.load_runner(bundle, "text")
    ids = mcd.tokenize([SHORT, LONGER], bundle)
    assert (ids.shape, mcd.tokenize(SHORT, bundle).shape) == ((2, 32), (1, 16))
    assert mcd.tokenize(SHORT, runner).shape == (1, 16)
    whole = mcd.tokenize([SHORT, LONGER])
    assert whole.shape == (2, 77)
    wanted = mcd.load_runner(mcd.load_model("tiny_causal", tmp_path / "tiny_causal.safetensors"), "text")(whole)
    for given in (ids, whole):
        assert np.abs(runner(given) - wanted).max() < 1e-5 * np.abs(wanted).max()
    with pytest.raises(InvalidInput, match=r"token ids of shape \[2, 20\]; the model takes \[N, 77\]"):
        runner(ids[:, :20])

    with monkeypatch.context() as patched:
        slow_runtime(patched, "onnx", 3)
        found = [check.detail for check in mcd.verify(bundle).checks if check.step == "contexts"]
        assert found == ["16 tokens, 3 of 24 prompts", "32 tokens, 3 of 24 prompts"]

    cells = list(Cells(Request((bundle,)), HostDriver(), tmp_path / "job").of_bundle(bundle))
    assert [cell.id.split(".")[2] for cell in cells] == ["77tokens", "32tokens", "16tokens"]
    assert [cell.input.shape for cell in cells] == [(1, 77), (1, 32), (1, 16)]
    assert [cell.golden.inputs.shape for cell in cells if cell.golden] == [(24, 77), (16, 32), (9, 16)]


@pytest.mark.slow  # each format says lengths in its own way: an enumeration, a dynamic dimension
@pytest.mark.parametrize(("target", "precision", "bound"), [("coreml", "fp16", 0.01), ("executorch", "fp32", 1e-5)])
def test_other_formats_answer_short_prompts_too(
    target: str, precision: str, bound: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = causal_model(tmp_path, monkeypatch)
    bundle = mcd.export(model, target, precision, tmp_path, contexts=(16, 32), verify=False)
    entry = bundle.manifest.towers["text"]
    assert (entry.contexts, entry.input.shape) == (CONTEXTS, (1, 0))
    report = mcd.verify(bundle)
    assert report.passed
    found = [check.detail for check in report.checks if check.step == "contexts"]
    assert found == ["16 tokens, 9 of 24 prompts", "32 tokens, 16 of 24 prompts"]

    runner = mcd.load_runner(bundle, "text")
    wanted = mcd.load_runner(model, "text")(mcd.tokenize([SHORT]))
    for ids in (mcd.tokenize([SHORT]), mcd.tokenize([SHORT], bundle)):
        assert np.abs(runner(ids) - wanted).max() < bound * np.abs(wanted).max()
    with pytest.raises(InvalidInput, match=r"shape \[1, 20\]"):
        runner(mcd.tokenize([SHORT])[:, :20])


def test_a_tower_that_is_right_at_its_full_length_alone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = causal_model(tmp_path, monkeypatch)
    right = TextTransformer.features

    def from_the_end(self: TextTransformer, ids: Tensor, short: bool = False) -> Tensor:
        if not short:
            return right(self, ids)
        x = self.token_embedding(ids) + self.positional_embedding[77 - ids.shape[1] :]
        for block in self.blocks:
            x = block(x, None if self.causal_mask is None else self.causal_mask[: ids.shape[1], : ids.shape[1]])
        return x

    monkeypatch.setattr(TextTransformer, "features", from_the_end)
    with pytest.raises(GateFailed, match="text contexts"):
        mcd.export(model, "onnx", "fp32", tmp_path, contexts=(16,))


def test_what_cannot_have_contexts_is_refused_before_anything_runs() -> None:
    with pytest.raises(UsageError, match="the text tower of nano is bidirectional"):
        mcd.export(mcd.load_model(), "onnx", contexts=(16,))


@pytest.mark.parametrize(
    ("target", "asked", "reason"),
    [
        ("onnx", {"tower": "image"}, "`contexts` are for the text tower; leave them out"),
        ("onnx", {"precisions": ("smallest",)}, "searches towers of one length"),
        ("coreai", {}, "`contexts` is not supported for Core AI: .*of a free length"),
        ("litert", {"tower": "text"}, "`contexts` is not supported for .*cannot convert a text tower"),
        ("coreml", {"options": {"multifunction": True}}, "in a separate package; leave `multifunct"),
        (
            "executorch-coreml",
            {"tower": "text"},
            "is not supported for ExecuTorch: the Neural Engine takes fixed shapes only",
        ),
        ("executorch-vulkan", {"tower": "text"}, "is not supported for ExecuTorch: Vulkan cannot run here"),
        (
            "executorch",
            {"tower": "text", "options": {"dynamic_batch": True}},
            "for single prompts; leave `dynamic_batch` out",
        ),
    ],
)
def test_towers_formats_and_options_that_cannot_have_them_say_why(
    target: str, asked: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        choose(ExportRequest(targets=(target,), contexts=(16,), **asked))
