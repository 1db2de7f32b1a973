"""`export`: conversion of a checkpoint to verified bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mobileclip_deploy.cli import completion
from mobileclip_deploy.cli.options import (
    FILE,
    ModelChoice,
    TargetCommand,
    gate_option,
    json_option,
    load,
    model_options,
)


@click.command(cls=TargetCommand)
@click.option(
    "--target",
    "target_names",
    multiple=True,
    metavar="T[,T...]|all",
    shell_complete=completion.target_lists,
    help="onnx, coreml, executorch, ... or all. May be repeated. [default: the layout's]",
)
@click.option(
    "--layout",
    metavar="NAME|FILE",
    shell_complete=completion.bundle_layouts,
    help="Files and tensors as an app expects them, such as immich: see `mobileclip-deploy layouts`. Or your own, a "
    "JSON file.",
)
@click.option(
    "--input",
    type=click.Choice(["pixels", "bytes"]),
    default="pixels",
    show_default=True,
    help="Of the image tower. bytes: one picture of any size, resized and cropped inside of the graph (ONNX).",
)
@click.option(
    "--contexts",
    "contexts_text",
    metavar="TOKENS,...",
    help="Lengths that the text tower takes beside its full one, as in 16,32: short prompts cost short time. Of causal "
    "text towers (mobileclip_b, mobileclip_blt, mobileclip2_b).",
)
@click.option("--normalise", is_flag=True, help="Embeddings leave the artifacts at length 1.")
@model_options
@click.option("--tower", type=click.Choice(["image", "text", "both"]), default="both", show_default=True)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    metavar="P | image=P,text=P",
    shell_complete=completion.precisions,
    help="fp32, fp16, w8, ...; w4p-table-w6p: the text tower's table of words at w6p, all else at w4p; "
    "or smallest, which searches for the smallest bundle that passes its gates. "
    "[default: fp16; executorch: fp32] May be repeated: a bundle for each.",
)
@click.option(
    "--calibration",
    type=FILE,
    metavar="DIR",
    help="Images (and prompts.txt) to measure activations on, for w8a8 [default: packaged samples], or to learn "
    "--rounding on.",
)
@click.option(
    "--rounding",
    type=click.Choice(["nearest", "gptq", "tuned"]),
    default="nearest",
    show_default=True,
    help="How weights get onto their grids; gptq learns it on --calibration (128 images, 500 captions at least), "
    "tuned then trains what is float.",
)
@click.option(
    "--background",
    type=FILE,
    metavar="DIR",
    help='At least 256 pictures of all kinds: the bundle learns when a search finds "nothing".',
)
@click.option(
    "--queries",
    type=FILE,
    metavar="PATH",
    help="With --background: captions with their own pictures (a .csv, say), 256 at least, to learn it on.",
)
@click.option("--max-drop", type=float, metavar="POINTS", help="Smallest: what accuracy may drop [default: 0.5].")
@click.option("--max-size", type=float, metavar="MB", help="Smallest: what the artifacts may have together [no limit].")
@click.option("--budget", type=float, metavar="MINUTES", help="Smallest: how long to search [no limit].")
@click.option(
    "--labels",
    metavar="FILE|A,B,C",
    help="Write a classifier of these labels, a list or a file with one a line: image only, probabilities out.",
)
@click.option("--template", metavar="TEXT", help='With --labels: "a photo of a {}" [default: the model\'s own].')
@click.option(
    "--embedding-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Numbers of an embedding, such as 64: both towers end on axes fitted to --fit, another embedding space.",
)
@click.option("--fit", type=FILE, metavar="DIR", help="With --embedding-size: pictures like the app's, 4 N at least.")
@click.option(
    "--captions",
    type=FILE,
    metavar="FILE",
    help="With --fit: texts like those the app is asked, 500 and more [default: DIR's prompts.txt, or packaged ones].",
)
@click.option("-o", "--output", type=FILE, default=Path(), metavar="DIR", help="[default: .]")
@click.option(
    "--dataset",
    type=FILE,
    metavar="PATH|builtin",
    help="Compare accuracy on this [default: for the built-in checkpoint its own, for others none].",
)
@click.option(
    "--for-product", is_flag=True, help="Refuse weights whose licence is not a clear yes for products, naming others."
)
@click.option(
    "--licence-text", type=FILE, metavar="FILE", help="The licence that came with your weights, for LICENSES/."
)
@click.option("--force", is_flag=True, help="Replace bundles that exist.")
@click.option("--allow-failing", is_flag=True, help="Write bundles that fail their gate too, marked as FAILED.")
@click.option("--no-verify", is_flag=True, help="Do not check the artifacts against the checkpoint.")
@gate_option
@json_option
def export(
    choice: ModelChoice,
    target_names: tuple[str, ...],
    precisions: tuple[str, ...],
    output: Path,
    as_json: bool,
    **given: Any,
) -> None:
    """Export a checkpoint to bundles, each checked against the checkpoint before it is there.

    A bundle is OUT/<variant>-<target>-<precision>/ with the artifacts, manifest.json, tokenizer, preprocessing and
    golden inputs and outputs. Of several bundles each is written or refused alone, and the exit code is the worst.

    \b
    Examples:
      mobileclip-deploy export --target coreml --checkpoint mobileclip_s0.pt -o out/
      mobileclip-deploy export --target onnx --target coreml --precision fp32 --precision fp16 -o out/
      mobileclip-deploy export --target onnx --precision image=fp16,text=fp32 -o out/
      mobileclip-deploy export --target coreml --precision smallest --max-drop 1 -o out/
      mobileclip-deploy export --target onnx --precision image=fp16,text=w8 -o out/
      mobileclip-deploy export --target onnx --precision w8 --embedding-size 64 --fit photos/ -o out/
      mobileclip-deploy export --layout immich --checkpoint mobileclip_s0.pt -o out/
      mobileclip-deploy export --target coreml --labels cat,dog,car --template "a photo of a {}" -o out/
    """
    from mobileclip_deploy.artifacts.towers.contexts import parse_contexts
    from mobileclip_deploy.cli.output import conclude, note, print_json, progress
    from mobileclip_deploy.export.request import ExportChoices, choose, requested
    from mobileclip_deploy.network.checkpoints.named_weights import weights_file
    from mobileclip_deploy.parity import parse_gates

    words: Any = {name: given.pop(name) for name in ExportChoices.__annotations__ if name in given}
    words["contexts"] = parse_contexts(given.pop("contexts_text"))
    words["gates"] = parse_gates(given.pop("gate_texts"))
    words["verify"] = not given.pop("no_verify")
    # The remaining options belong to targets.
    request = requested(target_names, precisions, output, words | {"options": given})
    choices = choose(request)
    weights_file(choice.variant, choice.checkpoint, choice.download)

    # From here on torch is needed, which takes more than a second to import: refusals above do not wait for it.
    from mobileclip_deploy.cli.tables import print_exports, print_failed_export
    from mobileclip_deploy.errors import MobileClipDeployError, NotRun, Undecided
    from mobileclip_deploy.export.door import export_plan
    from mobileclip_deploy.export.plan import plan_export
    from mobileclip_deploy.verify.reports.several import UNDECIDED

    for text in choices.notes:
        note(text)
    plan = load(choice, lambda source: plan_export(choices, source))
    for text in plan.notes:
        note(text)
    try:
        with progress() as update:
            results = export_plan(plan, update)
    except MobileClipDeployError as error:
        if error.results:
            print_json([result.as_dict() for result in error.results]) if as_json else print_failed_export(error)
        raise
    for text in dict.fromkeys(text for result in results if result.report for text in result.report.notes):
        note(f"Warning: {text}")
    if as_json:
        print_json([result.as_dict() for result in results])
    else:
        print_exports(results)
    failed = [result.bundle.path.name for result in results if result.report is not None and result.report.failed]
    if failed:
        note(f"FAILED, and written because of --allow-failing: {', '.join(failed)}. The manifest says so.")
    if any(result.report is not None and result.report.not_run for result in results):
        conclude(NotRun("Some checks could not be run here; they are listed as not run, not as passed."))
    undecided = [result.bundle.path.name for result in results if result.report is not None and result.report.undecided]
    if undecided:
        conclude(Undecided(f"UNDECIDED, and written: {', '.join(undecided)}: {UNDECIDED}."))
