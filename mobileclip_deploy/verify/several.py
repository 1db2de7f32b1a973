"""Bundles verified one after the other, each held to the figures last accepted where there are some; and reports."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.crashes import crashed
from mobileclip_deploy.base.files import StrPath, check_file_destination, write_whole
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import GateFailed, MobileClipDeployError, NotRun, Undecided, UsageError, severity
from mobileclip_deploy.parity import ParityReport
from mobileclip_deploy.parity.baseline import ParityLock, accepted_figures, check_drift, locked_figures, read_lock
from mobileclip_deploy.verify.checks import verify_subject
from mobileclip_deploy.verify.explanation import Explanation, explain_subject
from mobileclip_deploy.verify.opening import VerifyRequest, opened_subject

UNDECIDED = (
    "what accuracy loses is too near to its gate to be told apart from chance; measure on more pictures (`dataset`), "
    "or allow more with `gates`"
)


@dataclass(frozen=True)
class Baseline:
    """A lock file, and whether today's figures are to be written into it or held to it."""

    lock: Path
    accept: bool

    @classmethod
    def of(cls, lock: StrPath | None, accept: bool) -> Baseline | None:
        """What a user gave; None where figures are not held to any.

        Raises:
            UsageError: they are to be accepted, and the file is not named or cannot be written.
        """
        if lock is None:
            if accept:
                raise UsageError("`accept=True` writes a lock file; name it with `baseline`")
            return None
        if accept:
            check_file_destination(Path(lock), force=True, option="baseline")
        if not accept or Path(lock).exists():
            read_lock(Path(lock))  # refused before anything is verified
        return cls(Path(lock), accept)

    def require(self, bundle: Bundle, name: str) -> None:
        """Refuses, before anything is verified, a bundle that the lock file does not know.

        Raises:
            InvalidInput: the lock file is damaged, or does not know this bundle or its checkpoint.
        """
        if not self.accept:
            checkpoint = bundle.manifest.checkpoint
            accepted_figures(name, checkpoint.weights, checkpoint.sha256, read_lock(self.lock))

    def judged(self, bundle: Bundle, report: ParityReport) -> ParityReport:
        """The report with a check more a tower: whether its figures are those last accepted, within noise. Where they
        are to be accepted, and every check passed, they are written beside those of other bundles instead.

        Raises:
            InvalidInput: the lock file is damaged, or does not know this bundle or its checkpoint.
        """
        sizes: dict[str, int] = {tower: entry.bytes for tower, entry in bundle.manifest.towers.items()}
        today = locked_figures(report, bundle.manifest.checkpoint, sizes)
        if not self.accept:
            left_out = {f"{check.tower} {check.step}" for check in report.left_out}
            drift = check_drift(report.bundle, today, read_lock(self.lock), left_out)
            return report.model_copy(update={"checks": (*report.checks, *drift)})
        if report.passed:
            before = read_lock(self.lock) if self.lock.exists() else ParityLock()
            self.lock.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.lock, before.accept(report.bundle, today).to_json())
        return report


@dataclass(frozen=True)
class Verified:
    """A bundle with its report, what explains it where that was wanted, and how many seconds it took."""

    bundle: Bundle
    report: ParityReport
    explanations: tuple[Explanation, ...] | None
    seconds: float

    @property
    def failure(self) -> MobileClipDeployError | None:
        """GateFailed where a check failed, else NotRun where one was not run, else Undecided; to be raised or told."""
        report = self.report
        if report.failed:
            return GateFailed(f"FAILED: {len(report.failed)} of {len(report.checks)} checks{report.by}.")
        if report.not_run:
            of = f"{len(report.not_run)} of {len(report.checks)}"
            return NotRun(f"NOT RUN: {of} checks{report.by}; what they need stands beside them.")
        if report.undecided:
            return Undecided(f"UNDECIDED: {UNDECIDED}{report.by}.")
        return None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        told = self.report.model_dump(mode="json", exclude_none=True)
        told |= {"passed": self.report.passed, "seconds": self.seconds}
        told["unproven"] = [one.model_dump(mode="json") for one in self.report.unproven]
        if self.explanations is None:
            return told
        return told | {"explanations": [one.model_dump(mode="json", exclude_none=True) for one in self.explanations]}


@dataclass(frozen=True)
class Refused:
    """A bundle that could not be verified, and why."""

    path: Path
    failure: MobileClipDeployError

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"bundle": self.path.name, "passed": False, "error": self.failure.as_dict()}


