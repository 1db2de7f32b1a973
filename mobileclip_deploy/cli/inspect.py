"""`inspect`: what is this file?"""

from __future__ import annotations

from pathlib import Path

import click

from mobileclip_deploy.cli.options import BundlePath, json_option

__all__ = ["inspect"]


@click.command()
@click.argument("path", type=BundlePath(others=True))
@json_option
def inspect(path: Path, as_json: bool) -> None:
    """Say what a checkpoint, an artifact (.onnx, .mlpackage) or a bundle is and holds.

    \b
    Examples:
      mobileclip-deploy inspect mobileclip_s0.pt
      mobileclip-deploy inspect out/nano-coreml-fp16
      mobileclip-deploy inspect out/nano-coreml-fp16/nano_image.mlpackage
    """
    from mobileclip_deploy.cli.output import print_json, print_table
    from mobileclip_deploy.cli.package_tables import print_package
    from mobileclip_deploy.inspect.door import inspect as look

    result = look(path)
    told = result.as_dict()
    if as_json:
        print_json(told)
        return
    if "functions" in told:
        print_package(str(path), told)
        return
    rows = [[key.replace("_", " "), _text(value)] for key, value in told.items()]
    print_table(None, ["", str(path)], rows)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
