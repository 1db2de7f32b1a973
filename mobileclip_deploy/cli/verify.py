"""`verify`: is a bundle still the model of its checkpoint?"""

from __future__ import annotations

import os
from pathlib import Path

import click

from mobileclip_deploy.cli.options import BundlePath, gate_option, json_option

__all__ = ["verify"]


@click.command()
@click.argument("bundle", type=BundlePath())
@click.option("--checkpoint", type=click.Path(path_type=Path), metavar="FILE", help="The source of the bundle.")
@click.option(
    "--images", type=click.Path(path_type=Path), metavar="DIR", help="Your images instead of the stored ones."
)
@click.option("--prompts", type=click.Path(path_type=Path), metavar="FILE", help="Your prompts, one a line, or JSON.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The images it was calibrated on, if on yours: it is converted again and compared.",
)
@click.option("--dataset", type=click.Path(path_type=Path), metavar="DIR", help="Compare accuracy on this as well.")
@click.option(
    "--explain", is_flag=True, help="Name the first operation that is not the checkpoint's, and list every layer."
)
@click.option(
    "--checks",
    type=click.Choice(["quick", "full"]),
    default="full",
    show_default=True,
    help="quick: do not convert again, and do not measure accuracy.",
)
@gate_option
@json_option
@click.option(
    "--baseline", type=click.Path(path_type=Path), metavar="LOCK", help="Compare with the figures last accepted."
)
@click.option("--accept", is_flag=True, help="Write today's figures into LOCK, if every check passed.")
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Write the outcome as Markdown too.")
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write the outcome as JUnit XML too.")
def verify(
    bundle: Path,
    checkpoint: Path | None,
    images: Path | None,
    prompts: Path | None,
    calibration: Path | None,
    dataset: Path | None,
    explain: bool,
    checks: str,
    gate_texts: tuple[str, ...],
    as_json: bool,
    baseline: Path | None,
    accept: bool,
    markdown: Path | None,
    junit: Path | None,
) -> None:
    """Check a bundle against the checkpoint it was exported from.

    First the same graph in float32 (a small mistake would drown in float16's rounding), then the artifacts as
    written. The built-in checkpoint is found by itself; so is a file of the recorded name beside the bundle. With
    --baseline drift beyond noise fails as well (docs/ci.md).

    \b
    Example:
      mobileclip-deploy verify out/nano-onnx-fp16
      mobileclip-deploy verify out/mobileclip_s0-coreml-fp16 --checkpoint mobileclip_s0.pt --images photos/
      mobileclip-deploy verify out/nano-coreml-fp16 --explain
      mobileclip-deploy verify out/nano-onnx-fp16 --baseline parity.lock.json --junit parity.xml
    """
    from mobileclip_deploy.cli.output import conclude, note, print_json, progress
    from mobileclip_deploy.cli.tables import print_report
    from mobileclip_deploy.errors import GateFailed, NotRun, UsageError
    from mobileclip_deploy.files import check_file_destination
    from mobileclip_deploy.parity import parse_gates
    from mobileclip_deploy.verify.baselines import accept_baseline, check_baseline
    from mobileclip_deploy.verify.checks import verify_subject
    from mobileclip_deploy.verify.explanation import explain_subject
    from mobileclip_deploy.verify.opening import VerifyRequest, opened_subject

    if accept and baseline is None:
        raise UsageError("--accept writes a lock file; name it with --baseline LOCK")
    for option, file in (("junit", junit), ("markdown", markdown), ("baseline", baseline if accept else None)):
        if file is not None:
            check_file_destination(file, force=True, option=option)
    gates = parse_gates(gate_texts) if gate_texts else None
    request = VerifyRequest(bundle, checkpoint, images, prompts, dataset, calibration, gates, checks == "full")
    with progress() as update, opened_subject(request, update) as subject:
        report = verify_subject(subject)
        explanations = explain_subject(subject) if explain else ()
    if baseline is not None and not accept:
        report = check_baseline(subject.bundle, report, baseline)
    for file, text in ((junit, report.junit()), (markdown, report.markdown())):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as stream:
            stream.write(report.markdown() + "\n")
    if as_json:
        found = {"explanations": [found.model_dump(mode="json", exclude_none=True) for found in explanations]}
        extra = {"passed": report.passed} | (found if explain else {})
        print_json(report.model_dump(mode="json", exclude_none=True) | extra)
    else:
        print_report(report, layers=explain)
        for explanation in explanations:
            click.echo(explanation.describe())
    for text in report.notes:
        note(f"Warning: {text}")
    if report.failed:
        conclude(GateFailed(f"FAILED: {len(report.failed)} of {len(report.checks)} checks."))
    if report.not_run:
        conclude(
            NotRun(f"NOT RUN: {len(report.not_run)} of {len(report.checks)} checks; what they need stands beside them.")
        )
    if accept and baseline is not None:
        accept_baseline(subject.bundle, report, baseline)
        note(f"Accepted: the figures of {report.bundle} are in {baseline}.")
    left = f"; {len(report.left_out)} were left out (--checks quick)" if report.left_out else ""
    note(f"Passed: all {len(report.checks) - len(report.left_out)} checks{left}.")
