"""What a .mlpackage declares: inputs, outputs and operators of its ML program, read from the files alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.mil import load
from mobileclip_deploy.targets import TensorInfo
from mobileclip_deploy.targets.quiet import quiet

__all__ = ["describe", "operators"]


def describe(path: Path, function: str | None = None) -> tuple[TensorInfo, TensorInfo]:
    """The one input and one output of a package, or of one of its functions, with the types an app sees; of a
    classifier the output is its probabilities.

    Raises:
        InvalidInput: the package is damaged, or has another number of inputs or outputs.
    """
    with quiet():
        program = load(path, function)
    outputs = program.outputs
    if [port.kind for port in outputs] == ["label", "probabilities"]:
        outputs = outputs[1:]
    if len(program.inputs) != 1 or len(outputs) != 1:
        counts = f"{len(program.inputs)} inputs and {len(program.outputs)} outputs"
        raise InvalidInput(f"{path}: {counts} instead of one each")
    source, result = program.inputs[0], outputs[0]
    shape = tuple(size or 0 for size in source.shape)
    if source.kind == "image":
        first = TensorInfo(source.name, "uint8", shape, (0.0, 255.0), source.colour)
    else:
        first = TensorInfo(source.name, source.dtype, shape)
    if result.kind == "probabilities":
        return first, TensorInfo(result.name, "dictionary", ())
    return first, TensorInfo(result.name, result.dtype, tuple(size or 0 for size in result.shape))


def operators(path: Path, function: str | None = None) -> dict[str, int]:
    """How often each operator type occurs, constants not counted.

    Raises:
        InvalidInput: the package is damaged.
    """
    with quiet():
        return dict(Counter(operation.type for operation in load(path, function).operations))
