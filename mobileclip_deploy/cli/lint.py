"""`lint`: operations that are ready for the Neural Engine, and operations that will leave it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobileclip_deploy.cli import completion
from mobileclip_deploy.cli.options import FILE, BundlePath, json_option
from mobileclip_deploy.cli.terminal import say

if TYPE_CHECKING:
    from mobileclip_deploy.verify.inspect.linting import Comparison, Finding, LintReport, Share

SHOWN = 3
HONEST = (
    "ready: no public source says otherwise. Core ML decides on the device; only MLComputePlan there (iOS 17.4+, macOS "
    "14.4+) reports its decision."
)
HONEST_GPU = (
    "ready: LiteRT's compiler has a kernel for it on a software GPU. A phone's own driver compiles again on the device."
)
HONEST_NPU = (
    "ready: Qualcomm's compiler accepted it for the NPU. The emulator has no profile of the compiled operations."
)


@click.command()
@click.argument("path", metavar="PACKAGE|BUNDLE", type=BundlePath(others=True))
@click.option(
    "--device",
    metavar="CHIP",
    shell_complete=completion.chips,
    help="Chip to lint for: a14 to a19, m1 to m5; gpu for LiteRT; npu for Qualcomm. [default: the target's, or a14]",
)
@click.option("--target", shell_complete=completion.targets, help="Lint an ONNX model for another target: qnn.")
@click.option("--compare", "other", type=FILE, metavar="OTHER", help="Second package or bundle to compare with.")
@json_option
def lint(path: Path, device: str | None, target: str | None, other: Path | None, as_json: bool) -> None:
    """List the operations of a bundle, package or file that its accelerator will not run.

    For Core ML and Core AI: operations that leave the Neural Engine, or may, by public sources. For LiteRT: those that
    leave the GPU, by LiteRT's own compiler. For Qualcomm: those that leave the NPU, by Qualcomm's compiler.

    Each tower of a bundle is evaluated once on its stored input, to check ranges of values too. A LiteRT
    file is compiled for the GPU on Mesa's software Vulkan. With --target qnn an ONNX model is compiled for Qualcomm's
    NPU before it is exported to it.

    \b
    Examples:
      mobileclip-deploy lint out/nano-coreml-fp16
      mobileclip-deploy lint a_image.mlpackage --device a16 --compare b_image.mlpackage
      mobileclip-deploy lint out/nano-litert-w8
      mobileclip-deploy lint out/nano-qnn-fp16
      mobileclip-deploy lint out/nano-onnx-fp16 --target qnn
    """
    from mobileclip_deploy.verify.inspect.lintable import check_lintable

    check_lintable(path)

    from mobileclip_deploy.cli.output import MOMENT, print_json, progress
    from mobileclip_deploy.verify.inspect.linting import LINTED, compare_all
    from mobileclip_deploy.verify.inspect.linting import lint as look

    with progress(MOMENT) as update:
        reports = look(path, device, target=target, progress=update)
        others = look(other, device, target=target, progress=update) if other is not None else ()
    comparisons = compare_all(reports, others) if other is not None else ()
    if as_json:
        packages = [report.model_dump(mode="json") | {"shares": report.shares} for report in (*reports, *others)]
        print_json({"packages": packages, "comparisons": comparisons})
        return
    for report in reports if other is None else ():
        _print_report(report)
    for comparison in comparisons:
        _print_comparison(comparison)
    rules = {rule.name: rule for report in reports if other is None for rule in report.rules}
    for rule in rules.values():
        say(f"{rule.name}: {rule.text}.")
        for title, url in rule.sources.items():
            say(f"    {title}: {url}")
    device = reports[0].device
    say(HONEST_GPU if device == "gpu" else HONEST if device in LINTED else HONEST_NPU)


def _print_report(report: LintReport) -> None:
    from mobileclip_deploy.cli.output import megabytes, print_table

    rows = [
        [
            status,
            f"{share.operations}",
            _percent(share.of_operations),
            megabytes(share.weight_bytes),
            _percent(share.of_bytes),
        ]
        for status, share in report.shares.items()
    ]
    switches = f"{report.switches} switch{'' if report.switches == 1 else 'es'}"
    say(f"{report.title} on {report.device}: {len(report.operations)} operations, {switches}")
    print_table(None, ["status", ">operations", ">share", ">MB of weights", ">share"], rows)
    findings = []
    for rule in report.rules:
        hits = report.found(rule.name)
        where = [f"{op.type} {op.name} ({_detail(op.findings, rule.name)})" for op in hits[:SHOWN]]
        where += [f"{finding.detail}" for finding in report.package_findings if finding.rule == rule.name]
        more = [f"and {len(hits) - SHOWN} more"] if len(hits) > SHOWN else []
        share = report.share_of(rule.name)
        findings.append([rule.level, rule.name, str(len(hits)), megabytes(share.weight_bytes), ", ".join(where + more)])
    if findings:
        print_table(None, ["finding", "rule", ">operations", ">MB", "where"], findings)


def _detail(findings: tuple[Finding, ...], rule: str) -> str:
    return next(finding.detail for finding in findings if finding.rule == rule)


def _print_comparison(comparison: Comparison) -> None:
    from mobileclip_deploy.cli.output import print_table

    rows = [
        [change.name, _short(change.before), _short(change.after)]
        for change in (*comparison.statuses, *comparison.rules)
    ]
    rows.append(["switches", *(str(count) for count in comparison.switches)])
    what = "" if comparison.package is None else f"{comparison.package} "
    say(f"{what}on {comparison.device}: operations, and their share of the bytes of weights")
    print_table(None, ["status or rule", f">{comparison.before}", f">{comparison.after}"], rows)


def _short(share: Share) -> str:
    return f"{share.operations} ({_percent(share.of_bytes)})"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}%"
