"""Linting what a user names: a Core ML package, or every tower of a bundle with its stored inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mobileclip_deploy.bundle import MANIFEST, Bundle
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.files import StrPath
from mobileclip_deploy.inspect.lintable import check_lintable, readable_targets, unlintable
from mobileclip_deploy.mil import Program
from mobileclip_deploy.mil.lint import Comparison, Finding, LintReport, Share, compare, find_device
from mobileclip_deploy.mil.lint import lint as lint_program
from mobileclip_deploy.mil.lint.devices import DEVICES
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.progress import Progress, silent
from mobileclip_deploy.targets import Artifact, Target, restored_target, target_of
from mobileclip_deploy.towers.inputs import Inputs

__all__ = [
    "Comparison",
    "Finding",
    "LINTED",
    "LintReport",
    "Share",
    "compare_all",
    "lint",
    "program_input",
]


PLACES = ("gpu", "npu")
"""Places that a target's own compiler compiles for on this machine (`Abilities.compiled_places`)."""
LINTED = (*DEVICES, *PLACES)
"""What can be linted for, by name: chips with a Neural Engine, and places."""


def lint(path: StrPath, device: str = "a14", *, progress: Progress = silent) -> tuple[LintReport, ...]:
    """Which operations of a Core ML package, or of each tower of a bundle, are ready for the Neural Engine of a chip;
    with `device="gpu"` which operations of a LiteRT file or bundle run on the GPU.

    A tower of a bundle is evaluated on its first stored input.

    Raises:
        UsageError: no such device, or the bundle is of another target.
        InvalidInput: there is neither a package nor a bundle there, or it is damaged.
    """
    path = Path(path)
    if device.lower() not in PLACES:
        find_device(device)
    check_lintable(path)
    progress(f"{path.name}: reading")
    if (target := next((one for one in readable_targets() if path.suffix in one.abilities.suffixes), None)) is not None:
        _refuse_place(target, device)
        functions = _program(target.open(path)).functions
        found = (lint_program(_program(target.open(path, name)), device) for name in functions)
        return tuple(report.model_copy(update={"folder": path.absolute().parent.name}) for report in found)
    if (own := target_of(path)) is not None:
        own.require_installed()
        _refuse_place(own, device)
        if linted := own.open(path).lint(device):
            return linted
    if not (path / MANIFEST).is_file():
        raise unlintable(path)
    bundle = Bundle.open(path)
    inputs = Reference.read(bundle.golden).inputs
    reports: list[LintReport] = []
    for tower, entry in bundle.manifest.towers.items():
        progress(f"{path.name}: {tower} tower")
        target = restored_target(bundle.manifest.target, bundle.manifest.options)
        artifact = target.open(bundle.artifact(tower), entry.function)
        _refuse_place(target, device)
        if not target.abilities.readable:
            if not (linted := artifact.lint(device)):
                raise UsageError(
                    f"{path} is a bundle of {bundle.manifest.target}; the Neural Engine runs Core ML packages and Core "
                    "AI assets only"
                )
            reports += linted
            continue
        program = _program(artifact).prepared()
        report = lint_program(program, device, program_input(program, inputs, 0))
        reports.append(report.model_copy(update={"folder": bundle.path.absolute().name}))
    return tuple(reports)


def _refuse_place(target: Target, device: str) -> None:
    """Refuse to lint what runs on a Neural Engine for another place, and the other way round."""
    place = device.lower()
    if place in PLACES and place not in target.abilities.compiled_places:
        raise UsageError(f"{target.title} is not compiled for the {place} here; name a chip, such as a14")
    if place not in PLACES and target.abilities.compiled_places:
        here = target.abilities.compiled_places[0]
        raise UsageError(f"{target.title} does not run on a Neural Engine; it is linted for `device='{here}'`")


def _program(artifact: Artifact) -> Program:
    program = artifact.program
    assert program is not None  # `readable` says so
    return program


def program_input(program: Program, inputs: Inputs, index: int) -> dict[str, Any]:
    """One of the reference inputs as the program takes it: bytes [H, W, 3] for an image, ids int32 [1, L] else."""
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
