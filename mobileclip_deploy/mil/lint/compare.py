"""Two packages side by side: what each status and each rule counts in the one and in the other."""

from __future__ import annotations

from pydantic import BaseModel

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.mil.lint.report import STATUSES, LintReport, Share

__all__ = ["Change", "Comparison", "compare"]


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
