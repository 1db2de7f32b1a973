"""The outcome of verification: checks that passed, failed or could not be run, with their figures."""

from __future__ import annotations

from typing import Literal
from xml.etree import ElementTree

from pydantic import BaseModel, ConfigDict

from mobileclip_deploy.parity.gates import Gates, passes
from mobileclip_deploy.parity.metrics import Deviation

__all__ = ["Check", "ParityReport"]

Status = Literal["passed", "failed", "not run"]


class Check(BaseModel):
    """One check of one tower.

    `step` is `structure` (names, types, shapes, bytes), `folded`, `tower`, `twin` (the semantic step's stages),
    `authored`, `embedding`, `prepared`, `converted`, `lowered` (ExecuTorch's stages, each against the one before it),
    `golden` (the stored reference against the checkpoint), `shipped` (the artifact as written) or `task` (accuracy in
    percent, and what it dropped in points: `figures`).
    """

    model_config = ConfigDict(frozen=True)

    step: str
    tower: str
    status: Status
    engine: str | None = None
    gate: str | None = None
    deviation: Deviation | None = None
    figures: dict[str, float] | None = None
    detail: str | None = None

    @classmethod
    def measured(cls, step: str, tower: str, deviation: Deviation, metric: str, bound: float, engine: str) -> Check:
        """A check that compares a deviation with its bound."""
        sign = ">=" if metric == "cosine" else "<="
        return cls(
            step=step,
            tower=tower,
            status="passed" if passes(deviation, metric, bound) else "failed",
            engine=engine,
            gate=f"{metric} {sign} {bound:g}",
            deviation=deviation,
        )

    @classmethod
    def semantic(cls, step: str, tower: str, deviation: Deviation, gates: Gates, engine: str) -> Check:
        """A check of the semantic step: float32 arithmetic, so the relative deviation counts."""
        return cls.measured(step, tower, deviation, "relative", gates.semantic, engine)

    def describe(self) -> str:
        """The gate, the figures and the detail in one line."""
        parts = [self.gate, self.detail]
        if self.deviation is not None:
            parts.insert(1, f"relative {self.deviation.relative:.1e}, cosine {self.deviation.cosine:.6f}")
        if self.figures is not None:
            parts.insert(1, ", ".join(f"{name} {value:.2f}" for name, value in self.figures.items()))
        return "; ".join(part for part in parts if part)

    @classmethod
    def not_run(cls, step: str, tower: str, reason: str) -> Check:
        """A check that could not be carried out here."""
        return cls(step=step, tower=tower, status="not run", detail=reason)


class ParityReport(BaseModel):
    """All checks of one bundle."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = 1
    bundle: str
    variant: str
    target: str
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.status == "failed")

    @property
    def not_run(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.status == "not run")

    @property
    def passed(self) -> bool:
        """Every check was run and passed."""
        return bool(self.checks) and not self.failed and not self.not_run

    def junit(self) -> str:
        """The report as JUnit XML: a failed check is a failure, one that was not run an error."""
        suite = ElementTree.Element(
            "testsuite",
            name=f"parity of {self.bundle}",
            tests=str(len(self.checks)),
            failures=str(len(self.failed)),
            errors=str(len(self.not_run)),
        )
        for check in self.checks:
            case = ElementTree.SubElement(suite, "testcase", classname=self.bundle, name=f"{check.tower} {check.step}")
            text = check.describe()
            if check.status != "passed":
                ElementTree.SubElement(case, "failure" if check.status == "failed" else "error", message=text)
            ElementTree.SubElement(case, "system-out").text = text
        ElementTree.indent(suite)
        return ElementTree.tostring(suite, encoding="unicode") + "\n"
