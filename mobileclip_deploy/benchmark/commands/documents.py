"""Documents that the commands of this wing print with --json, for the published schemas."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from mobileclip_deploy.benchmark.doctor import Diagnosis
from mobileclip_deploy.benchmark.documents import SCHEMAS, schema_text
from mobileclip_deploy.benchmark.driver import Listing
from mobileclip_deploy.benchmark.suite.measuring import SuiteResult
from mobileclip_deploy.benchmark.sweep.result import SweepResult
from mobileclip_deploy.cli.schemas import widened


class ReportDocument(BaseModel):
    """The files that were written, and what speaks against each run, by its id."""

    outputs: tuple[str, ...]
    runs: dict[str, tuple[str, ...]]


DoctorDocument = widened(
    "DoctorDocument",
    Diagnosis,
    "What is installed. `complete`: all required packages are installed.",
    complete=bool,
)

DOCUMENTS: dict[str, Any] = {
    "sweep": SweepResult,
    "evaluate": SuiteResult,
    "devices": list[Listing],
    "report": ReportDocument,
    "doctor": DoctorDocument,
}


def files() -> dict[str, str]:
    """Returns the schemas of jobs and results by file name: `benchmark` prints the file that it writes."""
    return {name: schema_text(model) for name, model in SCHEMAS.items()}
