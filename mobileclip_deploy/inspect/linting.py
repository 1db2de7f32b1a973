"""Linting what a user names: a Core ML package, or every tower of a bundle with its stored inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mobileclip_deploy.bundle import MANIFEST, Bundle
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.mil import Program, load
from mobileclip_deploy.mil.lint import Comparison, LintReport, compare, find_device, lint
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.towers.inputs import Inputs

__all__ = ["compare_all", "lint_path", "program_input"]


def lint_path(path: Path, device: str) -> tuple[LintReport, ...]:
    """Lint each function of a package, or each tower of a bundle, which is evaluated on its first stored input.

    Raises:
        UsageError: no such device, or the bundle is of another target.
        InvalidInput: there is neither a package nor a bundle there, or it is damaged.
    """
    find_device(device)
    if not path.exists():
        raise InvalidInput(f"no file or folder at {path}")
    if path.suffix == ".mlpackage":
        functions = load(path, evaluate=False).functions
        return tuple(lint(load(path, function, evaluate=False), device) for function in functions)
    if not (path / MANIFEST).is_file():
        raise InvalidInput(f"{path} is neither a .mlpackage nor a bundle (no {MANIFEST})")
    bundle = Bundle.open(path)
    if bundle.manifest.target != "coreml":
        raise UsageError(
            f"{path} is a bundle of {bundle.manifest.target}; the Neural Engine runs Core ML packages only"
        )
    inputs = Reference.read(bundle.golden).inputs
    reports = []
    for tower, entry in bundle.manifest.towers.items():
        program = load(bundle.artifact(tower), entry.function)
        reports.append(lint(program, device, program_input(program, inputs, 0)))
    return tuple(reports)


def program_input(program: Program, inputs: Inputs, index: int) -> dict[str, Any]:
    """One of the reference inputs as the program takes it: bytes [H, W, 3] for an image, ids int32 [1, 77] else."""
    (port,) = program.inputs
    if port.kind == "image":
        return {port.name: np.rint(inputs.pixels[index] * 255).astype(np.uint8).transpose(1, 2, 0)}
    return {port.name: inputs.ids[index : index + 1].astype(np.int32)}


def compare_all(before: tuple[LintReport, ...], after: tuple[LintReport, ...]) -> tuple[Comparison, ...]:
    """Compare package by package, in order.

    Raises:
        UsageError: there are not as many on both sides.
    """
    if len(before) != len(after):
        raise UsageError(
            f"{len(before)} packages are not compared with {len(after)}; name a package or bundle of the same towers"
        )
    return tuple(compare(first, second) for first, second in zip(before, after, strict=True))
