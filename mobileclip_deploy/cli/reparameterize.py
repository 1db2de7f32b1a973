"""`reparameterize`: fold a checkpoint and write it."""

from pathlib import Path

import click

from mobileclip_deploy.cli.options import FILE, ModelChoice, json_option, load, model_options
from mobileclip_deploy.cli.terminal import say


@click.command()
@model_options
@click.option(
    "-o", "--output", type=FILE, required=True, metavar="OUT.safetensors", help="File to write the folded model to."
)
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
@json_option
def reparameterize(choice: ModelChoice, output: Path, force: bool, as_json: bool) -> None:
    """Fold all branches and BatchNorms of a checkpoint; write a report next to the result.

    \b
    Example:
      mobileclip-deploy reparameterize --checkpoint mobileclip_s0.pt -o mobileclip_s0.folded.safetensors
    """
    from mobileclip_deploy.cli.output import print_json, print_table, progress
    from mobileclip_deploy.network.checkpoints.weights_files import check_folded_output

    written = check_folded_output(output, force)
    model = load(choice, lambda source: source.model)

    from mobileclip_deploy.artifacts.towers.door import reparameterize as fold_model

    with progress() as update:
        update("folding")
        report = fold_model(model, output, force=force)
    if as_json:
        print_json({"output": str(output)} | report.as_dict())
        return
    rows = [
        [record.name, str(record.folded), "" if record.deviation is None else f"{record.deviation:.1e}"]
        for record in report.passes
    ]
    print_table(None, ["fold", ">blocks", ">deviation"], rows)
    say(
        f"parameters {report.parameters_before:,} -> {report.parameters_after:,}, modules {report.modules_before} -> "
        f"{report.modules_after}, BatchNorms {report.batch_norms_before} -> {report.batch_norms_after}"
    )
    say("deviation: relative change of the embeddings by a fold, worst over samples")
    if report.deviation is not None:
        say(f"from the unfolded model: {report.deviation:.1e}")
    say(f"wrote {output} and {written}")
