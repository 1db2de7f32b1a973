"""Verification of several bundles, optional comparison with accepted figures of a lock file, and reports."""

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
from mobileclip_deploy.verify.reports.explanation import Explanation, explain_subject
from mobileclip_deploy.verify.request import VerifyRequest


@dataclass(frozen=True)
class Baseline:
    """A lock file, and whether today's figures are written into it or compared with it. `undecided`: they are written
    also if accuracy is undecided."""

    lock: Path
    accept: bool
    undecided: bool = False

    @classmethod
    def of(cls, lock: StrPath | None, accept: bool, undecided: bool = False) -> Baseline | None:
        """Builds the baseline from the user's options. None without a lock file.

        Raises:
            UsageError: `accept` without a file name, or the file cannot be written; or `accept_undecided` alone.
        """
        if undecided and not accept:
            raise UsageError("`accept_undecided=True` is for `accept`; give both")
        if lock is None:
            if accept:
                raise UsageError("`accept=True` writes a lock file; name it with `baseline`")
            return None
        if accept:
            check_file_destination(Path(lock), force=True, option="baseline")
        if not accept or Path(lock).exists():
            read_lock(Path(lock))  # refused before anything is verified
        return cls(Path(lock), accept, undecided)

    def accepts(self, report: ParityReport) -> bool:
        """Returns whether today's figures are written into the lock file."""
        open_checks = bool(report.failed or report.not_run or (report.undecided and not self.undecided))
        return self.accept and bool(report.checks) and not open_checks

    def require(self, bundle: Bundle, name: str) -> None:
        """Refuses a bundle that the lock file does not contain, before the verification.

        Raises:
            InvalidInput: the lock file is damaged, or does not contain this bundle or its checkpoint.
        """
        if not self.accept:
            checkpoint = bundle.manifest.checkpoint
            accepted_figures(name, checkpoint.weights, checkpoint.sha256, read_lock(self.lock))

    def judged(self, bundle: Bundle, report: ParityReport) -> ParityReport:
        """Returns the report with one more check per tower: its figures equal the accepted ones, within noise. With
        `accept`, writes today's figures into the lock file instead, if every check passed.

        Raises:
            InvalidInput: the lock file is damaged, or does not contain this bundle or its checkpoint.
        """
        sizes: dict[str, int] = {tower: entry.bytes for tower, entry in bundle.manifest.towers.items()}
        today = locked_figures(report, bundle.manifest.checkpoint, sizes)
        if not self.accept:
            left_out = {f"{check.tower} {check.step}" for check in report.left_out}
            drift = check_drift(report.bundle, today, read_lock(self.lock), left_out)
            return report.model_copy(update={"checks": (*report.checks, *drift)})
        if self.accepts(report):
            before = read_lock(self.lock) if self.lock.exists() else ParityLock()
            self.lock.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.lock, before.accept(report.bundle, today).to_json())
        return report


@dataclass(frozen=True)
class Verified:
    """A bundle with its report, its explanations (None if not requested) and the duration in seconds."""

    bundle: Bundle
    report: ParityReport
    explanations: tuple[Explanation, ...] | None
    seconds: float

    @property
    def failure(self) -> MobileClipDeployError | None:
        """GateFailed if a check failed, else NotRun if a check was not run, else Undecided. None if all passed."""
        report = self.report
        if report.failed:
            return GateFailed(f"FAILED: {len(report.failed)} of {len(report.checks)} checks{report.by}.")
        if report.not_run:
            of = f"{len(report.not_run)} of {len(report.checks)}"
            return NotRun(f"NOT RUN: {of} checks{report.by}; the table says what they need.")
        if report.undecided:
            changed = any(loss.lost or loss.won for check in report.undecided for loss in (check.losses or {}).values())
            few = "too few pictures to tell a loss from chance"
            reason = few if changed else "no prediction changed, but so few pictures cannot exclude a loss"
            remedy = "measure on more (`dataset`), or allow more with `gates`"
            return Undecided(f"UNDECIDED: {reason}{report.by}; {remedy}.")
        return None

    def as_dict(self) -> dict[str, Any]:
        """Returns the report and its verdict, for JSON."""
        record = self.report.model_dump(mode="json", exclude_none=True)
        record |= {"passed": self.report.passed, "seconds": self.seconds}
        record["unproven"] = [item.model_dump(mode="json") for item in self.report.unproven]
        if self.explanations is None:
            return record
        return record | {
            "explanations": [item.model_dump(mode="json", exclude_none=True) for item in self.explanations]
        }


