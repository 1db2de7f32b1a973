"""The figures last accepted, and whether a report drifted from them."""

from __future__ import annotations

from pathlib import Path

from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import GateFailed
from mobileclip_deploy.files import write_whole
from mobileclip_deploy.parity import ParityLock, ParityReport, check_drift, locked_figures, read_lock
from mobileclip_deploy.parity.baseline import LockedBundle

__all__ = ["accept_baseline", "check_baseline"]


def check_baseline(bundle: Bundle, report: ParityReport, lock: Path) -> ParityReport:
    """The report of `verify` with a check more a tower: whether its figures are those last accepted, within noise.

    Raises:
        InvalidInput: no such lock file, or it does not know this bundle or its checkpoint.
    """
    today = _locked(bundle, report)
    left_out = {f"{check.tower} {check.step}" for check in report.left_out}
    drift = check_drift(report.bundle, today, read_lock(lock), left_out)
    return report.model_copy(update={"checks": (*report.checks, *drift)})


def accept_baseline(bundle: Bundle, report: ParityReport, lock: Path) -> None:
    """Write the figures of a report of `verify` into a lock file, beside those of other bundles in it.

    Raises:
        GateFailed: a check failed or was not run: what did not pass is not to be accepted.
        InvalidInput: the lock file is damaged.
    """
    if not report.passed:
        raise GateFailed(f"{report.bundle} did not pass every check, so its figures were not accepted")
    path = lock
    before = read_lock(path) if path.exists() else ParityLock()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, before.accept(report.bundle, _locked(bundle, report)).to_json())


def _locked(bundle: Bundle, report: ParityReport) -> LockedBundle:
    manifest = bundle.manifest
    sizes: dict[str, int] = {tower: entry.bytes for tower, entry in manifest.towers.items()}
    return locked_figures(report, manifest.checkpoint, sizes)
