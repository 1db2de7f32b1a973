"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mobileclip_deploy.architecture import MobileCLIP

__all__ = ["ModelChoice", "gate_option", "json_option", "load", "model_options"]

F = TypeVar("F", bound=Callable[..., Any])


def model_options(function: F) -> F:
    """--variant, --checkpoint, --download and --image-size, handed over as one `ModelChoice` called `choice`."""

    @functools.wraps(function)
    def collected(
        *, variant: str | None, checkpoint: str | None, download: bool, image_size: int | None, **others: Any
    ) -> Any:
        return function(choice=ModelChoice(variant, checkpoint, download, image_size), **others)

    options = (
        click.option("--variant", metavar="NAME", help="Told from the checkpoint when left out."),
        click.option(
            "--checkpoint",
            metavar="FILE",
            help="Trained weights, .pt or .safetensors, or hf:OWNER/NAME[@REVISION][:FILE] on the hub.",
        ),
        click.option("--download", is_flag=True, help="Fetch the variant's published weights from the hub."),
        click.option("--image-size", type=int, metavar="PIXELS", help="If it was fine-tuned at another size."),
    )
    decorated: Any = collected
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def json_option(function: F) -> F:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(function)


def gate_option(function: F) -> F:
    """--gate."""
    return click.option(
        "--gate",
        "gate_texts",
        multiple=True,
        metavar="NAME=NUMBER",
        help="Replace a bound: semantic, relative, cosine or task. May be repeated.",
    )(function)


@dataclass(frozen=True)
class ModelChoice:
    """What the shared options name."""

    variant: str | None
    checkpoint: str | None
    download: bool
    image_size: int | None


def load(choice: ModelChoice, check: Callable[[MobileCLIP], object] = lambda _: None) -> MobileCLIP:
    """The model that the shared options name, noted on stderr; the built-in one when they name none.

    `check` refuses what cannot be done with it, before the note: then the error is the only line.

    Raises:
        UsageError: a variant without its checkpoint, or options that contradict each other.
    """
    from mobileclip_deploy.api import load_model
    from mobileclip_deploy.cli.output import note, note_model, progress

    with progress() as update:
        model = load_model(
            choice.variant,
            choice.checkpoint,
            download=choice.download,
            image_size=choice.image_size,
            announce=note,
            progress=update,
        )
    check(model)
    note_model(model)
    return model
