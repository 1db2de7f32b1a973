"""Targets: one folder a deployment format."""

from __future__ import annotations

from collections.abc import Sequence

from mobileclip_deploy.bundle import TensorInfo
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.model.variants import suggestion
from mobileclip_deploy.targets.base import ExportOptions, Place, Runner, Target, TowerJob
from mobileclip_deploy.targets.coreml import CoreMLTarget
from mobileclip_deploy.targets.executorch import ExecuTorchTarget, parse_backends
from mobileclip_deploy.targets.onnx import OnnxTarget

__all__ = [
    "TARGETS",
    "ExportOptions",
    "Place",
    "Runner",
    "Target",
    "TensorInfo",
    "TowerJob",
    "check_options",
    "get_target",
    "installed_target",
    "parse_targets",
]

TARGETS: dict[str, Target] = {target.name: target for target in (OnnxTarget(), CoreMLTarget(), ExecuTorchTarget())}


def get_target(name: str) -> Target:
    """The target called `name`; `executorch-<backend>` is ExecuTorch's for another backend than XNNPACK.

    Raises:
        UsageError: unknown; the text lists the known ones.
    """
    if name.startswith("executorch-"):
        return ExecuTorchTarget(name.removeprefix("executorch-"))
    if name not in TARGETS:
        raise UsageError(f"unknown target {name!r}{suggestion(name, TARGETS)}; known: {', '.join(TARGETS)}, all")
    return TARGETS[name]


def installed_target(name: str, function: str | None = None) -> Target:
    """The target called `name`, to read or run what it wrote: of an artifact with several functions, this one.

    Raises:
        UsageError: unknown; the text lists the known ones.
        InvalidInput: a function is named, and its artifacts have none.
        DependencyMissing: its packages are not installed; the text holds the pip line.
    """
    target = get_target(name)
    target.require_installed()
    return target.for_function(function)


def check_options(targets: Sequence[Target], options: ExportOptions) -> None:
    """Refuse options that none of the targets knows.

    Raises:
        UsageError: the text names the target that does.
    """
    chosen = {
        "--dynamic-batch": options.dynamic_batch,
        "--bundled-program": options.bundled_program,
        "--etrecord": options.etrecord,
    }
    names = [name for name, wanted in chosen.items() if wanted]
    if names and not any(isinstance(target, ExecuTorchTarget) for target in targets):
        verb = "is" if len(names) == 1 else "are"
        raise UsageError(f"{' and '.join(names)} {verb} ExecuTorch's; add --target executorch")
    if options.multifunction and not any(isinstance(target, CoreMLTarget) for target in targets):
        raise UsageError("--multifunction is Core ML's; add --target coreml")


def parse_targets(text: str, backends: str | None = None) -> list[Target]:
    """`onnx,coreml` or `all` -> targets, each once, in the order named; ExecuTorch once for each of `backends`.

    Raises:
        UsageError: a name is unknown, or backends are named for no target that has any.
    """
    names = list(TARGETS) if text == "all" else list(dict.fromkeys(part.strip() for part in text.split(",")))
    if backends is not None:
        if ExecuTorchTarget.name not in names:
            raise UsageError("--backend chooses ExecuTorch's backends; add --target executorch")
        at = names.index(ExecuTorchTarget.name)
        names[at : at + 1] = [f"{ExecuTorchTarget.name}-{backend}" for backend in parse_backends(backends)]
    return [get_target(name) for name in names]
