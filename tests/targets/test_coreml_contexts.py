"""A causal text tower that takes several lengths, in Core ML: each of them enumerated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from contexts import CONTEXTS, causal_model

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.export.request import ExportRequest, choose
from mobileclip_deploy.mil import load


@pytest.mark.whole  # test_onnx_contexts.py: the same check of the same network
def test_short_prompts_are_answered_at_a_short_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = mcd.export(
        causal_model(tmp_path, monkeypatch), "coreml", "fp16", tmp_path, contexts=(16, 32), verify=False
    )
    entry = bundle.manifest.towers["text"]
    assert (entry.contexts, entry.input.shape) == (CONTEXTS, (1, 0))
    report = mcd.verify(bundle)
    assert report.passed
    found = [check.detail for check in report.checks if check.step == "contexts"]
    assert found == ["16 tokens, 9 of 24 prompts", "32 tokens, 16 of 24 prompts"]

    program = load(bundle.artifact("text"))
    assert sorted(program.inputs[0].shapes) == [(1, 16), (1, 32), (1, 77)]
    ids = mcd.tokenize(["a cat"]).astype(np.int32)
    answers = [program({"text": ids[:, :length]}, "float16")["final_emb_1"] for length in CONTEXTS]
    assert np.array_equal(answers[0], answers[2])
    assert np.array_equal(answers[1], answers[2])
    with pytest.raises(InvalidInput, match=r"'text' has shape \[1, 20\]"):
        program({"text": ids[:, :20]})


@pytest.mark.parametrize(("target", "reason"), [("litert", "cannot convert a text tower"), ("coreai", "reads none of")])
def test_formats_that_cannot_say_why(target: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"`contexts` is refused for .*{reason}"):
        choose(ExportRequest(targets=(target,), contexts=(16,), tower="text"))


def test_two_towers_in_one_package_are_refused() -> None:
    with pytest.raises(UsageError, match="`contexts` are of a text tower in a package of its own; leave `multifunct"):
        choose(ExportRequest(targets=("coreml",), contexts=(16,), options={"multifunction": True}))
