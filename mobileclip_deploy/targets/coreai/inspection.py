"""What an .aimodel declares and holds: functions, inputs and outputs, operations, weights by kind, largest tensors."""

from __future__ import annotations

import math
from typing import Any

from mobileclip_deploy.files import artifact_bytes
from mobileclip_deploy.targets.coreai.asset import IMAGE, OWN, Asset, TensorType, operations, tensor_type
from mobileclip_deploy.targets.coreai.opening import graph_of, named_ports
from mobileclip_deploy.targets.coreai.weights import RESTORED
from mobileclip_deploy.targets.inspection import FunctionInspection, PackageInspection, PortInspection, StoredTensor
from mobileclip_deploy.targets.values import TensorInfo

__all__ = ["inspect_asset", "ports_of"]


def inspect_asset(asset: Asset) -> PackageInspection:
    """Describe an asset.

    Returns:
        `functions`: what each takes, gives and computes; weights' bytes are as stored, those that functions share
        counted in each. A weight is called as the function's text calls it: there are no names.

    Raises:
        InvalidInput: a function of it is damaged.
    """
    return PackageInspection(
        kind="coreai artifact",
        title="Core AI asset",
        bytes=artifact_bytes(asset.path),
        specification_version=str(asset.metadata["assetVersion"]),
        deployment_target="iOS27",
        metadata=_flat(asset.metadata),
        functions={name: _function(asset, name) for name in asset.functions},
    )


def _flat(metadata: dict[str, Any]) -> dict[str, str]:
    """What whoever wrote it defined himself stands beside the rest."""
    own = metadata.get(OWN, {})
    told = {name: value for name, value in metadata.items() if name != OWN}
    return {name: str(value) for name, value in {**told, **(own if isinstance(own, dict) else {OWN: own})}.items()}


def _function(asset: Asset, name: str) -> FunctionInspection:
    function = asset.functions[name]
    nodes = graph_of(asset, name).nodes
    inputs, outputs = ports_of(asset, function)
    weights = [weight for operation in operations(function) if (weight := _weight(operation)) is not None]
    return FunctionInspection.of(
        (map(_port, inputs), map(_port, outputs)),
        (node.type for node in nodes),
        (node.settings["result"].split(" ")[0] for node in nodes),
        [(weight.kind, weight) for weight in weights],
    )


def _weight(operation: Any) -> StoredTensor | None:
    """A constant of floats, or what is restored from others, which are counted with it; None for all else."""
    kind = operation.name.removeprefix("coreai.")
    if kind in RESTORED:
        parts = [tensor_type(operand) for operand in operation.operands]
    elif kind == "constant":
        kind, parts = "const", [tensor_type(operation.results[0])]
        users = [use.owner.name.removeprefix("coreai.") for use in operation.results[0].uses]
        if not parts[0].dtype.startswith("float") or any(user in RESTORED for user in users):
            return None
    else:
        return None
    result, dtype = operation.results[0], parts[0].dtype
    size = sum(-(-math.prod(part.shape) * part.bits // 8) for part in parts)
    return StoredTensor.of(str(result.get_name()), tensor_type(result).shape, dtype, f"{kind} {dtype}", size)


def ports_of(asset: Asset, function: Any) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """The inputs and the outputs of a function."""
    inputs, outputs = ([_info(name, kind) for name, kind in side] for side in named_ports(asset, function))
    return inputs, outputs


def _info(name: str, kind: TensorType) -> TensorInfo:
    if kind.dtype.startswith(IMAGE):
        return TensorInfo(name, "uint8", (1, 3, *kind.shape), (0.0, 255.0), "RGB")
    return TensorInfo(name, kind.dtype, kind.shape)


def _port(port: TensorInfo) -> PortInspection:
    return PortInspection(name=port.name, kind="image" if port.colour else "tensor", dtype=port.dtype, shape=port.shape)
