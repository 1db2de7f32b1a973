"""TorchScript files whose code would act when it is loaded or run, and those that nothing here reads any more."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from hostile.table import Row, edit, nothing, write
from third_party import install
from torch import Tensor, nn

PORT = '{"name": "x", "dtype": "float32", "shape": [1, 4], "range": null}'


class Loaded(nn.Module):
    """Writes over a file when it is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.victim = "victim"

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return (self.victim, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.training = state[1]
        self.victim = str(torch.from_file(state[0], shared=True, size=1).fill_(0).item())

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


class Run(nn.Module):
    """Writes over a file when it is run."""

    def forward(self, inputs: Tensor) -> Tensor:
        victim = torch.from_file("victim", shared=True, size=1)
        return victim.fill_(0) + victim + inputs


class Saved(nn.Module):
    """Writes a file when it is run."""

    def forward(self, inputs: Tensor) -> Tensor:
        torch.save(inputs, "victim")
        return inputs


def archive(module: nn.Module) -> bytes:
    """A module as the example's target packs one: but for its code nothing tells it from an honest file."""
    scripted = io.BytesIO()
    ports = f"[{PORT}, {PORT}]"
    torch.jit.save(torch.jit.script(module), scripted, _extra_files={"tensors.json": ports})
    packed = io.BytesIO()
    with zipfile.ZipFile(scripted) as old, zipfile.ZipFile(packed, "w") as new:
        for name in old.namelist():
            inside = name.partition("/")[2]
            if not inside.endswith(".debug_pkl") and inside != ".data/serialization_id":
                new.writestr(f"tower/{inside}", old.read(name))
    return packed.getvalue()


def planted(kind: type[nn.Module]) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        install(folder.parent / "site")
        (folder / "victim").write_bytes(b"what the user wrote")
        (folder / "x.ts").write_bytes(archive(kind()))

    return make


def with_target(field: str, kind: type[nn.Module], line: str) -> Row:
    environment = {"PYTHONPATH": "../site", "PYTHONDONTWRITEBYTECODE": "1"}
    return Row(
        "TorchScript",
        field,
        planted(kind),
        ("inspect", "x.ts"),
        line,
        alone=True,
        megabytes=900,
        environment=environment,
    )


def without(field: str, make: Callable[[Path], object], *words: str, bundle: str = "") -> Row:
    line = "torchscript is now a separate package; in a clone of the repository, type: pip install examples/third_party"
    return Row("TorchScript without its target", field, make, words, line, bundle=bundle)


OF_0_3 = edit(lambda manifest: manifest.update(target="torchscript"))
ROWS = [
    with_target("__setstate__ that writes over a file", Loaded, "has the method __getstate__, which no trace"),
    with_target("forward that writes over a file", Run, "has torch.from_file, which no trace"),
    with_target("forward that writes a file", Saved, "has syntax of the kind Expr, which no trace"),
    without("file", write("x.ts", b""), "inspect", "x.ts"),
    without("lint", write("x.ts", b""), "lint", "x.ts"),
    without("bundle", OF_0_3, "inspect", "bundle", bundle="onnx-fp32"),
    without("verify", OF_0_3, "verify", "bundle", bundle="onnx-fp32"),
    without("target", nothing, "export", "--target", "TorchScript", "-o", "out"),
    without("layout", nothing, "export", "--layout", "yoloe", "-o", "out"),
]
