"""`compare`: bundles side by side."""

from pathlib import Path

import click

from mobileclip_deploy.cli.options import FILE, BundlePath, DatasetChoice, dataset_options, gate_option, json_option
from mobileclip_deploy.cli.terminal import say


@click.command()
@click.argument("bundles", type=BundlePath(), nargs=-1, required=True, metavar="BUNDLE...")
@dataset_options
@click.option("--checkpoint", type=FILE, metavar="FILE", help="Checkpoint that the bundles were exported from.")
@click.option(
    "--baseline",
    type=FILE,
    metavar="FILE",
    help="Original checkpoint that the bundles' checkpoint was fine-tuned from, to report what changed.",
)
@gate_option
@click.option("--by-layer", is_flag=True, help="On Qualcomm's emulator: measure each layer's deviation from float32.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@json_option
def compare(
    bundles: tuple[Path, ...],
    data: DatasetChoice,
    checkpoint: Path | None,
    baseline: Path | None,
    gate_texts: tuple[str, ...],
    by_layer: bool,
    markdown: bool,
    as_json: bool,
) -> None:
    """Compare bundles: size, deviation from the checkpoint, accuracy and its change, gates.

    Changes are against the checkpoint, which is found as for `verify`, or else against the first bundle, with 95%
    intervals over the same examples. Bundles of different embedding spaces are each compared with their own.

    \b
    Examples:
      mobileclip-deploy compare out/nano-onnx-fp32 out/nano-onnx-fp16
      mobileclip-deploy compare out/* --dataset imagenet/val --cache ~/.cache/embeddings --markdown
      mobileclip-deploy compare out/nano-qnn-w8a16 --by-layer
      mobileclip-deploy compare out/nano-onnx-fp16 --checkpoint tuned.pt --baseline original.pt --dataset photos/
    """
    if by_layer:
        _compare_layers(bundles, as_json)
        return
    from mobileclip_deploy.cli.output import conclude, note, print_json, progress, reading
    from mobileclip_deploy.errors import GateFailed, NotRun, Undecided, UsageError
    from mobileclip_deploy.evaluation.dataset_files import check_dataset
    from mobileclip_deploy.network.checkpoints.named_weights import weights_file
    from mobileclip_deploy.parity import parse_gates

    if markdown and as_json:
        raise UsageError("--markdown and --json exclude each other")
    gates, dataset_arguments = parse_gates(gate_texts) if gate_texts else None, data.arguments()
    if data.dataset is not None:
        with reading(data.dataset):
            check_dataset(data.dataset)
    for file in filter(None, (checkpoint, baseline)):
        weights_file(None, file)

    from mobileclip_deploy import compare as run
    from mobileclip_deploy.cli.tables import print_comparison

    with progress() as update:
        comparison = run(
            bundles, checkpoint=checkpoint, baseline=baseline, gates=gates, progress=update, **dataset_arguments
        )
    for text in comparison.notes:
        note(f"Note: {text}")
    if as_json:
        print_json(comparison)
    elif markdown:
        for line in comparison.markdown().rstrip("\n").split("\n"):
            say(line)
    else:
        print_comparison(comparison)
    for status, error in (("failed", GateFailed), ("not run", NotRun), ("undecided", Undecided)):
        if names := [row.bundle for row in comparison.bundles if row.status == status]:
            conclude(error(f"{status.upper()}: {', '.join(names)}; the table gives the reason."))


def _compare_layers(bundles: tuple[Path, ...], as_json: bool) -> None:
    from mobileclip_deploy.cli.output import print_json, print_table, progress
    from mobileclip_deploy.verify.inspect.layers import compare_layers

    with progress() as update:
        comparisons = compare_layers(bundles, update)
    if as_json:
        print_json({"towers": comparisons})
        return
    for tower in comparisons:
        rows = [[layer.layer, f"{layer.compiled:.1f}", f"{layer.interpreted:.1f}"] for layer in tower.layers]
        print_table(f"{tower.bundle}, {tower.tower}", ["layer", ">emulated NPU, dB", ">ONNX Runtime's CPU, dB"], rows)
    say("dB: signal-to-noise ratio of a layer's output, against float32 with the same weights")
