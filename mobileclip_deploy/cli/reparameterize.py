"""`reparameterize`: fold a checkpoint and write it."""

from __future__ import annotations

from pathlib import Path

import click

from mobileclip_deploy.cli.options import ModelChoice, json_option, load, model_options

__all__ = ["reparameterize"]


@click.command()
@model_options
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="OUT.safetensors")
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
@json_option
def reparameterize(choice: ModelChoice, output: Path, force: bool, as_json: bool) -> None:
    """Fold all branches and BatchNorms of a checkpoint; a report is written beside the result.

    \b
    Example:
      mobileclip-deploy reparameterize --checkpoint mobileclip_s0.pt -o mobileclip_s0.folded.safetensors
    """
    import json

    from mobileclip_deploy import reparameterize as fold_model
    from mobileclip_deploy.checkpoints import folded
    from mobileclip_deploy.cli.output import print_json, print_table, progress
    from mobileclip_deploy.errors import UsageError
    from mobileclip_deploy.files import check_file_destination

    written = output.with_suffix(".report.json")
    for file in (output, written):
        check_file_destination(file, force)
    if output.suffix != ".safetensors":
        raise UsageError(f"folded models are written as .safetensors, not {output.name}; rename the output")
    model = load(choice, lambda source: source.model)
    with progress() as update:
        update("folding")
        report = fold_model(model)
        update("writing")
        output.parent.mkdir(parents=True, exist_ok=True)
        folded.save(model, output)
    text = json.dumps(report.as_dict(), indent=2) + "\n"
    written.write_text(text, encoding="utf-8")
    if as_json:
        print_json({"output": str(output)} | report.as_dict())
        return
    rows = [
        [record.name, str(record.folded), "" if record.deviation is None else f"{record.deviation:.1e}"]
        for record in report.passes
    ]
    print_table(None, ["fold", ">blocks", ">deviation"], rows)
    click.echo(
        f"parameters {report.parameters_before:,} -> {report.parameters_after:,}, modules {report.modules_before} -> "
        f"{report.modules_after}, BatchNorms {report.batch_norms_before} -> {report.batch_norms_after}"
    )
    click.echo("deviation: of the embeddings from the unfolded model's, relative, worst over sample images and prompts")
    click.echo(f"wrote {output} and {written}")
