"""`recover`: trains towers to win back the accuracy lost to a precision."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from mobileclip_deploy.cli import completion
from mobileclip_deploy.cli.options import FILE, ModelChoice, json_option, load, model_options
from mobileclip_deploy.cli.terminal import say


@click.command()
@model_options
@click.option(
    "--precision",
    required=True,
    metavar="P | image=P,text=P",
    shell_complete=completion.precisions,
    help="w4, w4p, w8a8, ...",
)
@click.option(
    "--data",
    type=FILE,
    required=True,
    metavar="DIR",
    help="Images and captions like those of the app (as for `reinforce`), or a dataset this checkpoint reinforced.",
)
@click.option("--tower", type=click.Choice(["image", "text", "both"]), default="both", show_default=True)
@click.option(
    "--target",
    default="coreml",
    show_default=True,
    metavar="T",
    shell_complete=completion.targets,
    help="Whose export is to store what is trained: coreml, onnx, executorch (XNNPACK), ...",
)
@click.option("--steps", type=click.IntRange(1), help="Of training a tower [default: 300].")
@click.option("--images", type=click.IntRange(10), help="How many of the data to use, at most [default: 4096].")
@click.option("--batch", type=click.IntRange(1), help="Inputs in a step [default: 64].")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="[default: 0.0002].")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--work", type=FILE, metavar="DIR", help="Where embeddings are kept for another run.")
@click.option("-o", "--output", type=FILE, required=True, metavar="OUT.safetensors")
@click.option("--force", is_flag=True, help="Replace the output if it exists, and embed anew.")
@json_option
def recover(choice: ModelChoice, as_json: bool, **asked: Any) -> None:
    """Train a checkpoint's towers on the grid of a precision, to answer as they did in float.

    The result is a folded checkpoint that `export --target T --precision P` writes with the very integers that were
    trained. A tower that training does not make a better copy of its float original stays as it is.

    \b
    Example:
      mobileclip-deploy recover --checkpoint mobileclip_s0.pt --precision w4 --data photos/ -o s0_w4.safetensors
    """
    from mobileclip_deploy.cli.output import print_json, print_table, progress
    from mobileclip_deploy.training.recovery.plan import RecoveryRequest, Settings, plan_recovery

    chosen = {field.name: asked.pop(field.name) for field in fields(Settings) if field.name in asked}
    settings = Settings(**{name: value for name, value in chosen.items() if value is not None})
    request = RecoveryRequest(**asked, settings=settings)
    plan = load(choice, lambda source: plan_recovery(request, source))

    from mobileclip_deploy.training.recovery.recovering import recover as run

    with progress() as update:
        result = run(plan, update)
    if as_json:
        print_json(result.as_dict())
        return
    rows = [
        [
            f"{tower.tower} {tower.precision}",
            *(f"{c.mean:.4f}, {c.worst:.4f}, {c.agreement:.1%}" for c in (tower.without, tower.trained)),
            "trained" if tower.kept else "as it was",
        ]
        for tower in result.towers
    ]
    print_table(None, ["tower", ">without (mean, worst, agrees)", ">trained (mean, worst, agrees)", "kept"], rows)
    say("cosine of the embeddings with the float original's, over inputs that were not trained on; agrees: the")
    say("nearest embedding of the other tower is the original's. What is better in mean and no worse here is kept")
    say(f"wrote {result.output} and {result.report}")
