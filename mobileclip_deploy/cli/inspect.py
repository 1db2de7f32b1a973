"""`inspect`: description of a file, a bundle or a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobileclip_deploy.cli import completion
from mobileclip_deploy.cli.options import BundlePath, json_option

if TYPE_CHECKING:
    from mobileclip_deploy.verify.inspect.inspection import FolderInspection


@click.command()
@click.argument("path", type=BundlePath(others=True))
@click.option(
    "--variant",
    metavar="NAME",
    shell_complete=completion.variants,
    help="Network architecture, if the checkpoint fits several.",
)
@json_option
def inspect(path: Path, variant: str | None, as_json: bool) -> None:
    """Describe a checkpoint, an artifact (.onnx, .mlpackage) or a bundle; list a folder of bundles.

    \b
    Examples:
      mobileclip-deploy inspect mobileclip_s0.pt
      mobileclip-deploy inspect out/
      mobileclip-deploy inspect out/nano-coreml-fp16
      mobileclip-deploy inspect out/nano-coreml-fp16/nano_image.mlpackage
    """
    from mobileclip_deploy.artifacts.bundle import Bundle
    from mobileclip_deploy.cli import inspect_lines as lines
    from mobileclip_deploy.cli.output import MOMENT, conclude, print_json, progress
    from mobileclip_deploy.errors import InvalidInput
    from mobileclip_deploy.verify.inspect import inspection as kinds

    with progress(MOMENT) as update:
        result = kinds.inspect(path, variant, progress=update)
    record = result.as_dict()
    if as_json:
        print_json(record)
    elif isinstance(result, kinds.FolderInspection):
        _print_folder(result)
    elif "functions" in record:
        lines.print_package(str(path), record)
    elif isinstance(result, kinds.BundleInspection):
        lines.print_bundle(Bundle.open_unchecked(path), result)
    elif isinstance(result, kinds.ArtifactInspection):
        lines.print_artifact(path, result)
    elif isinstance(result, kinds.FileInspection):
        lines.print_file(path, result)
    elif isinstance(result, kinds.CheckpointInspection):
        lines.print_checkpoint(path, result)
    if isinstance(result, kinds.FolderInspection) and result.faults:
        lost = f"{len(result.faults)} of {len(result.bundles)} bundles cannot be read"
        conclude(InvalidInput(f"{lost}: {result.faults[0]}"))


def _print_folder(folder: FolderInspection) -> None:
    from mobileclip_deploy.cli.output import megabytes, print_table

    rows = [
        [
            bundle.name,
            bundle.variant or "",
            bundle.target or "",
            bundle.precision or "",
            "" if bundle.bytes is None else megabytes(bundle.bytes),
            bundle.parity or "cannot be read",
        ]
        for bundle in folder.bundles
    ]
    print_table(None, ["bundle", "variant", "target", "precision", ">MB", "parity"], rows)
