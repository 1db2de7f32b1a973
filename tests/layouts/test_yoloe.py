"""Ultralytics YOLOE: a bundle of its layout, loaded as that package loads its text tower.

What the loader does was read in ultralytics/ultralytics, ultralytics/nn/text_model.py (class MobileCLIPTS) at commit
00feaff5a0cd0037a598731785551dd1aa36adcd: `torch.jit.load` of a file by its name, called with tokens [N, 77] padded
with 0 (int32 of newer versions of OpenAI's package clip, int64 of older ones), and no normalisation behind it.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import Exports

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.torchscript.module_file import described
from mobileclip_deploy.towers.inputs import embed_texts
from mobileclip_deploy.towers.samples import prompts


@pytest.fixture(scope="module")
def bundle(exports: Exports) -> mcd.Bundle:
    return exports.layout("yoloe")


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_texts_have_the_checkpoint_s_embeddings_at_length_1(bundle: mcd.Bundle, dtype: torch.dtype) -> None:
    encoder = torch.jit.load(str(bundle.path / "nano.ts"), map_location="cpu")
    tokens = torch.from_numpy(mcd.tokenize([*prompts(), "", "cat " * 100])).to(dtype)
    wanted = embed_texts(mcd.load_model(), tokens.numpy().astype(np.int64))
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    with torch.inference_mode():
        for count in (1, len(tokens)):
            found = encoder(tokens[:count]).to(torch.float32).numpy()
            assert np.abs(found - wanted[:count]).max() < 1e-5


def test_it_is_verified_like_any_artifact(bundle: mcd.Bundle) -> None:
    assert list(bundle.manifest.towers) == ["text"]
    entry = bundle.manifest.towers["text"]
    assert (bundle.manifest.target, entry.file, entry.precision) == ("torchscript", "nano.ts", "fp32")
    report = mcd.verify(bundle)
    assert report.passed, [(check.step, check.status, check.describe()) for check in report.checks]
    assert {check.step for check in report.checks} >= {"structure", "twin", "shipped", "weights", "reproduced"}


def test_nothing_of_this_machine_stands_in_the_file(bundle: mcd.Bundle) -> None:
    with zipfile.ZipFile(bundle.path / "nano.ts") as archive:
        names = archive.namelist()
        assert all(str(Path.cwd()).encode() not in archive.read(name) for name in names)
    assert {name.partition("/")[0] for name in names} == {"tower"}
    assert not [name for name in names if name.endswith(".debug_pkl")]


def test_other_files_and_towers_are_refused(bundle: mcd.Bundle, tmp_path: Path) -> None:
    target = get_target("torchscript")
    (tmp_path / "damaged.ts").write_bytes((bundle.path / "nano.ts").read_bytes()[:1000])
    with pytest.raises(InvalidInput, match="is not a readable TorchScript file"):
        target.describe(tmp_path / "damaged.ts")
    torch.jit.save(torch.jit.script(torch.nn.Identity()), str(tmp_path / "other.ts"))
    with pytest.raises(InvalidInput, match="another program wrote it"):
        described(tmp_path / "other.ts")
    with pytest.raises(UsageError, match="torchscript has no precision w8; it has fp32"):
        mcd.export(mcd.load_model(), None, "w8", tmp_path / "out", layout="yoloe")
