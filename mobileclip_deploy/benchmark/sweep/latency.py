"""Latencies of a sweep's bundles: one benchmark of all of them, after all other work has ended."""

import shutil
from pathlib import Path

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files import content_sha256, write_whole
from mobileclip_deploy.base.files.names import RowError
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.assembly import complete
from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.door import benchmark
from mobileclip_deploy.benchmark.driver import get_driver
from mobileclip_deploy.benchmark.job import get_protocol, quick
from mobileclip_deploy.benchmark.report.points import milliseconds
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.benchmark.sweep.result import SweepResult
from mobileclip_deploy.benchmark.sweep.specification import Specification
from mobileclip_deploy.errors import InvalidInput, MobileClipDeployError

LATENCY = "latency.json"
DEVICE = "latency.device"
"""File with the hash of the measured device's name: a result that is sent to others has no serial number."""


def measure_latency(result: SweepResult, specification: Specification, progress: Progress) -> SweepResult:
    """Returns the result with the latency of every tower with right answers on the device.

    Earlier measurements of the same artifacts are reused. If the device is missing or fails, `latency_error` says so.
    """
    assert specification.device is not None
    folder = Path(result.output)
    bundles = [folder / row.bundle for row in result.rows if row.bundle is not None]
    if not bundles:
        return result
    # One path per set of artifacts: cells may have the same bytes, which are measured once.
    artifacts = {path: _artifacts(path) for path in bundles}
    once: dict[frozenset[tuple[str, str]], Path] = {}
    for path, hashes in artifacts.items():
        once.setdefault(hashes, path)
    error: MobileClipDeployError | None = None
    measured = earlier_result(folder, specification, frozenset().union(*artifacts.values()))
    if measured is None:
        interrupted = folder / f"{LATENCY}.partial"
        if (interrupted / "job.json").exists():  # may be of other bundles, so the benchmark restarts
            shutil.rmtree(interrupted)
        try:
            outcome = benchmark(
                list(once.values()),
                device=specification.device,
                protocol=specification.protocol,
                quick=specification.quick,
                output=folder / LATENCY,
                force=True,
                progress=progress,
            )
            measured, error = outcome.result, outcome.failure
            write_whole(folder / DEVICE, f"{_device_hash(specification.device) or ''}\n")
        except MobileClipDeployError as failure:
            return result.model_copy(update={"latency_error": RowError.of(failure)})
    times = {
        (cell.tower, cell.sha256): time
        for cell, hashes in measured.pairs()
        if (time := milliseconds(hashes, measured.job.protocol.statistic)) is not None
    }
    rows = []
    for row in result.rows:
        of_row: frozenset[tuple[str, str]] = frozenset() if row.bundle is None else artifacts[folder / row.bundle]
        rows.append(row.model_copy(update={"latency": {key[0]: times[key] for key in sorted(of_row) if key in times}}))
    return result.model_copy(
        update={
            "rows": tuple(rows),
            "protocol": measured.job.protocol.name,
            "latency_error": None if error is None else RowError.of(error),
        }
    )


def _artifacts(path: Path) -> frozenset[tuple[str, str]]:
    return frozenset((tower, entry.sha256) for tower, entry in Bundle.open(path).manifest.towers.items())


def earlier_result(folder: Path, specification: Specification, wanted: frozenset[tuple[str, str]]) -> Result | None:
    """Returns an earlier result of exactly these artifacts, on the same device with the same protocol; None if there is
    none, or if one of its cells is not done.

    A device that is out of reach may be the same one, unless `specification` names another.
    """
    try:
        result = complete(read_result(folder / LATENCY))
    except InvalidInput:
        return None
    device = specification.device or ""
    same = {(cell.tower, cell.sha256) for cell in result.job.cells} == wanted
    same = same and result.device.kind == device.partition(":")[0] and _is_measured_device(folder, device)
    whole = all(cell.status == "done" for cell in result.cells)
    protocol = get_protocol(specification.protocol)
    expected = (quick(protocol) if specification.quick else protocol).name
    return result if same and whole and result.job.protocol.name == expected else None


def _is_measured_device(folder: Path, device: str) -> bool:
    file, expected = folder / DEVICE, _device_hash(device)
    measured = file.read_bytes().decode("ascii", "replace").strip() if file.is_file() else ""
    return expected in (None, measured)


def _device_hash(device: str) -> str | None:
    """Returns a hash of the name of the device that `benchmark` would measure. None if none or several are ready."""
    if ":" in device:
        return content_sha256(device.encode())
    ready = [listing for listing in get_driver(device).discover() if listing.state == "ready"]
    if len(ready) != 1:
        return None
    # A kind with one device has no serial number: its description tells this machine from another one.
    name = ready[0].device if ":" in ready[0].device else f"{ready[0].device} {ready[0].name}"
    return content_sha256(name.encode())