@dataclass(frozen=True)
class Refused:
    """A bundle that could not be verified, and the error."""

    path: Path
    failure: MobileClipDeployError

    def as_dict(self) -> dict[str, Any]:
        """Returns the bundle's name and the error, for JSON."""
        return {"bundle": self.path.name, "passed": False, "error": self.failure.as_dict()}


@dataclass(frozen=True)
class Records:
    """Result files for a CI job. `junit` and `markdown` are overwritten; `summary` is appended to.

    Raises:
        UsageError: `junit` or `markdown` cannot be written.
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
        """Writes the files also if the block crashes, with the crash as an error of the bundle. Files of an earlier run
        would be read as this run's verdict.

        Raises:
            InternalError: the block crashed.
        """
        try:
            yield
        except (MobileClipDeployError, OSError):
            raise
        except Exception as error:
            failure = crashed(error)
            self.write([Refused(bundle, failure)])
            raise failure from error

    def write(self, results: Sequence[Verified | Refused]) -> None:
        """Writes the files that were requested."""
        for file, text in ((self.junit, junit), (self.markdown, markdown)):
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_whole(file, text(results))
        if self.summary is not None:
            with self.summary.open("a", encoding="utf-8") as stream:
                stream.write(markdown(results) + "\n")


def verify_bundle(
    request: VerifyRequest, *, explain: bool = False, baseline: Baseline | None = None, progress: Progress = silent
) -> Verified:
    """Runs every check of one bundle, and compares its figures with the baseline.

    Raises:
        InvalidInput: the bundle, its checkpoint or the lock file cannot be used.
        RuntimeFailed: the runtime refused an artifact.
    """
    began = time.monotonic()
    if request.only_files:
        from mobileclip_deploy.verify.files_only import verify_files

        bundle, report = verify_files(request.bundle, request.gates)
        return Verified(bundle, report, None, round(time.monotonic() - began, 3))
    from mobileclip_deploy.verify.chain import verify_subject
    from mobileclip_deploy.verify.opening import opened_subject

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
    """Verifies bundles with the options of `request`, whose own bundle is ignored. An error of one bundle does not stop
    the others.

    Raises:
        MobileClipDeployError: any error, if there is only one bundle.
    """
    results: list[Verified | Refused] = []
    for bundle in bundles:
        bundle_request = replace(request, bundle=bundle)
        try:
            results.append(verify_bundle(bundle_request, explain=explain, baseline=baseline, progress=progress))
        except Exception as error:
            if len(bundles) == 1:
                raise
            results.append(Refused(bundle, error if isinstance(error, MobileClipDeployError) else crashed(error)))
    return results


def worst(results: Sequence[Verified | Refused]) -> MobileClipDeployError | None:
    """Returns the error that the command ends with: a crash (exit code 70), else refused (2), failed (1), not run (3)
    or undecided (4)."""
    if len(results) == 1:
        return results[0].failure
    names = (result.path.name if isinstance(result, Refused) else result.report.bundle for result in results)
    failures = [(name, each.failure) for name, each in zip(names, results, strict=True) if each.failure is not None]
    if not failures:
        return None
    first = min((why for _, why in failures), key=severity)
    named = ", ".join(f"{name} ({why.line})" for name, why in failures if why.exit_code == first.exit_code)
    return type(first)(f"{len(failures)} of {len(results)} bundles did not pass: {named}")


def junit(results: Sequence[Verified | Refused]) -> str:
    """Returns JUnit XML with a suite for each bundle. A single suite is the whole document."""
    suites = [_suite(result) for result in results]
    root = suites[0]
    if len(suites) > 1:
        root = ElementTree.Element("testsuites")
        root.extend(suites)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def markdown(results: Sequence[Verified | Refused]) -> str:
    """Returns Markdown with a section for each bundle."""
    return "\n".join(
        result.report.markdown()
        if isinstance(result, Verified)
        else f"### {result.path.name}: could not be verified\n\n{result.failure.line}\n"
        for result in results
    )


def _suite(result: Verified | Refused) -> ElementTree.Element:
    if isinstance(result, Verified):
        suite = result.report.suite()
        suite.set("time", f"{result.seconds:.3f}")
        return suite
    counts = {"tests": "1", "failures": "0", "errors": "1", "skipped": "0", "time": "0"}
    suite = ElementTree.Element("testsuite", {"name": f"parity of {result.path.name}"} | counts)
    case = ElementTree.SubElement(suite, "testcase", classname=result.path.name, name="opened")
    ElementTree.SubElement(case, "error", message=result.failure.line)
    return suite
