"""`verify`: is a bundle still the model of its checkpoint?"""

from __future__ import annotations

from pathlib import Path

import click

from mobileclip_deploy.cli.options import gate_option, json_option

__all__ = ["verify"]


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--checkpoint", type=click.Path(path_type=Path), metavar="FILE", help="The source of the bundle.")
@click.option(
    "--images", type=click.Path(path_type=Path), metavar="DIR", help="Your images instead of the stored ones."
)
@click.option("--prompts", type=click.Path(path_type=Path), metavar="FILE", help="Your prompts, one a line, or JSON.")
@click.option("--dataset", type=click.Path(path_type=Path), metavar="DIR", help="Compare accuracy on this as well.")
@click.option(
    "--explain", is_flag=True, help="Core ML: name the first operation at which artifact and checkpoint part."
)
@gate_option
@json_option
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write the outcome as JUnit XML too.")
def verify(
    bundle: Path,
    checkpoint: Path | None,
    images: Path | None,
    prompts: Path | None,
    dataset: Path | None,
    explain: bool,
    gate_texts: tuple[str, ...],
    as_json: bool,
    junit: Path | None,
) -> None:
    """Check a bundle against the checkpoint it was exported from.

    First the same graph in float32 (a small mistake would drown in float16's rounding), then the artifacts as
    written. The built-in checkpoint is found by itself; so is a file of the recorded name beside the bundle.

    \b
    Example:
      mobileclip-deploy verify out/nano-onnx-fp16
      mobileclip-deploy verify out/mobileclip_s0-coreml-fp16 --checkpoint mobileclip_s0.pt --images photos/
      mobileclip-deploy verify out/nano-coreml-fp16 --explain
    """
    from mobileclip_deploy.api import explain as explain_bundle
    from mobileclip_deploy.api import verify as verify_bundle
    from mobileclip_deploy.cli.output import note, print_json, progress
    from mobileclip_deploy.cli.tables import print_report
    from mobileclip_deploy.destinations import check_file_destination
    from mobileclip_deploy.parity import parse_gates

    gates = parse_gates(gate_texts)
    if junit is not None:
        check_file_destination(junit, force=True)
    with progress() as update:
        report = verify_bundle(
            bundle, checkpoint=checkpoint, images=images, prompts=prompts, dataset=dataset, gates=gates, progress=update
        )
        explanations = explain_bundle(bundle, checkpoint=checkpoint, progress=update) if explain else ()
    if junit is not None:
        junit.parent.mkdir(parents=True, exist_ok=True)
        junit.write_text(report.junit(), encoding="utf-8")
    if as_json:
        found = {"explanations": [found.model_dump(mode="json", exclude_none=True) for found in explanations]}
        extra = {"passed": report.passed} | (found if explain else {})
        print_json(report.model_dump(mode="json", exclude_none=True) | extra)
    else:
        print_report(report)
        for explanation in explanations:
            click.echo(explanation.describe())
    if report.failed:
        note(f"FAILED: {len(report.failed)} of {len(report.checks)} checks.")
        raise SystemExit(1)
    if report.not_run:
        note(f"NOT RUN: {len(report.not_run)} of {len(report.checks)} checks; what they need stands beside them.")
        raise SystemExit(3)
    note(f"Passed: all {len(report.checks)} checks.")
