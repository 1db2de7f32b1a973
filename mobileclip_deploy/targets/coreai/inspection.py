"""What an .aimodel declares and holds: functions, inputs and outputs, operations, weights by kind, largest tensors."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from mobileclip_deploy.files import artifact_bytes
from mobileclip_deploy.targets.coreai.asset import IMAGE, OWN, Asset, TensorType, operations, tensor_type
from mobileclip_deploy.targets.coreai.opening import graph_of, port_names
from mobileclip_deploy.targets.coreai.weights import RESTORED
from mobileclip_deploy.targets.inspection import PackageInspection
from mobileclip_deploy.targets.values import TensorInfo

__all__ = ["LARGEST", "inspect_asset", "ports_of"]

LARGEST = 10


def inspect_asset(asset: Asset) -> PackageInspection:
    """Describe an asset.

    Returns:
        `functions`: what each takes, gives and computes; weights' bytes are as stored, those that functions share
        counted in each. A weight is called as the function's text calls it: there are no names.

    Raises:
        InvalidInput: a function of it is damaged.
    """
    told = {
        "kind": "coreai artifact",
        "title": "Core AI asset",
        "specification_version": str(asset.metadata["assetVersion"]),
        "deployment_target": "iOS27",
        "bytes": artifact_bytes(asset.path),
        "metadata": _flat(asset.metadata),
        "functions": {name: _function(asset, name) for name in asset.functions},
    }
    return PackageInspection.model_validate(told)


def _flat(metadata: dict[str, Any]) -> dict[str, str]:
    """What whoever wrote it defined himself stands beside the rest."""
    own = metadata.get(OWN, {})
    told = {name: value for name, value in metadata.items() if name != OWN}
    return {name: str(value) for name, value in {**told, **(own if isinstance(own, dict) else {OWN: own})}.items()}


def _function(asset: Asset, name: str) -> dict[str, Any]:
    function = asset.functions[name]
    inputs, outputs = ports_of(function)
    nodes = graph_of(asset, name).nodes
    counts = Counter(node.type for node in nodes)
    precisions = Counter(node.settings["result"].split(" ")[0] for node in nodes)
    weights = [weight for operation in operations(function) if (weight := _weight(operation)) is not None]
    kinds: dict[str, dict[str, int]] = {}
    for weight in weights:
        kind = kinds.setdefault(weight["kind"], {"tensors": 0, "elements": 0, "bytes": 0})
        kind["tensors"] += 1
        kind["elements"] += math.prod(weight["shape"])
        kind["bytes"] += weight["bytes"]
    return {
        "inputs": [_port(port) for port in inputs],
        "outputs": [_port(port) for port in outputs],
        "operations": counts.total(),
        "by_type": dict(counts.most_common()),
        "by_precision": dict(precisions.most_common()),
        "not_evaluated": {},
        "weight_bytes": sum(weight["bytes"] for weight in weights),
        "weights": dict(sorted(kinds.items(), key=lambda item: -item[1]["bytes"])),
        "largest": sorted(weights, key=lambda weight: -weight["bytes"])[:LARGEST],
    }


def _weight(operation: Any) -> dict[str, Any] | None:
    """A constant of floats, or what is restored from others, which are counted with it; None for all else."""
    kind = operation.name.removeprefix("coreai.")
    if kind in RESTORED:
        parts = [tensor_type(operand) for operand in operation.operands]
        kind = f"{kind} {parts[0].dtype}"
    elif operation.name == "coreai.constant":
        parts = [tensor_type(operation.results[0])]
        users = [use.owner.name for use in operation.results[0].uses]
        if not parts[0].dtype.startswith("float") or any(user.removeprefix("coreai.") in RESTORED for user in users):
            return None
        kind = f"const {parts[0].dtype}"
    else:
        return None
    result = tensor_type(operation.results[0])
    size = sum(-(-math.prod(part.shape) * part.bits // 8) for part in parts)
    return {
        "name": str(operation.results[0].get_name()),
        "shape": list(result.shape),
        "dtype": parts[0].dtype,
        "kind": kind,
        "bytes": size,
        "bits": round(8 * size / max(math.prod(result.shape), 1), 2),
    }


def ports_of(function: Any) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """The inputs and the outputs of a function."""
    block = function.regions[0].blocks[0]
    values = list(block.arguments), list(list(operations(function))[-1].operands)
    inputs, outputs = (
        [_info(name, kind) for name, kind in zip(names, map(tensor_type, found), strict=True)]
        for names, found in zip(port_names(function), values, strict=True)
    )
    return inputs, outputs


def _info(name: str, kind: TensorType) -> TensorInfo:
    if kind.dtype.startswith(IMAGE):
        return TensorInfo(name, "uint8", (1, 3, *kind.shape), (0.0, 255.0), "RGB")
    return TensorInfo(name, kind.dtype, kind.shape)


def _port(port: TensorInfo) -> dict[str, Any]:
    return {
        "name": port.name,
        "kind": "image" if port.colour else "tensor",
        "dtype": port.dtype,
        "shape": list(port.shape),
    }
