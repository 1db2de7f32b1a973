"""A target of somebody else's package: installed from a folder, and known to every command without a line of ours."""

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Outcome, refusal, run
from exports import Exports
from hostile.rows_torchscript import Loaded, Run, Saved, archive
from third_party import installed

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.embedding import embed_texts
from mobileclip_deploy.network.samples import image_paths, prompts


@pytest.fixture(scope="module")
def with_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(tmp_path_factory.mktemp("site-packages")):
        yield


@pytest.fixture(scope="module")
def bundle(with_target: None, exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("torchscript")
    done(run("export", "--target", "torchscript", "--checkpoint", exports.checkpoint, "--no-verify", "-o", out))
    shutil.copy(exports.checkpoint, out)  # where `verify` looks for it
    return out / "nano-torchscript-fp32"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample photographs, each a class of its own."""
    path = tmp_path_factory.mktemp("data") / "samples.csv"
    lines = ["image,label,text", *(f"{file},{file.stem},{file.stem}" for file in image_paths())]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def done(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome.stderr
    return outcome


def test_it_is_exported_and_verified(bundle: Path) -> None:
    report = done(run("verify", bundle, "--json")).json
    passed = {check["step"] for check in report["checks"] if check["status"] == "passed"}
    assert passed >= {"structure", "folded", "twin", "shipped", "weights", "reproduced", "golden"}
    assert report["passed"]


def test_inspect_tells_bundle_and_artifact(bundle: Path) -> None:
    assert done(run("inspect", bundle, "--json")).json["target"] == "torchscript"
    told = done(run("inspect", bundle / "nano_image.ts", "--json")).json
    assert (told["kind"], told["input"]["shape"]) == ("torchscript artifact", [0, 3, 64, 64])
    assert told["by_type"]["aten::_convolution"] > 0


@pytest.mark.slow
def test_its_accuracy_is_measured_and_compared(bundle: Path, dataset: Path, exports: Exports) -> None:
    assert done(run("evaluate", bundle, "--dataset", dataset, "--json")).json["classes"] == len(image_paths())
    other = exports.bundle("onnx", "fp32").path
    rows = done(run("compare", bundle, other, "--dataset", dataset, "--json")).json["bundles"]
    assert [(row["target"], row["status"]) for row in rows] == [("torchscript", "passed"), ("onnx", "passed")]


@pytest.mark.slow
def test_it_is_timed_on_the_host(bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "times.json"
    done(run("benchmark", bundle, "--device", "host", "--quick", "--json", output))
    cells = json.loads(output.read_text(encoding="utf-8"))["cells"]
    assert {(cell["id"].split(".")[2], cell["status"]) for cell in cells} == {("torchscript", "done")}
    assert all(cell["golden"]["passed"] and cell["summary"]["samples"] for cell in cells)


def test_doctor_and_the_refusals_know_it(with_target: None) -> None:
    assert run("doctor").code == 0
    refused = refusal(run("export", "--target", "torchscrip"))
    assert "did you mean torchscript?" in refused
    assert "torchscript, all" in refused


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_the_layout_of_yoloe_is_loaded_as_that_package_loads_it(
    with_target: None, exports: Exports, dtype: torch.dtype
) -> None:
    """As ultralytics/nn/text_model.py (class MobileCLIPTS) at commit 00feaff5a0cd0037a598731785551dd1aa36adcd does:
    `torch.jit.load`, called with tokens [N, 77] padded with 0, and no normalisation behind it."""
    layout = exports.layout("yoloe")
    assert (layout.manifest.target, list(layout.manifest.towers)) == ("torchscript", ["text"])
    encoder = torch.jit.load(str(layout.path / "nano.ts"), map_location="cpu")
    tokens = torch.from_numpy(mcd.tokenize([*prompts(), "", "cat " * 100])).to(dtype)
    wanted = embed_texts(mcd.load_model(), tokens.numpy().astype(np.int64))
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    with torch.inference_mode():
        for count in (1, len(tokens)):
            assert np.abs(encoder(tokens[:count]).to(torch.float32).numpy() - wanted[:count]).max() < 1e-5


@pytest.mark.parametrize("kind", [Loaded, Run, Saved])
def test_what_is_planted_acts_where_torch_alone_loads_it(
    kind: type[torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the rows of tests/hostile, in which it does not, can fail."""
    monkeypatch.chdir(tmp_path)
    victim = tmp_path / "victim"
    victim.write_bytes(b"what the user wrote")
    torch.jit.load(io.BytesIO(archive(kind())))(torch.zeros(1))
    assert victim.read_bytes() != b"what the user wrote"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("return torch.from_file(x, True, 4)", "torch.from_file"),
        ("return ops.aten.from_file(x, True, 4)", "ops.aten.from_file"),
        ("t = torch\n    return t.from_file(x, True, 4)", "torch as a value"),
        ("f = torch.from_file\n    return f(x, True, 4)", "torch as a value"),
        ("return x.from_file(x, True, 4)", "x.from_file"),
        ("return getattr(torch, 'from_file')(x)", "the character"),
        ('return getattr(torch, "from_file")(x)', "getattr(torch, 'from_file')"),
        ("return x # torch", "the character '#'"),
        ("import os\n    return x", "syntax of the kind Import"),
        ("with x:\n      return x", "syntax of the kind With"),
        ("return [x for x in x]", "syntax of the kind ListComp"),
        ("return x\n  def __getattr__(self: Tensor, x: Tensor) -> Tensor:\n    return x", "the method __getattr__"),
        ("return x\n  @property\n  def forward(self: Tensor) -> Tensor:\n    return x", "the character '@'"),
        ("return x\nclass B(Enum):\n  a = 1", "the class B"),
        ("return (", "no readable code"),
    ],
)
def test_code_that_no_trace_gives_is_refused_by_its_name(with_target: None, code: str, said: str) -> None:
    from mobileclip_torchscript.archive import refused_of_code

    class_ = "class A(Module):\n  def forward(self: __torch__.A,\n    x: Tensor) -> Tensor:\n    "
    assert refused_of_code(f"{class_}return torch.add(x, 1)\n".encode()) is None
    assert said in str(refused_of_code(f"{class_}{code}\n".encode()))


def test_pickles_and_entries_that_no_trace_gives_are_refused(bundle: Path, tmp_path: Path) -> None:
    from mobileclip_torchscript.archive import load

    def edited(name: str, content: bytes) -> Path:
        path = tmp_path / "edited.ts"
        with zipfile.ZipFile(bundle / "nano_text.ts") as old, zipfile.ZipFile(path, "w") as new:
            for entry in old.namelist():
                new.writestr(entry, content if entry == name else old.read(entry))
            if name not in old.namelist():
                new.writestr(name, content)
        return path

    for pickled in (
        b"cos\nsystem\n.",
        b"c__torch__.torch.classes.profiling\n_RecordFunction\n.",
        b"\x8c\x02os\x8c\x06system\x93.",
    ):
        with pytest.raises(InvalidInput, match=r"data\.pkl has .* which no trace"):
            load(edited("tower/data.pkl", pickled))
    for name in ("tower/model.json", "tower/code/a.py.debug_pkl", "other/version", "tower/../version"):
        with pytest.raises(InvalidInput, match="another program wrote the entry"):
            load(edited(name, b""))
