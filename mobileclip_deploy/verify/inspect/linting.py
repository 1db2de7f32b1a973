"""Lint of a user's path: a Core ML package, or every tower of a bundle with its stored inputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mobileclip_deploy.artifacts.bundle import MANIFEST, Bundle
from mobileclip_deploy.base.files import StrPath
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.inputs import Inputs
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import Artifact, Target, installed_target, restored_target, target_of
from mobileclip_deploy.targets.mil.lint.devices import DEFAULT_DEVICE, DEVICES, find_device
from mobileclip_deploy.targets.mil.lint.report import Comparison, Finding, LintReport, Share, compare
from mobileclip_deploy.verify.inspect.lintable import check_lintable

if TYPE_CHECKING:
    from mobileclip_deploy.targets.mil import Program

__all__ = ["Comparison", "Finding", "LINTED", "LintReport", "Share", "compare_all", "lint", "program_input"]


PLACES = ("gpu", "npu")
"""Places that a target's own compiler compiles for on this machine (`Places.compiled`)."""
LINTED = (*DEVICES, *PLACES)
"""Devices of a lint, by name: chips with a Neural Engine, and places."""


def lint(
    path: StrPath, device: str | None = None, *, target: str | None = None, progress: Progress = silent
) -> tuple[LintReport, ...]:
    """Reports the operations that suit a device. For a Core ML package, a Core AI asset or each tower of a bundle: the
    Neural Engine of a chip. For a LiteRT file: the GPU. For a model of Qualcomm: the NPU.

    A tower of a bundle is evaluated on its first stored input.

    Args:
        device: a chip, "gpu" or "npu"; None: the target's compiled place here, else "a14", the strictest chip.
        target: name of another target whose lint is used: "qnn" for an ONNX model.

    Raises:
        UsageError: no such device or target, or the bundle is of another target.
        InvalidInput: there is neither a package nor a bundle there, or it is damaged.
    """
    path = Path(path)
    if device is not None and device.lower() not in PLACES:
        find_device(device)
    requested = None if target is None else installed_target(target)
    check_lintable(path)
    progress(f"{path.name}: reading")
    if not (path / MANIFEST).is_file():
        written = target_of(path)
        assert written is not None  # `check_lintable` refuses others
        linter = _linted_by(requested, written, path, path)
        linter.require_installed()
        place = _device(linter, device)
        if linter.capabilities.formats.readable:
            functions = _program(linter.open(path)).functions
            folder = {"folder": path.absolute().parent.name}
            programs = (_program(linter.open(path, name)) for name in functions)
            return tuple(_linted(program, place).model_copy(update=folder) for program in programs)
        if linted := linter.open(path).lint(place):
            return linted
        raise _without_lint(path, linter.name)
    bundle = Bundle.open(path)
    inputs = Reference.read(bundle.golden).inputs
    reports: list[LintReport] = []
    for tower, entry in bundle.manifest.towers.items():
        progress(f"{path.name}: {tower} tower")
        written = restored_target(bundle.manifest.target, bundle.manifest.options)
        linter = _linted_by(requested, written, bundle.artifact(tower), path)
        artifact = linter.open(bundle.artifact(tower), entry.function)
        place = _device(linter, device)
        if not linter.capabilities.formats.readable:
            if not (linted := artifact.lint(place)):
                raise _without_lint(path, bundle.manifest.target)
            reports += linted
            continue
        program = _program(artifact).prepared()
        report = _linted(program, place, program_input(program, inputs, 0))
        reports.append(report.model_copy(update={"folder": bundle.path.absolute().name}))
    return tuple(reports)


def _linted_by(asked: Target | None, written: Target, file: Path, path: Path) -> Target:
    """Returns the target that lints a file. A target other than the file's own lints ONNX models only."""
    if asked is None or asked.name == written.name:
        return written
    if file.suffix != ".onnx":
        raise _without_lint(path, written.name)
    return asked


def _without_lint(path: Path, target: str) -> UsageError:
    return UsageError(
        f"{path} is for {target}; give a Core ML package or a Core AI asset (Neural Engine), a LiteRT file (GPU), a "
        "bundle for Qualcomm (NPU), or an ONNX model with `target='qnn'`"
    )


def _device(target: Target, device: str | None) -> str:
    """Returns the device to lint for. A Neural Engine file is not linted for another place, and the other way round."""
    here = target.capabilities.places.compiled
    if device is None:
        return here[0] if here else DEFAULT_DEVICE
    place = device.lower()
    where = f"is not compiled for the {place} here" if place in PLACES else "does not run on a Neural Engine"
    if here and place not in here:
        raise UsageError(f"{target.title} {where}; it is linted for `device='{here[0]}'`")
    if place in PLACES and place not in here:
        raise UsageError(f"{target.title} {where}; name a chip, such as a14")
    return device


def _linted(program: Program, place: str, inputs: dict[str, Any] | None = None) -> LintReport:
    from mobileclip_deploy.targets.mil.lint.rules import lint as lint_program  # evaluates by torch

    return lint_program(program, place, inputs)


def _program(artifact: Artifact) -> Program:
    program = artifact.program
    assert program is not None  # since the target is `readable`
    return program


def program_input(program: Program, inputs: Inputs, index: int) -> dict[str, Any]:
    """Returns one reference input in the program's form: bytes [H, W, 3] for an image, else ids int32 [1, L]."""
    (port,) = program.inputs
    if port.kind == "image":
        return {port.name: np.rint(inputs.pixels[index] * 255).astype(np.uint8).transpose(1, 2, 0)}
    return {port.name: inputs.ids[index : index + 1].astype(np.int32)}


def compare_all(before: tuple[LintReport, ...], after: tuple[LintReport, ...]) -> tuple[Comparison, ...]:
    """Compares two lists of reports package by package, in order.

    Raises:
        UsageError: both sides have different lengths.
    """
    if len(before) != len(after):
        raise UsageError(
            f"{len(before)} packages are not compared with {len(after)}; name a package or bundle of the same towers"
        )
    return tuple(compare(first, second) for first, second in zip(before, after, strict=True))
