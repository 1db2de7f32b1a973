"""`recover`: trains towers to win back the accuracy lost to a precision."""

from __future__ import annotations

from pathlib import Path

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
    help="Precision to train for: w4, w4p, w8a8, ...",
)
@click.option(
    "--data",
    type=FILE,
    required=True,
    metavar="DIR",
    help="Images and captions like your app's (as for `reinforce`), or a dataset that this checkpoint reinforced.",
)
@click.option(
    "--tower", type=click.Choice(["image", "text", "both"]), default="both", show_default=True, help="Towers to train."
)
@click.option(
    "--target",
    default="coreml",
    show_default=True,
    metavar="T",
    shell_complete=completion.targets,
    help="Target that the result will be exported to: coreml, onnx, executorch (XNNPACK), ...",
)
@click.option("--steps", type=click.IntRange(1), help="Training steps per tower. [default: 300]")
@click.option("--images", type=click.IntRange(10), help="Maximum number of images to use. [default: 4096]")
@click.option("--batch", type=click.IntRange(1), help="Inputs per step. [default: 64]")
@click.option(
    "--learning-rate", type=click.FloatRange(0, min_open=True), help="Learning rate of the optimizer. [default: 0.0002]"
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the training.")
@click.option("--work", type=FILE, metavar="DIR", help="Folder to keep embeddings in for another run.")
@click.option(
    "-o",
    "--output",
    type=FILE,
    required=True,
    metavar="OUT.safetensors",
    help="File to write the trained checkpoint to.",
)
@click.option("--force", is_flag=True, help="Replace an existing output, and embed again.")
@json_option
def recover(
    choice: ModelChoice,
    precision: str,
    data: Path,
    tower: str,
    target: str,
    steps: int | None,
    images: int | None,
    batch: int | None,
    learning_rate: float | None,
    seed: int,
    work: Path | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Train a checkpoint for a low precision, so that its embeddings stay close to the float original's.

    The result is a folded checkpoint that `export --target T --precision P` writes with the very integers that were
    trained. A tower that training does not bring closer to its float original stays unchanged.

    \b
    Example:
      mobileclip-deploy recover --checkpoint mobileclip_s0.pt --precision w4 --data photos/ -o s0_w4.safetensors
    """
    from mobileclip_deploy.cli.output import print_json, print_table, progress
    from mobileclip_deploy.training.recovery.plan import RecoveryRequest, Settings, plan_recovery

    usual = Settings()
    settings = Settings(
        steps=usual.steps if steps is None else steps,
        batch=usual.batch if batch is None else batch,
        learning_rate=usual.learning_rate if learning_rate is None else learning_rate,
        images=usual.images if images is None else images,
        seed=seed,
    )
    request = RecoveryRequest(precision, data, output, tower, target, work, settings, force)
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
            "trained" if tower.kept else "unchanged",
        ]
        for tower in result.towers
    ]
    print_table(None, ["tower", ">without (mean, worst, agrees)", ">trained (mean, worst, agrees)", "kept"], rows)
    say("cosine of the embeddings with the float original's, over held-out inputs; agrees: the")
    say("nearest embedding of the other tower is the original's. A better mean that agrees no less is kept")
    say(f"wrote {result.output} and {result.report}")