@dataclass(frozen=True)
class Records:
    """Files that tell how it ended: `junit` and `markdown` are written anew, and `summary` is added to, for a CI job.

    Raises:
        UsageError: one of the first two cannot be written.
    """

    junit: Path | None = None
    markdown: Path | None = None
    summary: Path | None = None

    def __post_init__(self) -> None:
        for option, file in (("junit", self.junit), ("markdown", self.markdown)):
            if file is not None:
                check_file_destination(file, force=True, option=option)

    @contextlib.contextmanager
    def of_crashes(self, bundle: Path) -> Iterator[None]:
        """Writes the files for a crash in the block too, as an error of the bundle: what an earlier run wrote there
        would be read as a verdict of this one.

        Raises:
            InternalError: there was a crash.
        """
        try:
            yield
        except (MobileClipDeployError, OSError):
            raise
        except Exception as error:
            failure = crashed(error)
            self.write([Refused(bundle, failure)])
            raise failure from error

    def write(self, found: Sequence[Verified | Refused]) -> None:
        """Write those that are wanted."""
        for file, text in ((self.junit, junit), (self.markdown, markdown)):
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_whole(file, text(found))
        if self.summary is not None:
            with self.summary.open("a", encoding="utf-8") as stream:
                stream.write(markdown(found) + "\n")


def verify_bundle(
    request: VerifyRequest,
    *,
    explain: bool = False,
    baseline: Baseline | None = None,
    progress: Progress = silent,
) -> Verified:
    """Run every check of one bundle, and those of the figures last accepted.

    Raises:
        InvalidInput: the bundle, its checkpoint or the lock file cannot be used.
        RuntimeFailed: the runtime refused an artifact.
    """
    began = time.monotonic()
    with opened_subject(request, progress) as subject:
        if baseline is not None:
            baseline.require(subject.bundle, subject.name)
        report = verify_subject(subject)
        explanations = explain_subject(subject) if explain else None
    if baseline is not None:
        report = baseline.judged(subject.bundle, report)
    return Verified(subject.bundle, report, explanations, round(time.monotonic() - began, 3))


def verify_bundles(
    bundles: Sequence[Path],
    request: VerifyRequest,
    *,
    explain: bool = False,
    baseline: Baseline | None = None,
    progress: Progress = silent,
) -> list[Verified | Refused]:
    """Verify bundles as `request` says, whose own bundle is passed over: one that is refused does not hide the others.

    Raises:
        MobileClipDeployError: whatever was wrong, where there is one bundle alone.
    """
    found: list[Verified | Refused] = []
    for bundle in bundles:
        own = replace(request, bundle=bundle)
        try:
            found.append(verify_bundle(own, explain=explain, baseline=baseline, progress=progress))
        except MobileClipDeployError as error:
            if len(bundles) == 1:
                raise
            found.append(Refused(bundle, error))
        except Exception as error:
            if len(bundles) == 1:
                raise
            found.append(Refused(bundle, crashed(error)))
    return found


def worst(found: Sequence[Verified | Refused]) -> MobileClipDeployError | None:
    """Returns what the command ends with: a crash (exit code 70), else what was refused (2), failed (1), was not run
    (3) or is undecided (4)."""
    if len(found) == 1:
        return found[0].failure
    failures = [(_name(one), one.failure) for one in found if one.failure is not None]
    if not failures:
        return None
    first = min((why for _, why in failures), key=severity)
    named = ", ".join(f"{name} ({why.line})" for name, why in failures if why.exit_code == first.exit_code)
    return type(first)(f"{len(failures)} of {len(found)} bundles did not pass: {named}")


def junit(found: Sequence[Verified | Refused]) -> str:
    """JUnit XML: a suite for each bundle; the only one is the whole document."""
    suites = [_suite(one) for one in found]
    root = suites[0]
    if len(suites) > 1:
        root = ElementTree.Element("testsuites")
        root.extend(suites)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def markdown(found: Sequence[Verified | Refused]) -> str:
    """A section for each bundle."""
    return "\n".join(
        one.report.markdown()
        if isinstance(one, Verified)
        else f"### {one.path.name}: could not be verified\n\n{one.failure.line}\n"
        for one in found
    )


def _suite(one: Verified | Refused) -> ElementTree.Element:
    if isinstance(one, Verified):
        suite = one.report.suite()
        suite.set("time", f"{one.seconds:.3f}")
        return suite
    counts = {"tests": "1", "failures": "0", "errors": "1", "skipped": "0", "time": "0"}
    suite = ElementTree.Element("testsuite", {"name": f"parity of {one.path.name}"} | counts)
    case = ElementTree.SubElement(suite, "testcase", classname=one.path.name, name="opened")
    ElementTree.SubElement(case, "error", message=one.failure.line)
    return suite


def _name(one: Verified | Refused) -> str:
    return one.path.name if isinstance(one, Refused) else one.report.bundle
