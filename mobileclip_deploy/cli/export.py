"""`export`: conversion of a checkpoint to verified bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import click

from mobileclip_deploy.cli import completion
from mobileclip_deploy.cli.options import (
    FILE,
    ModelChoice,
    ShareType,
    TargetCommand,
    gate_option,
    json_option,
    load,
    model_options,
)

if TYPE_CHECKING:
    from mobileclip_deploy.export.request import ExportChoices


@click.command(cls=TargetCommand)
@click.option(
    "--target",
    "target_names",
    multiple=True,
    metavar="T[,T...]|all",
    shell_complete=completion.target_lists,
    help="Runtime to export for: onnx, coreml, executorch, ... or all. May be repeated. [default: the layout's]",
)
@click.option(
    "--layout",
    metavar="NAME|FILE",
    shell_complete=completion.bundle_layouts,
    help="Name files and tensors as an app expects them, such as immich (see `mobileclip-deploy layouts`), or as your "
    "own JSON file says.",
)
@click.option(
    "--like",
    type=FILE,
    metavar="FILE",
    help="Name files and tensors as this file of other tools, whose place the export takes (docs/foreign.md).",
)
@click.option("--like-text", type=FILE, metavar="FILE", help="With --like: Its text tower, if that is another file.")
@click.option(
    "--input",
    type=click.Choice(["pixels", "bytes"]),
    default="pixels",
    show_default=True,
    help="Input of the image tower: pixels of one size, or the bytes of a picture of any size, which the graph "
    "resizes and crops (ONNX).",
)
@click.option(
    "--contexts",
    "contexts_text",
    metavar="TOKENS,...",
    help="Also export the text tower for shorter prompts, such as 16,32 tokens, which then run faster. Causal text "
    "towers only (mobileclip_b, mobileclip_blt, mobileclip2_b).",
)
@click.option("--normalise", is_flag=True, help="Scale embeddings to length 1 inside of the artifacts.")
@model_options
@click.option(
    "--tower", type=click.Choice(["image", "text", "both"]), default="both", show_default=True, help="Towers to export."
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    metavar="P | image=P,text=P",
    shell_complete=completion.precisions,
    help="How weights and activations are stored: fp32, fp16, w8, ...; w4p-table-w6p stores the token embedding at "
    "w6p, all else at w4p; smallest searches for the smallest bundle that passes its gates. May be repeated for "
    "several bundles. [default: fp16; executorch: fp32]",
)
@click.option(
    "--calibration",
    type=FILE,
    metavar="DIR",
    help="Folder of images and prompts.txt like your app's: for w8a8, to measure activations [default: packaged "
    "samples]; for --rounding, to learn it.",
)
@click.option(
    "--rounding",
    type=click.Choice(["nearest", "gptq", "tuned"]),
    default="nearest",
    show_default=True,
    help="How weights are rounded: gptq learns it on --calibration (at least 128 images, 500 captions); tuned then "
    "also trains the float parameters.",
)
@click.option(
    "--background",
    type=FILE,
    metavar="DIR",
    help="Folder of at least 256 pictures of all kinds, to learn when a search should find nothing; with --examples: "
    "of pictures that no label fits.",
)
@click.option(
    "--queries",
    type=FILE,
    metavar="PATH",
    help="With --background: at least 256 captions with their pictures (such as a .csv), to learn the threshold on.",
)
@click.option(
    "--max-drop",
    type=float,
    metavar="POINTS",
    help="With --precision smallest: most points of accuracy that may be lost. [default: 0.5]",
)
@click.option(
    "--max-size",
    type=float,
    metavar="MB",
    help="With --precision smallest: size limit of all artifacts, in MB. [default: none]",
)
@click.option(
    "--budget",
    type=float,
    metavar="MINUTES",
    help="With --precision smallest: time limit of the search, in minutes. [default: none]",
)
@click.option(
    "--labels",
    metavar="FILE|A,B,C",
    help="Export an image classifier with these labels: a list, or a file with one per line. It outputs probabilities.",
)
@click.option(
    "--examples",
    type=FILE,
    metavar="DIR",
    help="Learn the labels from a few pictures each: a folder per label. Without --labels, from the pictures alone.",
)
@click.option(
    "--false-tags",
    type=ShareType(),
    metavar="SHARE",
    help="With --examples: share of pictures without a label that may get one. [default: 5%]",
)
@click.option(
    "--template",
    metavar="TEXT",
    help='With --labels: prompt for a label, such as "a photo of a {}". [default: the variant\'s]',
)
@click.option(
    "--embedding-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Reduce embeddings to N dimensions (such as 64), on axes fitted to --fit. Creates a new embedding space.",
)
@click.option(
    "--fit", type=FILE, metavar="DIR", help="With --embedding-size: folder of pictures like your app's, at least 4 N."
)
@click.option(
    "--captions",
    type=FILE,
    metavar="FILE",
    help="With --fit: file of texts like your app's queries, one per line, 500 or more. [default: prompts.txt in "
    "--fit, or packaged ones]",
)
@click.option(
    "-o", "--output", type=FILE, default=Path(), metavar="DIR", help="Folder to write bundles to. [default: .]"
)
@click.option(
    "--dataset",
    type=FILE,
    metavar="PATH|builtin",
    help="Dataset to compare accuracy on: a path of your own (docs/evaluation.md), or the built-in emoji. [default: "
    "the built-in checkpoint's own; none for other checkpoints]",
)
@click.option(
    "--for-product",
    is_flag=True,
    help="Refuse weights whose licence does not clearly allow use in products, and name alternatives.",
)
@click.option(
    "--licence-text", type=FILE, metavar="FILE", help="Licence that came with your weights, to include in LICENSES/."
)
@click.option("--force", is_flag=True, help="Replace existing bundles.")
@click.option("--allow-failing", is_flag=True, help="Also write bundles that fail a gate, marked as FAILED.")
@click.option("--no-verify", is_flag=True, help="Skip all checks of the artifacts against the checkpoint.")
@gate_option
@json_option
def export(
    choice: ModelChoice,
    target_names: tuple[str, ...],
    precisions: tuple[str, ...],
    output: Path,
    contexts_text: str | None,
    gate_texts: tuple[str, ...],
    no_verify: bool,
    as_json: bool,
    target_options: dict[str, Any],
    like: Path | None,
    like_text: Path | None,
    **choices: Unpack[ExportChoices],
) -> None:
    """Export a checkpoint to bundles, each checked against the checkpoint before it is written.

    A bundle is OUT/<variant>-<target>-<precision>/ with the artifacts, manifest.json, tokenizer, preprocessing and
    golden inputs and outputs. Several bundles are written or refused one by one; the exit code is the worst of them.

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
      mobileclip-deploy export --target onnx --labels labels.txt --examples pictures/ --background photos/ -o out/
    """
    from mobileclip_deploy.artifacts.bundle.licences import require_product
    from mobileclip_deploy.artifacts.heads.contexts import parse_contexts
    from mobileclip_deploy.cli.output import conclude, note, print_json, progress, reading
    from mobileclip_deploy.export.request import choose, parse_request
    from mobileclip_deploy.network.checkpoints.hub import published_card
    from mobileclip_deploy.network.checkpoints.named_weights import weights_file
    from mobileclip_deploy.network.model.variants import load_variant
    from mobileclip_deploy.parity import parse_gates

    if like is not None or like_text is not None:
        choices["layout"] = _layout_like(like, like_text, choice, output, choices["layout"])
    choices["contexts"], choices["gates"] = parse_contexts(contexts_text), parse_gates(gate_texts)
    choices["verify"], choices["options"] = not no_verify, target_options
    with reading(choices["dataset"]):
        chosen = choose(parse_request(target_names, precisions, output, choices))
    weights = weights_file(choice.variant, choice.checkpoint, choice.download)
    if chosen.request.for_product:
        card = published_card(weights) if choice.variant is None else load_variant(choice.variant)
        if card is not None:
            require_product(card)  # before a download

    # From here on torch is needed, which takes more than a second to import: refusals above do not wait for it.
    from mobileclip_deploy.cli.tables import print_exports, print_failed_export
    from mobileclip_deploy.errors import MobileClipDeployError, NotRun, Undecided
    from mobileclip_deploy.export.door import export_plan
    from mobileclip_deploy.export.plan import plan_export

    for text in chosen.notes:
        note(text)
    plan = load(choice, lambda source: plan_export(chosen, source))
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
    undecided = [
        f"{result.bundle.path.name}: {check.detail}"
        for result in results
        for check in (() if result.report is None else result.report.undecided)
    ]
    if undecided:
        conclude(Undecided(f"Written, but undecided: {'; '.join(undecided)}."))


def _layout_like(like: Path | None, text: Path | None, choice: ModelChoice, output: Path, layout: object) -> Path:
    """Writes the layout of a file of other tools to the output folder, and returns its path.

    Raises:
        UsageError: no file, a layout as well, or a convention that exports do not have.
    """
    from mobileclip_deploy.base.files import write_whole
    from mobileclip_deploy.cli.output import note, progress
    from mobileclip_deploy.errors import UsageError

    if like is None or layout is not None:
        raise UsageError("--like names the file to replace; give it alone, without --layout")
    from mobileclip_deploy.verify.audit.door import verify_file
    from mobileclip_deploy.verify.audit.likeness import layout_like

    weights = choice.variant if choice.download else choice.checkpoint
    with progress() as update:
        report = verify_file(like, text=text, checkpoint=weights, download=choice.download, progress=update)
    derived = layout_like(report, like)
    note(report.sentence)
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{derived.name}.json"
    write_whole(path, derived.model_dump_json(indent=2, exclude_none=True) + "\n")
    note(f"Layout: {path}")
    return path
