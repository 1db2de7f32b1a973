"""`export`: from a checkpoint to verified bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from mobileclip_deploy.cli.options import ModelChoice, gate_option, json_option, load, model_options

__all__ = ["export"]


@click.command()
@click.option(
    "--target", "target_names", required=True, metavar="T[,T...]|all", help="onnx, coreml, executorch or all."
)
@model_options
@click.option("--tower", type=click.Choice(["image", "text", "both"]), default="both", show_default=True)
@click.option(
    "--precision",
    "precision_texts",
    multiple=True,
    metavar="P | image=P,text=P",
    help="fp32, fp16, w8, ...; or smallest, which searches for the smallest bundle that passes its gates. "
    "[default: fp16; executorch: fp32] May be repeated: a bundle for each.",
)
@click.option(
    "--deployment-target", metavar="iOSNN", help="Core ML: the oldest system to run on [default: iOS16, or as needed]."
)
@click.option("--multifunction", is_flag=True, help="Core ML: both towers in one package, a function each (iOS18).")
@click.option("--backend", metavar="B[,B...]", help="ExecuTorch: xnnpack, coreml, vulkan [default: xnnpack].")
@click.option("--no-fast-depthwise", is_flag=True, help="ExecuTorch: leave 7 x 7 convolutions whole (slow on XNNPACK).")
@click.option("--dynamic-batch", is_flag=True, help="ExecuTorch: the text tower takes 1 to 64 prompts at a time.")
@click.option("--bundled-program", is_flag=True, help="ExecuTorch: write a .bpte with golden inputs and outputs too.")
@click.option("--etrecord", is_flag=True, help="ExecuTorch: write an ETRecord for its developer tools too.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Images (and prompts.txt) to measure activations on; for w8a8 [default: packaged samples].",
)
@click.option("--max-drop", type=float, metavar="POINTS", help="Smallest: what accuracy may drop [default: 0.5].")
@click.option("--budget", type=float, metavar="MINUTES", help="Smallest: how long to search [no limit].")
@click.option(
    "--labels", metavar="FILE|A,B,C", help="Write a classifier of these labels: image only, probabilities out."
)
@click.option("--template", metavar="TEXT", help='With --labels: "a photo of a {}" [default: the model\'s own].')
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path(), metavar="DIR", help="[default: .]")
@click.option("--force", is_flag=True, help="Replace bundles that exist.")
@click.option("--allow-failing", is_flag=True, help="Write bundles that fail their gate too, marked as FAILED.")
@click.option("--no-verify", is_flag=True, help="Do not check the artifacts against the checkpoint.")
@gate_option
@json_option
def export(
    choice: ModelChoice,
    target_names: str,
    tower: Literal["image", "text", "both"],
    precision_texts: tuple[str, ...],
    deployment_target: str | None,
    multifunction: bool,
    backend: str | None,
    no_fast_depthwise: bool,
    dynamic_batch: bool,
    bundled_program: bool,
    etrecord: bool,
    calibration: Path | None,
    max_drop: float | None,
    budget: float | None,
    labels: str | None,
    template: str | None,
    output: Path,
    force: bool,
    allow_failing: bool,
    no_verify: bool,
    gate_texts: tuple[str, ...],
    as_json: bool,
) -> None:
    """Export a checkpoint to bundles, each checked against the checkpoint before it is there.

    A bundle is OUT/<variant>-<target>-<precision>/ with the artifacts, manifest.json, tokenizer, preprocessing and
    golden inputs and outputs.

    \b
    Examples:
      mobileclip-deploy export --target coreml --checkpoint mobileclip_s0.pt -o out/
      mobileclip-deploy export --target all --precision fp32 --precision fp16 -o out/
      mobileclip-deploy export --target onnx --precision image=fp16,text=fp32 -o out/
      mobileclip-deploy export --target coreml --precision smallest --max-drop 1 -o out/
      mobileclip-deploy export --target onnx --precision image=fp16,text=w8 -o out/
      mobileclip-deploy export --target coreml --labels cat,dog,car --template "a photo of a {}" -o out/
    """
    from mobileclip_deploy.api import accuracy_dataset
    from mobileclip_deploy.cli.output import note, print_json, progress
    from mobileclip_deploy.cli.smallest import SmallestRequest, export_smallest
    from mobileclip_deploy.cli.tables import print_exports
    from mobileclip_deploy.errors import UsageError
    from mobileclip_deploy.export.exporting import check_export, export_many
    from mobileclip_deploy.export.smallest import Limits
    from mobileclip_deploy.model.precision import parse_precisions, precision_label
    from mobileclip_deploy.model.variants import TOWERS, TowerName
    from mobileclip_deploy.parity import parse_gates
    from mobileclip_deploy.targets import ExportOptions, check_options, parse_targets
    from mobileclip_deploy.towers.classifier import read_labels

    if template is not None and labels is None:
        raise UsageError("--template is how --labels are asked for; give both")
    if labels is not None and tower == "text":
        raise UsageError("--labels make a classifier of the image tower; leave --tower text out")
    label_set = None if labels is None else read_labels(labels, template)
    tower = tower if label_set is None else "image"
    targets = parse_targets(target_names, backend)
    towers: tuple[TowerName, ...] = TOWERS if tower == "both" else (tower,)
    options = ExportOptions(
        deployment_target,
        calibration,
        fast_depthwise=not no_fast_depthwise,
        dynamic_batch=dynamic_batch,
        bundled_program=bundled_program,
        etrecord=etrecord,
        multifunction=multifunction,
    )
    check_options(targets, options)
    if "smallest" in precision_texts:
        if len(precision_texts) > 1 or no_verify:
            raise UsageError("--precision smallest goes alone, and with verification: it is what it searches by")
        limits = Limits(0.5 if max_drop is None else max_drop, budget)
        gates = parse_gates(gate_texts)
        export_smallest(SmallestRequest(choice, targets, tower, options, gates, limits, output, force, as_json))
        return
    if max_drop is not None or budget is not None:
        raise UsageError("--max-drop and --budget go with --precision smallest")
    precisions = [parse_precisions(text, towers) for text in precision_texts]
    every = target_names == "all"
    for target in targets:
        for precision in precisions or [parse_precisions(target.default_precision, towers)]:
            if every and not target.has(precision):
                note(f"{target.label} has no {precision_label(precision)}: left out.")
                continue
            target.require(precision, options)
            if (advice := target.advice(precision, options)) is not None:
                note(advice)
    gates = parse_gates(gate_texts)
    where: Any = {"tower": tower, "options": options, "force": force, "skip_lacking": every, "labels": label_set}
    model = load(choice, lambda loaded: check_export(loaded, targets, precisions, output, **where))
    if model.provenance is not None and model.provenance.recovered is not None:
        for advice in map(model.provenance.recovered.advice, dict.fromkeys(target.name for target in targets)):
            if advice is not None:
                note(advice)
    with progress() as update:
        results = export_many(
            model,
            targets,
            precisions,
            output,
            gates=gates,
            verify=not no_verify,
            allow_failing=allow_failing,
            dataset=accuracy_dataset(model),
            progress=update,
            **where,
        )
    if as_json:
        print_json([result.as_dict() for result in results])
    else:
        print_exports(results)
    failed = [result.bundle.path.name for result in results if result.report is not None and result.report.failed]
    if failed:
        note(f"FAILED, and written because of --allow-failing: {', '.join(failed)}. The manifest says so.")
    if any(result.report is not None and result.report.not_run for result in results):
        note("Some checks could not be run here; they are listed as not run, not as passed.")
        raise SystemExit(3)
