"""The outcome of linting: every operation with its status and findings, and shares; and two outcomes side by side."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.targets.mil.lint.rule import Level, Rule

Looked = TypeVar("Looked")
Status = Literal["ready", "risk", "leaves"]
STATUSES: tuple[Status, ...] = ("ready", "risk", "leaves")


class Finding(BaseModel, frozen=True):
    """A rule that an operation, or the package as a whole, falls under; `detail` says what of it does."""

    rule: str
    level: Level
    detail: str


def findings_of(rules: Iterable[Rule[Looked]], looked_at: Looked) -> tuple[Finding, ...]:
    """The rules that something falls under."""
    return tuple(
        Finding(rule=rule.name, level=rule.level, detail=detail)
        for rule in rules
        if (detail := rule.check(looked_at)) is not None
    )


class LintedOperation(BaseModel, frozen=True):
    """An operation: `ready`, `risk` or `leaves` by the worst of its findings; advice leaves it ready."""

    name: str
    type: str
    status: Status
    weight_bytes: int
    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, name: str, type: str, weight_bytes: int, findings: tuple[Finding, ...]) -> Self:
        """With the status that its findings give it."""
        levels = {finding.level for finding in findings}
        status: Status = "leaves" if "leaves" in levels else "risk" if "risk" in levels else "ready"
        return cls(name=name, type=type, status=status, weight_bytes=weight_bytes, findings=findings)


class RuleText(BaseModel, frozen=True):
    """A rule that was found broken: what it says and where that comes from (title -> address)."""

    name: str
    level: Level
    text: str
    sources: dict[str, str]

    @classmethod
    def of(cls, rule: Rule[Any]) -> Self:
        """A rule without its check."""
        addresses = {source.title: source.url for source in rule.sources}
        return cls(name=rule.name, level=rule.level, text=rule.text, sources=addresses)


class Share(BaseModel, frozen=True):
    """How much of a program a set of operations is: counts, bytes of weights, and both as fractions of 1."""

    operations: int
    weight_bytes: int
    of_operations: float
    of_bytes: float


class LintReport(BaseModel, frozen=True):
    """What was found in a program.

    Attributes:
        package: the package's name; `function` within it.
        folder: the folder that the package lies in, by name, such as its bundle's; None where nobody said.
        device: the chip, by name.
        evaluated: whether values were looked at, by evaluating the program on an input.
        operations: in program order.
        package_findings: on the program as a whole.
        switches: how often, in program order, an op that leaves follows one that does not, or the other way round.
        rules: those that were found broken.
    """

    schema_version: Literal[1] = 1
    folder: str | None = None
    package: str
    function: str
    device: str
    evaluated: bool
    operations: tuple[LintedOperation, ...]
    package_findings: tuple[Finding, ...]
    switches: int
    rules: tuple[RuleText, ...]

    @classmethod
    def of(
        cls,
        package: str,
        where: tuple[str, str],
        operations: Iterable[LintedOperation],
        rules: Iterable[RuleText],
        package_findings: Iterable[Finding] = (),
        evaluated: bool = False,
    ) -> Self:
        """A report of these operations.

        Args:
            where: the function, and the chip.
            rules: those that were looked for; the report has those that were found broken.
        """
        linted, whole = tuple(operations), tuple(package_findings)
        leaving = [operation.status == "leaves" for operation in linted]
        broken = {finding.rule for operation in linted for finding in operation.findings}
        broken |= {finding.rule for finding in whole}
        return cls(
            package=package,
            function=where[0],
            device=where[1],
            evaluated=evaluated,
            operations=linted,
            package_findings=whole,
            switches=sum(before != after for before, after in pairwise(leaving)),
            rules=tuple(rule for rule in rules if rule.name in broken),
        )

    def share(self, status: Status) -> Share:
        """The share of the operations of a status."""
        return self._share(tuple(op for op in self.operations if op.status == status))

    def found(self, rule: str) -> tuple[LintedOperation, ...]:
        """The operations that fall under a rule."""
        return tuple(op for op in self.operations if any(finding.rule == rule for finding in op.findings))

    def share_of(self, rule: str) -> Share:
        """The share of the operations that fall under a rule."""
        return self._share(self.found(rule))

    @property
    def title(self) -> str:
        """The package, and the function where it is one of several."""
        return self.package if self.function == "main" else f"{self.package}, function {self.function}"

    @property
    def shares(self) -> dict[Status, Share]:
        """The share of each status."""
        return {status: self.share(status) for status in STATUSES}

    def _share(self, operations: tuple[LintedOperation, ...]) -> Share:
        size, whole = sum(op.weight_bytes for op in operations), sum(op.weight_bytes for op in self.operations)
        return Share(
            operations=len(operations),
            weight_bytes=size,
            of_operations=len(operations) / max(len(self.operations), 1),
            of_bytes=size / max(whole, 1),
        )


class Change(BaseModel, frozen=True):
    """A status or a rule, with its share in both packages."""

    name: str
    before: Share
    after: Share


class Comparison(BaseModel, frozen=True):
    """Two packages on one device: `statuses` always all three, `rules` those that either package falls under.

    `before` and `after` tell them apart: by the packages' names, or where these are the same by their folders', and
    `package` is the name that they share.
    """

    package: str | None = None
    before: str
    after: str
    device: str
    statuses: tuple[Change, ...]
    rules: tuple[Change, ...]
    switches: tuple[int, int]


def compare(before: LintReport, after: LintReport) -> Comparison:
    """Compare two reports.

    Raises:
        UsageError: they are of different devices.
    """
    if before.device != after.device:
        raise UsageError(
            f"reports for {before.device} and for {after.device} are not compared; lint both for one device"
        )
    names = dict.fromkeys(
        finding.rule for report in (before, after) for op in report.operations for finding in op.findings
    )
    same = before.title == after.title and before.folder is not None and after.folder is not None
    return Comparison(
        package=before.title if same else None,
        before=str(before.folder) if same else before.title,
        after=str(after.folder) if same else after.title,
        device=before.device,
        statuses=tuple(
            Change(name=status, before=before.share(status), after=after.share(status)) for status in STATUSES
        ),
        rules=tuple(Change(name=name, before=before.share_of(name), after=after.share_of(name)) for name in names),
        switches=(before.switches, after.switches),
    )
