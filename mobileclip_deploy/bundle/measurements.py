"""parity.json: what one machine measured of a bundle, apart from what is the same on every machine."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from mobileclip_deploy.parity import Check, ParityReport

__all__ = ["MEASUREMENTS", "Measurements"]

MEASUREMENTS: Literal["parity.json"] = "parity.json"


class Measurements(BaseModel, frozen=True, extra="forbid"):
    """The checks of a bundle with their figures, and where they were taken.

    `threads` that torch used, `processor` and the instruction set (`capability`) decide the last bits of a figure;
    `floor` is the noise floor of each tower (see `ParityReport`).
    """

    schema_version: Literal[1] = 1
    threads: int
    processor: str
    capability: str
    environment: dict[str, str]
    floor: dict[str, float]
    checks: tuple[Check, ...]

    @classmethod
    def of(cls, report: ParityReport, environment: dict[str, str]) -> Measurements:
        """What was measured here just now. `environment`: versions of packages."""
        import torch  # not where a bundle is merely opened: a damaged one is refused at once

        return cls(
            threads=torch.get_num_threads(),
            processor=_processor(),
            capability=torch.backends.cpu.get_cpu_capability(),
            environment=environment,
            floor=report.floor,
            checks=report.checks,
        )

    def to_json(self) -> str:
        return self.model_dump_json(indent=2, exclude_none=True) + "\n"


def _processor() -> str:
    """Its name; on Linux `platform` knows the architecture alone."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
