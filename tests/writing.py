"""Towers and bundles written in tests without the command line: targets with options, jobs, plans, subjects."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import known

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.export.plan import BundlePlan
from mobileclip_deploy.export.request import ExportRequest, Writing
from mobileclip_deploy.export.steps import Written, write_bundle
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.model.precision import precision_label
from mobileclip_deploy.network.model.provenance import Provenance
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Gates
from mobileclip_deploy.parity.computing import compute_reference
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import Target, TowerJob, get_target
from mobileclip_deploy.targets.jobs import tower_job
from mobileclip_deploy.targets.values import Pace
from mobileclip_deploy.verify.subject import Evidence, OpenedSubject

NOWHERE = Provenance(variant="test", layout="test", sha256="0" * 64, file="test", licence="", research_only=False)


def chosen(name: str, **options: Any) -> Target:
    target = get_target(name)
    return target.with_options(type(target.options)(**{**vars(target.options), **options}))


def job_of(model: mcd.MobileCLIP, tower: TowerName, precision: str, **more: Any) -> TowerJob:
    """A job of a folded model; of weights that came from nowhere, too."""
    made = {name: more.pop(name) for name in ("head", "form", "calibration") if name in more}
    return replace(tower_job(Source(model, model.provenance or NOWHERE), tower, precision, **made), **more)


def written(
    model: mcd.MobileCLIP,
    target: Target,
    precisions: dict[TowerName, str],
    output: Path,
    reference: Reference | None = None,
    **asked: Any,
) -> Written:
    name = f"{model.variant.name}-{target.label}-{precision_label(precisions)}"
    request = ExportRequest((), writing=Writing(verify=asked.pop("verify", True)), **asked)
    whole = BundlePlan(output / name, target.settled(precisions), precisions, request)
    reference = reference or compute_reference(model, sample_inputs(model))
    return write_bundle(whole, Source.of(model), Evidence(reference))


def small_bundle(name: str, target: str, precision: str | None, folder: Path, **asked: Any) -> Bundle:
    """A bundle of a small network: see `known`, whose files are beside it."""
    with known(folder, name) as checkpoint:
        return mcd.export(mcd.load_model(name, checkpoint), target, precision, folder / "out", **asked)


def slow_runtime(monkeypatch: pytest.MonkeyPatch, target: str, asked: int) -> None:
    """A target whose runtime is asked so few inputs of a tower, as one that computes for proof alone."""
    kind: Any = type(get_target(target))
    pace = Pace(asked=((float("inf"), asked),), seconds={"float16": 1.0, "float32": 1.0})
    places = replace(kind.capabilities.places, slow_runtime=pace)
    monkeypatch.setattr(kind, "capabilities", replace(kind.capabilities, places=places))


def subject(
    bundle: Bundle, model: mcd.MobileCLIP | None, reference: Reference, folder: Path, **more: Any
) -> OpenedSubject:
    """A bundle under verification, with the usual gates unless others are given."""
    source = None if model is None else Source.of(model).folded()
    return OpenedSubject(bundle, Evidence(reference), more.pop("gates", Gates()), folder, source=source, **more)
