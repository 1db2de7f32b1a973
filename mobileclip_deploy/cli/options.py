"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mobileclip_deploy.architecture import MobileCLIP

__all__ = ["gate_option", "json_option", "load", "model_options"]

F = TypeVar("F", bound=Callable[..., Any])


def model_options(function: F) -> F:
    """--variant and --checkpoint."""
    function = click.option(
        "--checkpoint", type=click.Path(path_type=Path), metavar="FILE", help="Trained weights, .pt or .safetensors."
    )(function)
    return click.option("--variant", metavar="NAME", help="Told from the checkpoint when left out.")(function)


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


def load(variant: str | None, checkpoint: Path | None) -> MobileCLIP:
    """The model that the shared options name, noted on stderr.

    Raises:
        UsageError: a variant without its checkpoint.
    """
    from mobileclip_deploy.api import load_model
    from mobileclip_deploy.cli.output import note_model
    from mobileclip_deploy.errors import UsageError
    from mobileclip_deploy.variants import load_variant

    if variant is not None and checkpoint is None and load_variant(variant).name != "nano":
        raise UsageError(f"--variant {variant} needs its weights: add --checkpoint FILE")
    model = load_model(variant, checkpoint)
    note_model(model)
    return model
