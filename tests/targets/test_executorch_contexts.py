"""A causal text tower that takes several lengths, in ExecuTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from contexts import CONTEXTS, causal_model

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.export.request import ExportRequest, choose


@pytest.mark.whole  # test_onnx_contexts.py: the same check of the same network
def test_short_prompts_are_answered_at_a_short_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = causal_model(tmp_path, monkeypatch)
    bundle = mcd.export(model, "executorch", "fp32", tmp_path, contexts=(16, 32), verify=False)
    entry = bundle.manifest.towers["text"]
    assert (entry.contexts, entry.input.shape) == (CONTEXTS, (1, 0))
    report = mcd.verify(bundle)
    assert report.passed
    found = [check.detail for check in report.checks if check.step == "contexts"]
    assert found == ["16 tokens, 9 of 24 prompts", "32 tokens, 16 of 24 prompts"]
    ids = mcd.tokenize(["a cat", "two dogs"], bundle)
    assert ids.shape == (2, 16)
    checkpoint = tmp_path / "tiny_causal.safetensors"
    wanted = mcd.load_runner(mcd.load_model("tiny_causal", checkpoint), "text")(mcd.tokenize(["a cat", "two dogs"]))
    assert np.abs(mcd.load_runner(bundle, "text")(ids) - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_backends_of_fixed_shapes_and_batches_are_refused() -> None:
    reasons = {"coreml": "the Neural Engine takes fixed shapes only", "vulkan": "nothing here can run Vulkan"}
    for backend, reason in reasons.items():
        with pytest.raises(UsageError, match=f"`contexts` is refused on {backend}: {reason}"):
            choose(ExportRequest(targets=(f"executorch-{backend}",), contexts=(16,), tower="text"))
    with pytest.raises(UsageError, match="`contexts` is for prompts one by one; leave `dynamic_batch` out"):
        options = {"dynamic_batch": True}
        choose(ExportRequest(targets=("executorch",), contexts=(16,), tower="text", options=options))
