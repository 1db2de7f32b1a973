"""A file that this project did not write, as a competitor: its input and output, matched to a tower.

python -m mobileclip_deploy.benchmark.foreign FILE     prints what the file declares, as JSON

A foreign file is opened in a process of its own: what it does to a runtime, it does there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileclip_deploy.benchmark.job import Tensor
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.model.variants import TowerName

__all__ = ["Declared", "Fitted", "declared", "fit"]

SUFFIXES = {".onnx": "onnxruntime", ".pte": "executorch"}
# ScalarType of ExecuTorch's and torch's schema.
SCALAR_TYPES = {0: "uint8", 3: "int32", 4: "int64", 5: "float16", 6: "float32"}


@dataclass(frozen=True)
class Declared:
    """A tensor as a file declares it; a free dimension is 0."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Fitted:
    """A tower that a foreign file can stand for. `comparable`: its output has the size of the tower's embedding."""

    tower: TowerName
    input: Tensor
    output: Tensor
    comparable: bool


def declared(path: Path) -> tuple[tuple[Declared, ...], tuple[Declared, ...]]:
    """Inputs and outputs of an .onnx or .pte.

    Raises:
        UsageError: another kind of file.
        InvalidInput: the runtime cannot load it.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--against {path}: a competitor is an .onnx or a .pte file")
    if not path.is_file():
        raise InvalidInput(f"--against {path}: no such file")
    command = [sys.executable, "-m", "mobileclip_deploy.benchmark.foreign", str(path)]
    package = str(Path(__file__).parents[2])
    places = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH")) if part)
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": places})
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
        raise InvalidInput(f"--against {path}: {SUFFIXES[path.suffix]} cannot load it: {reason[:300]}")
    found = json.loads(done.stdout)
    inputs, outputs = (
        tuple(Declared(one["name"], one["dtype"], tuple(one["shape"])) for one in found[side])
        for side in ("inputs", "outputs")
    )
    return inputs, outputs


def fit(
    path: Path, inputs: tuple[Declared, ...], outputs: tuple[Declared, ...], size: int, length: int, embedding: int
) -> Fitted:
    """Tell by shapes which tower a file is, and fill in its free dimensions.

    Args:
        size: pixels of an image's side, where the file leaves it free.
        length: of a text in tokens, likewise.
        embedding: size of the embeddings that the outputs could be compared with.

    Raises:
        InvalidInput: it has not exactly one input of an image's or a text's shape, or no float output.
    """
    takes = "; ".join(f"{one.name} {one.dtype} {list(one.shape)}" for one in inputs)
    if len(inputs) != 1:
        raise InvalidInput(f"--against {path}: {len(inputs)} inputs ({takes}); give a file with one tower in it")
    source = inputs[0]
    tower: TowerName
    free: tuple[int, ...]
    if source.dtype in ("float32", "float16") and len(source.shape) == 4 and source.shape[1] in (0, 3):
        tower, free = "image", (1, 3, size, size)
    elif source.dtype in ("int32", "int64") and len(source.shape) == 2:
        tower, free = "text", (1, length)
    else:
        raise InvalidInput(f"--against {path}: its input ({takes}) is neither pixels [1, 3, S, S] nor ids")
    floats = [one for one in outputs if one.dtype in ("float32", "float16") and one.shape]
    if not floats:
        raise InvalidInput(f"--against {path}: it has no float output")
    filled = tuple(own if own else wanted for own, wanted in zip(source.shape, free, strict=True))
    matching = [one for one in floats if len(one.shape) == 2 and one.shape[-1] == embedding]
    output = matching[0] if matching else floats[0]
    return Fitted(
        tower=tower,
        input=Tensor.model_validate({"name": source.name, "dtype": source.dtype, "shape": filled}),
        output=Tensor.model_validate(
            {"name": output.name, "dtype": output.dtype, "shape": [one or 1 for one in output.shape]}
        ),
        comparable=bool(matching) and filled == free,
    )


def _onnx(path: str) -> dict[str, Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = {"float": "float32", "float16": "float16", "uint8": "uint8", "int32": "int32", "int64": "int64"}

    def row(info: Any) -> dict[str, Any]:
        element = info.type.removeprefix("tensor(").removesuffix(")")
        shape = [size if isinstance(size, int) else 0 for size in info.shape]
        return {"name": info.name, "dtype": names.get(element, element), "shape": shape}

    return {
        "inputs": [row(one) for one in session.get_inputs()],
        "outputs": [row(one) for one in session.get_outputs()],
    }


def _executorch(path: str) -> dict[str, Any]:
    from executorch.extension.pybindings import portable_lib

    meta = portable_lib._load_for_executorch(path).method_meta("forward")

    def row(info: Any, name: str) -> dict[str, Any]:
        number = int(info.dtype())
        return {"name": name, "dtype": SCALAR_TYPES.get(number, f"type {number}"), "shape": list(info.sizes())}

    return {
        "inputs": [row(meta.input_tensor_meta(index), f"input_{index}") for index in range(meta.num_inputs())],
        "outputs": [row(meta.output_tensor_meta(index), f"output_{index}") for index in range(meta.num_outputs())],
    }


def main() -> None:
    """Print what a file declares; what libraries print goes to stderr."""
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    path = sys.argv[1]
    found = _onnx(path) if path.endswith(".onnx") else _executorch(path)
    json.dump(found, stdout)
    stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
