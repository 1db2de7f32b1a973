"""What `inspect` tells of a Core ML package: interface, operations, precision, weights by kind, largest tensors."""

from __future__ import annotations

from collections import Counter
from typing import Any

from mobileclip_deploy.files import artifact_bytes
from mobileclip_deploy.mil import Operation, Port, Program, load
from mobileclip_deploy.targets.inspection import PackageInspection

__all__ = ["LARGEST", "inspect_package"]

LARGEST = 10
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
    told = {
        "kind": "coreml artifact",
        "title": "Core ML package",
        "bytes": artifact_bytes(path),
        "specification_version": first.specification_version,
        "deployment_target": OPSETS.get(first.opset, first.opset),
        "metadata": dict(first.metadata),
        "functions": {program.function: _function(program) for program in programs},
    }
    return PackageInspection.model_validate(told)


def _function(program: Program) -> dict[str, Any]:
    operations, weights = program.operations, program.weights
    kinds: dict[str, dict[str, int]] = {}
    for weight in weights:
        label = weight.kind if weight.kind != "const" else f"const {weight.dtype}"
        kind = kinds.setdefault(label, {"tensors": 0, "elements": 0, "bytes": 0})
        kind["tensors"] += 1
        kind["elements"] += _count(weight.shape)
        kind["bytes"] += weight.bytes
    largest = sorted(weights, key=lambda weight: -weight.bytes)[:LARGEST]
    return {
        "inputs": [_port(port) for port in program.inputs],
        "outputs": [_port(port) for port in program.outputs],
        "operations": len(operations),
        "by_type": dict(Counter(operation.type for operation in operations).most_common()),
        "by_precision": dict(Counter(map(_precision, operations)).most_common()),
        "not_evaluated": {kind: len(names) for kind, names in program.unsupported.items()},
        "weight_bytes": sum(weight.bytes for weight in weights),
        "weights": dict(sorted(kinds.items(), key=lambda item: -item[1]["bytes"])),
        "largest": [
            {
                "name": weight.name,
                "shape": list(weight.shape),
                "dtype": weight.dtype,
                "kind": weight.kind,
                "bytes": weight.bytes,
                "bits": round(8 * weight.bytes / max(_count(weight.shape), 1), 2),
            }
            for weight in largest
        ],
    }


def _precision(operation: Operation) -> str:
    """What an operation computes in: a comparison of integers in integers, whatever truth values it gives."""
    found = {result.dtype for result in operation.outputs}
    if found == {"bool"}:
        found |= {argument.dtype for bound in operation.inputs.values() for argument in bound if not argument.constant}
    return next((dtype for dtype in CLASSES if dtype in found), ", ".join(sorted(found)))


def _port(port: Port) -> dict[str, Any]:
    told: dict[str, Any] = {"name": port.name, "kind": port.kind, "dtype": port.dtype, "shape": list(port.shape)}
    if port.colour is not None:
        told["colour"] = port.colour
    for name in ("scale", "bias", "shapes", "ranges"):
        value = getattr(port, name)
        if value:
            told[name] = [list(item) if isinstance(item, tuple) else item for item in value]
    return told


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
