"""Result of linting: every operation with its status and findings, and shares; and a comparison of two results."""

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
    """A rule that an operation, or the package as a whole, violates; `detail` names the offending part."""

    rule: str
    level: Level
    detail: str


def findings_of(rules: Iterable[Rule[Looked]], looked_at: Looked) -> tuple[Finding, ...]:
    """Returns findings of the rules that something violates."""
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
        """Makes one with the status of its worst finding."""
        levels = {finding.level for finding in findings}
        status: Status = "leaves" if "leaves" in levels else "risk" if "risk" in levels else "ready"
        return cls(name=name, type=type, status=status, weight_bytes=weight_bytes, findings=findings)


class RuleText(BaseModel, frozen=True):
    """A violated rule: its text and its sources (title -> address)."""

    name: str
    level: Level
    text: str
    sources: dict[str, str]

    @classmethod
    def of(cls, rule: Rule[Any]) -> Self:
        """Makes the text of a rule, without its check."""
        addresses = {source.title: source.url for source in rule.sources}
        return cls(name=rule.name, level=rule.level, text=rule.text, sources=addresses)


class Share(BaseModel, frozen=True):
    """Share of a set of operations in a program: counts, bytes of weights, and both as fractions of 1."""

    operations: int
    weight_bytes: int
    of_operations: float
    of_bytes: float


class LintReport(BaseModel, frozen=True):
    """Lint results of a program.

    Attributes:
        package: the package's name; `function` within it.
        folder: name of the package's folder, such as its bundle's; None if unknown.
        device: the chip, by name.
        evaluated: True if the program was evaluated on an input, so that values were checked.
        operations: in program order.
        package_findings: on the program as a whole.
        switches: number of changes, in program order, between ops that leave and ops that do not.
        rules: the violated ones.
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
        """Makes a report of these operations.

        Args:
            where: the function, and the chip.
            rules: the checked rules; the report keeps the violated ones.
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
        """Returns the share of the operations of a status."""
        return self._share(tuple(op for op in self.operations if op.status == status))

    def found(self, rule: str) -> tuple[LintedOperation, ...]:
        """Returns the operations that violate a rule."""
        return tuple(op for op in self.operations if any(finding.rule == rule for finding in op.findings))

    def share_of(self, rule: str) -> Share:
        """Returns the share of the operations that violate a rule."""
        return self._share(self.found(rule))

    @property
    def title(self) -> str:
        """Name of the package, with the function if it is one of several."""
        return self.package if self.function == "main" else f"{self.package}, function {self.function}"

    @property
    def shares(self) -> dict[Status, Share]:
        """Share of each status."""
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
    """Two packages on one device: `statuses` always all three, `rules` those that either package violates.

    `before` and `after` distinguish them: by the packages' names, or if these are the same by their folders'. `package`
    is then the common name.
    """

    package: str | None = None
    before: str
    after: str
    device: str
    statuses: tuple[Change, ...]
    rules: tuple[Change, ...]
    switches: tuple[int, int]


def compare(before: LintReport, after: LintReport) -> Comparison:
    """Compares two reports.

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
