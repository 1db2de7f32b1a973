"""The accepted figures of bundles, in a lock file, and the check that today's figures have not drifted from them.

A gate checks that an artifact is near enough to its checkpoint; the lock checks that it is as near as before. Only
noise may change: other processors and library versions round differently, and a dataset's figure moves by an example or
two. The tolerances are in the lock file itself, where they can be read and changed.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from mobileclip_deploy.base.files import read_model
from mobileclip_deploy.base.files.names import Name, Sha256
from mobileclip_deploy.errors import InvalidInput, listed
from mobileclip_deploy.network.model.provenance import Provenance
from mobileclip_deploy.parity.report import Check, ParityReport

LOCKED_STEPS = ("twin", "shipped", "task")


class Tolerances(BaseModel, frozen=True, extra="forbid"):
    """Limits of noise.

    A relative deviation or a distance 1 - cosine may grow to `deviation_factor` times the accepted value, or by
    `deviation_floor` if that is more. The signal-to-noise ratio may fall by `snr_db` decibels. An accepted ratio above
    `snr_exact` counts as `snr_exact`, since only rounding is left there. Accuracy may move by `points` either way,
    bytes by the share `bytes`.
    """

    deviation_factor: float = 1.5
    deviation_floor: float = 3e-6
    snr_db: float = 2.0
    snr_exact: float = 100.0
    points: float = 0.3
    bytes: float = 0.01


NOISE = Tolerances()


class LockedBundle(BaseModel, frozen=True, extra="forbid"):
    """Accepted figures of one bundle: `checks` by "tower step" (such as "image shipped"), and bytes by tower.

    `weights`: the hash of the checkpoint's tensors, the same in any file. None if an earlier version wrote the lock or
    the bundle.
    """

    checkpoint_sha256: Sha256
    weights: Sha256 | None = None
    checks: dict[Name, dict[Name, float]]
    bytes: dict[Name, Annotated[int, Field(ge=0, lt=2**63)]]


class ParityLock(BaseModel, frozen=True, extra="forbid"):
    """Content of a lock file: several bundles by name, and the limits of noise."""

    schema_version: Literal[1] = 1
    tolerances: Tolerances = Tolerances()
    bundles: dict[Name, LockedBundle] = {}

    def accept(self, name: str, bundle: LockedBundle) -> ParityLock:
        """Returns the lock with the figures of a bundle added."""
        bundles = dict(sorted((self.bundles | {name: bundle}).items()))
        return self.model_copy(update={"bundles": bundles})

    def to_json(self) -> str:
        """Returns stable text: figures have six digits, so that a diff shows changes and not rounding."""
        data = self.model_dump(mode="json", exclude_none=True)
        for bundle in data["bundles"].values():
            for figures in bundle["checks"].values():
                figures.update({name: float(f"{value:.6g}") for name, value in figures.items()})
        return json.dumps(data, indent=2) + "\n"


def read_lock(path: Path) -> ParityLock:
    """Reads a lock file.

    Raises:
        InvalidInput: missing, damaged or of another schema version.
    """
    return read_model(ParityLock, path, f"no lock file at {path}; write today's figures to it with `accept=True`")


def locked_figures(report: ParityReport, checkpoint: Provenance, sizes: Mapping[str, int]) -> LockedBundle:
    """Returns the part of a report that a lock stores: the figures of the twin, of the artifacts as written, and of
    accuracy."""
    checks = {
        f"{check.tower} {check.step}": figures_of(check)
        for check in report.checks
        if check.step in LOCKED_STEPS and check.status != "not run"
    }
    return LockedBundle(
        checkpoint_sha256=checkpoint.sha256, weights=checkpoint.weights, checks=checks, bytes=dict(sizes)
    )


def figures_of(check: Check) -> dict[str, float]:
    """Returns the figures of a check that are compared for drift."""
    if check.figures is not None:
        return {name: value for name, value in check.figures.items() if not name.endswith("_drop")}
    if check.deviation is None:
        return {}
    figures = {"relative": check.deviation.relative, "cosine": check.deviation.cosine}
    return figures if check.deviation.snr_db is None else figures | {"snr_db": check.deviation.snr_db}


def accepted_figures(name: str, weights: str | None, checkpoint_sha256: str, lock: ParityLock) -> LockedBundle:
    """Returns the accepted figures of a bundle of a checkpoint.

    Raises:
        InvalidInput: the lock does not know the bundle, or was accepted for another checkpoint.
    """
    accepted = lock.bundles.get(name)
    if accepted is None:
        names = listed(lock.bundles) or "none"
        raise InvalidInput(f"the lock file has no bundle {name} (it has {names}); add it with `accept=True`")
    same = accepted.weights is not None and accepted.weights == weights
    if not same and accepted.checkpoint_sha256 != checkpoint_sha256:
        raise InvalidInput(
            f"{name} is from another checkpoint than the figures in the lock file; accept its figures with "
            "`accept=True`"
        )
    return accepted


def check_drift(name: str, today: LockedBundle, lock: ParityLock, left_out: Container[str] = ()) -> list[Check]:
    """Makes one check (step "baseline") for each tower and for accuracy: failed if a figure drifted.

    Args:
        left_out: checks (such as "image twin") that were not requested today; the result lists their accepted figures
            as not measured. Any other missing figure counts as drifted.

    Raises:
        InvalidInput: see `accepted_figures`.
    """
    accepted = accepted_figures(name, today.weights, today.checkpoint_sha256, lock)
    drifted: dict[str, list[str]] = {tower: [] for tower in (*accepted.bytes, *today.bytes)}
    missing: dict[str, list[str]] = {}
    for check, figures in accepted.checks.items():
        tower, step = check.split(" ", 1)
        figures_today = today.checks.get(check)
        if figures_today is None and check in left_out:
            drifted.setdefault(tower, [])
            missing.setdefault(tower, []).append(step)
            continue
        if figures_today is None:
            drifted.setdefault(tower, []).append(f"{step} was measured before, but is not now")
            continue
        texts = drifts(figures, figures_today, lock.tolerances)
        drifted.setdefault(tower, []).extend(f"{step} {text}" for text in texts)
    for tower, size in accepted.bytes.items():
        now = today.bytes.get(tower, 0)
        if abs(now - size) > lock.tolerances.bytes * size:
            drifted[tower].append(f"bytes {now:,}, accepted {size:,}")
    return [_judged(tower, texts, missing.get(tower, ()), tower in accepted.bytes) for tower, texts in drifted.items()]


def _judged(tower: str, drifts: Sequence[str], missing: Sequence[str], sized: bool) -> Check:
    """Returns the check of a tower, or of accuracy, which has no bytes."""
    texts = [f"not measured: {', '.join(missing)}"] if missing else []
    if not drifts and not sized and missing:
        return Check.not_wanted("baseline", tower, texts[0])
    return Check(
        step="baseline",
        tower=tower,
        status="failed" if drifts else "passed",
        gate="as accepted, within noise",
        detail="; ".join([*(drifts or ["no drift"]), *texts]),
    )


def drifts(accepted: Mapping[str, float], now: Mapping[str, float], noise: Tolerances = NOISE) -> list[str]:
    """Lists in words the figures that are worse than accepted; figures that count both ways are listed if they
    moved."""
    texts = (_drift(figure, value, now.get(figure), noise) for figure, value in accepted.items())
    return [text for text in texts if text is not None]


def _drift(figure: str, accepted: float, now: float | None, noise: Tolerances) -> str | None:
    """Describes the drift of a figure. A NaN is never within noise. None if there is no drift."""
    if now is None:
        # Exact to the bit has no signal-to-noise ratio: not a drift.
        return None if figure == "snr_db" else f"{figure} is missing, accepted {accepted:.6g}"
    if figure == "snr_db":
        allowed = min(accepted, noise.snr_exact) - noise.snr_db
        return None if now >= allowed else f"{figure} {now:.1f}, accepted {accepted:.1f} (at least {allowed:.1f})"
    if figure in ("relative", "cosine"):
        before, after = (accepted, now) if figure == "relative" else (1 - accepted, 1 - now)
        allowed = max(before * noise.deviation_factor, before + noise.deviation_floor)
        return None if after <= allowed else f"{figure} {now:.6g}, accepted {accepted:.6g}"
    moved = now - accepted
    within = abs(moved) <= noise.points + 1e-9
    return None if within else f"{figure} {now:.2f}, accepted {accepted:.2f} ({moved:+.2f} points)"
