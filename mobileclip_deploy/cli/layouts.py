"""`layouts`: layouts of files and tensors, for apps, that an export can write."""

import click

from mobileclip_deploy.cli import completion
from mobileclip_deploy.cli.options import json_option
from mobileclip_deploy.cli.terminal import say

SIZES = {True: "any size", False: None}


@click.command()
@click.argument("name", required=False, metavar="[NAME|FILE]", shell_complete=completion.bundle_layouts)
@json_option
def layouts(name: str | None, as_json: bool) -> None:
    """List the layouts of apps that `export --layout` can write, or show one of them as the file that it is.

    \b
    Examples:
      mobileclip-deploy layouts
      mobileclip-deploy layouts immich > mine.json
      mobileclip-deploy layouts mine.json
    """
    from mobileclip_deploy.artifacts.layouts import layouts as packaged
    from mobileclip_deploy.artifacts.layouts import read_layout
    from mobileclip_deploy.cli.output import print_json, print_table

    selected = packaged() if name is None else (read_layout(name),)
    if as_json:
        print_json([layout.as_dict() for layout in selected])
        return
    if name is not None:
        print_json(selected[0].as_dict())
        return
    columns = ["layout", "target", "artifact", "file", "input", "output", "length 1"]
    rows = [
        [
            layout.name if index == 0 else "",
            layout.target if index == 0 else "",
            tower,
            artifact.file,
            " ".join(filter(None, (artifact.input.name, artifact.input.dtype, SIZES[artifact.input.any_size]))),
            artifact.output.name,
            "yes" if layout.normalised else "no",
        ]
        for layout in selected
        for index, (tower, artifact) in enumerate(layout.artifacts.items())
    ]
    print_table(None, columns, rows)
    for layout in selected:
        say(f"{layout.name}: {layout.title}.")
