"""What a script meets of what was made to do harm, and no command does."""

import os
from pathlib import Path

import pytest
from exports import Exports
from hostile.table import alarm

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.heads.labels import LabelSet
from mobileclip_deploy.errors import FoldingError, InvalidInput
from mobileclip_deploy.network.folding import fold


def test_a_pipe_in_place_of_any_file_is_not_waited_for(exports: Exports, tmp_path: Path) -> None:
    bundle = exports.copy("onnx", "fp16", tmp_path)
    files = [path for path in sorted(bundle.rglob("*")) if path.is_file()]
    assert len(files) > 8
    with alarm(20):
        for file in files:
            kept = file.rename(file.with_name("kept"))
            os.mkfifo(file)
            with pytest.raises(InvalidInput, match="not a regular file"):
                Bundle.open(bundle)
            file.unlink()
            file.symlink_to(file)
            with pytest.raises(InvalidInput, match=r"cannot be (read|found)"):
                Bundle.open(bundle)
            file.unlink()
            kept.rename(file)
    Bundle.open(bundle)


def test_a_hundred_thousand_different_labels_are_compared_in_no_time() -> None:
    with alarm(10):
        assert len(LabelSet(tuple(map(str, range(100_000)))).names) == 100_000


def test_folding_a_negative_variance_is_refused_by_name() -> None:
    model = mcd.load_model()
    name, norm = next((name, one) for name, one in model.named_modules() if type(one).__name__ == "BatchNorm2d")
    norm.running_var[0] = -1e-6  # type: ignore[index, operator]
    with pytest.raises(FoldingError, match=f"{name} has a running variance that is negative"):
        fold(model)
