"""Networks as SigLIP2's: what learns and what shrinks a bundle works, or is refused."""

from pathlib import Path

import pytest
from pieces import PHRASES, texts
from tiny import PIECES, known

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import UsageError

WIDE = mcd.Gates(cosine=0.5, snr=1)
"""Weights from a formula prove nothing about what 4 bits cost: the structure is the claim."""


@pytest.mark.slow
def test_rounding_is_learned_on_texts_of_its_own_vocabulary(tmp_path: Path) -> None:
    captions = dict.fromkeys(" ".join(text.split()) for language in PHRASES for text in texts(language, 150))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "prompts.txt").write_text("\n".join(captions), encoding="utf-8")
    with known(tmp_path, PIECES) as path:
        model, texts_of = mcd.load_model(PIECES, path), tmp_path / "texts"
        bundle = mcd.export(
            model, "onnx", "w4", tmp_path / "out", tower="text", rounding="gptq", calibration=texts_of, gates=WIDE
        )
        assert {check.status for check in bundle.parity} == {"passed"}


def test_shorter_contexts_are_refused_where_padding_is_read(tmp_path: Path) -> None:
    with known(tmp_path, PIECES) as path, pytest.raises(UsageError, match="padding is part of the model"):
        mcd.export(mcd.load_model(PIECES, path), "onnx", "fp32", tmp_path / "out", contexts=[8])
