"""What `inspect` tells of a Core ML package: interface, operations, precision, weights by kind, largest tensors."""

from __future__ import annotations

from mobileclip_deploy.files import artifact_bytes
from mobileclip_deploy.mil import Operation, Port, Program, load
from mobileclip_deploy.targets.inspection import FunctionInspection, PackageInspection, PortInspection, StoredTensor

__all__ = ["inspect_package"]

OPSETS = {f"CoreML{number}": f"iOS{number + 10}" for number in range(3, 9)}
# Where results of several types meet, the widest is what an operation computes in.
CLASSES = ("float64", "float32", "float16", "int32", "int16", "int8", "uint8", "bool")


def inspect_package(first: Program) -> PackageInspection:
    """Describe the package that a program was loaded from.

    Returns:
        `functions`: what each of its functions takes, gives and computes; beside that what the package is as a whole.
        `bytes` is its size on disk; weights' bytes are as stored, those that functions share counted in each.

    Raises:
        InvalidInput: another function of it is damaged.
    """
    path = first.path
    programs = [first if name == first.function else load(path, name, evaluate=False) for name in first.functions]
    return PackageInspection(
        kind="coreml artifact",
        title="Core ML package",
        bytes=artifact_bytes(path),
        specification_version=first.specification_version,
        deployment_target=OPSETS.get(first.opset, first.opset),
        metadata=dict(first.metadata),
        functions={program.function: _function(program) for program in programs},
    )


def _function(program: Program) -> FunctionInspection:
    weights = [
        (
            weight.kind if weight.kind != "const" else f"const {weight.dtype}",
            StoredTensor.of(weight.name, weight.shape, weight.dtype, weight.kind, weight.bytes),
        )
        for weight in program.weights
    ]
    return FunctionInspection.of(
        (map(_port, program.inputs), map(_port, program.outputs)),
        (operation.type for operation in program.operations),
        map(_precision, program.operations),
        weights,
        {kind: len(names) for kind, names in program.unsupported.items()},
    )


def _precision(operation: Operation) -> str:
    """What an operation computes in: a comparison of integers in integers, whatever truth values it gives."""
    found = {result.dtype for result in operation.outputs}
    if found == {"bool"}:
        found |= {argument.dtype for bound in operation.inputs.values() for argument in bound if not argument.constant}
    return next((dtype for dtype in CLASSES if dtype in found), ", ".join(sorted(found)))


def _port(port: Port) -> PortInspection:
    told = {name: getattr(port, name) or None for name in ("colour", "scale", "bias", "shapes", "ranges")}
    return PortInspection(name=port.name, kind=port.kind, dtype=port.dtype, shape=port.shape, **told)
