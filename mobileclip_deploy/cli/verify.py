"""`verify`: check of bundles against their checkpoint."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from mobileclip_deploy.cli.options import FILE, BundlePath, gate_option, json_option

if TYPE_CHECKING:
    from mobileclip_deploy.verify.reports.several import Baseline, Refused, Verified


class VerifyFiles(TypedDict):
    """Options that are fields of `VerifyRequest`."""

    checkpoint: Path | None
    images: Path | None
    prompts: Path | None
    calibration: Path | None
    dataset: Path | None
    place: str | None
    fit: Path | None
    captions: Path | None


def _moved(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError("embeddings and files of other tools are for `audit`; run `audit FILE...`", context)


@click.command()
@click.argument("bundles", type=BundlePath(), nargs=-1, required=True, metavar="BUNDLE...")
@click.option("--checkpoint", type=FILE, metavar="FILE", help="Checkpoint that the bundles were exported from.")
@click.option("--images", type=FILE, metavar="DIR", help="Folder of images to use instead of the stored ones.")
@click.option(
    "--prompts", type=FILE, metavar="FILE", help="Prompts to use instead of the stored ones: one per line, or JSON."
)
@click.option(
    "--calibration",
    type=FILE,
    metavar="DIR",
    help="Images that the bundle was calibrated on, if they were yours: it is converted again and compared.",
)
@click.option("--dataset", type=FILE, metavar="DIR", help="Also compare accuracy on this dataset.")
@click.option(
    "--explain", is_flag=True, help="Name the first operation that differs from the checkpoint's, and list every layer."
)
@click.option(
    "--checks",
    type=click.Choice(["files", "quick", "full"]),
    default="full",
    show_default=True,
    help="quick: do not convert again, and measure accuracy on at most 128 images. files: hashes and the artifacts' "
    "stored answers alone, without the checkpoint.",
)
@click.option(
    "--place",
    type=click.Choice(["gpu", "npu"]),
    help="Also compile and run on this device: gpu for LiteRT, npu for Qualcomm.",
)
@click.option(
    "--fit",
    type=FILE,
    metavar="DIR",
    help="Pictures that smaller embeddings were fitted to; the fit is repeated and compared.",
)
@click.option("--captions", type=FILE, metavar="FILE", help="With --fit: the captions that the export had.")
@gate_option
@json_option
@click.option("--baseline", type=FILE, metavar="LOCK", help="Compare with the figures accepted in this lock file.")
@click.option(
    "--accept", is_flag=True, help="With --baseline: write today's figures to the lock file if every check passed."
)
@click.option("--accept-undecided", is_flag=True, help="With --accept: write them also if accuracy is undecided.")
@click.option("--markdown", type=FILE, metavar="FILE", help="Also write the report as Markdown.")
@click.option("--junit", type=FILE, metavar="FILE", help="Also write the report as JUnit XML.")
@click.option(
    *("--embeddings", "--text", "--texts", "--names", "--budget"),
    is_eager=True,
    expose_value=False,
    hidden=True,
    callback=_moved,
)
def verify(
    bundles: tuple[Path, ...],
    explain: bool,
    checks: str,
    gate_texts: tuple[str, ...],
    as_json: bool,
    baseline: Path | None,
    accept: bool,
    accept_undecided: bool,
    markdown: Path | None,
    junit: Path | None,
    **choices: Unpack[VerifyFiles],
) -> None:
    """Check bundles against the checkpoint that they were exported from.

    The same graph is compared in float32 first (float16's rounding would hide a small mistake), then the artifacts as
    written. The built-in checkpoint is found without --checkpoint; so is a file of the recorded name next to the
    bundle. With --baseline drift beyond noise fails as well (docs/ci.md). Several bundles are checked one by one; the
    exit code is the worst of them. Files of other tools and embeddings of an app are for `audit`.

    \b
    Example:
      mobileclip-deploy verify out/nano-onnx-fp16
      mobileclip-deploy verify out/mobileclip_s0-coreml-fp16 --checkpoint mobileclip_s0.pt --images photos/
      mobileclip-deploy verify out/nano-coreml-fp16 --explain
      mobileclip-deploy verify out/nano-onnx-fp16 --baseline parity.lock.json --junit parity.xml
      mobileclip-deploy verify out/* --junit parity.xml
      mobileclip-deploy verify out/nano-litert-fp16 --place gpu
    """
    from mobileclip_deploy.cli.output import conclude, note, print_json, progress, reading
    from mobileclip_deploy.errors import UsageError
    from mobileclip_deploy.evaluation.dataset_files import check_dataset
    from mobileclip_deploy.network.checkpoints.named_weights import weights_file
    from mobileclip_deploy.parity import parse_gates

    gates = parse_gates(gate_texts) if gate_texts else None
    if checks == "files" and (files := [name for name, value in choices.items() if value is not None]):
        raise UsageError(f"--checks files needs no checkpoint or inputs; leave --{files[0]} out")
    if checks == "files" and (explain or baseline is not None):
        raise UsageError("--checks files compares with no checkpoint or baseline; leave --explain and --baseline out")
    with reading(choices["dataset"]):
        if choices["dataset"] is not None:
            check_dataset(choices["dataset"])
    if choices["checkpoint"] is not None:
        weights_file(None, choices["checkpoint"])

    from mobileclip_deploy.cli.tables import print_verified
    from mobileclip_deploy.cli.words import put_in_flags
    from mobileclip_deploy.verify.reports import several
    from mobileclip_deploy.verify.request import VerifyRequest

    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    records = several.Records(junit, markdown, Path(summary) if summary else None)
    lock = several.Baseline.of(baseline, accept, accept_undecided)
    request = VerifyRequest(bundles[0], gates=gates, thorough=checks == "full", only_files=checks == "files", **choices)
    with progress() as update, records.of_crashes(bundles[0]):
        results = several.verify_bundles(bundles, request, explain=explain, baseline=lock, progress=update)
    for result in results:
        if isinstance(result, several.Refused):
            put_in_flags(result.failure)
    records.write(results)
    if as_json:
        print_json(results[0].as_dict() if len(results) == 1 else {"bundles": [result.as_dict() for result in results]})
    else:
        print_verified(results, layers=explain)
    for remark in _notes(results, lock, checks == "files"):
        note(remark)
    if (failure := several.worst(results)) is not None:
        conclude(failure)


def _notes(results: Sequence[Verified | Refused], lock: Baseline | None, only_files: bool) -> list[str]:
    """Returns notes on each verified bundle, in sentences."""
    from mobileclip_deploy.verify.reports.several import Refused

    notes = []
    for result in results:
        if isinstance(result, Refused):
            continue
        report, name = result.report, f"{result.report.bundle}: " if len(results) > 1 else ""
        notes += [f"Warning: {text}" for text in report.notes]
        if lock is not None and lock.accepts(report):
            notes.append(f"Accepted: the figures of {report.bundle} are in {lock.lock}.")
        if result.failure is None:
            left = f"; {len(report.left_out)} were left out" if report.left_out else ""
            ran = len(report.checks) - len(report.left_out)
            extent = f"{ran} checks of files and stored answers" if only_files else f"all {ran} checks"
            notes.append(f"{name}Passed: {extent}{report.by}{left}.")
        notes += [f"{name}{report.open_points}"] if report.open_points else []
    return notes
