"""Targets: one folder a deployment format."""

from __future__ import annotations

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.targets.base import ExportOptions, Runner, Target, TensorInfo, TowerJob
from mobileclip_deploy.targets.coreml import CoreMLTarget
from mobileclip_deploy.targets.onnx import OnnxTarget
from mobileclip_deploy.variants import suggestion

__all__ = ["TARGETS", "ExportOptions", "Runner", "Target", "TensorInfo", "TowerJob", "get_target", "parse_targets"]

TARGETS: dict[str, Target] = {target.name: target for target in (OnnxTarget(), CoreMLTarget())}


def get_target(name: str) -> Target:
    """The target called `name`.

    Raises:
        UsageError: unknown; the text lists the known ones.
    """
    if name not in TARGETS:
        raise UsageError(f"unknown target {name!r}{suggestion(name, TARGETS)}; known: {', '.join(TARGETS)}, all")
    return TARGETS[name]


def parse_targets(text: str) -> list[Target]:
    """`onnx,coreml` or `all` -> targets, each once, in the order named.

    Raises:
        UsageError: a name is unknown.
    """
    names = list(TARGETS) if text == "all" else list(dict.fromkeys(part.strip() for part in text.split(",")))
    return [get_target(name) for name in names]
