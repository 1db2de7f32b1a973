"""`doctor`: what is installed here, and what is missing."""

from dataclasses import asdict

import click

from mobileclip_deploy.cli.options import json_option
from mobileclip_deploy.cli.terminal import say


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Show what is installed, which versions are proven together, and what is missing.

    \b
    Example:
      mobileclip-deploy doctor
    """
    from mobileclip_deploy.benchmark.doctor import doctor as diagnose
    from mobileclip_deploy.cli.output import conclude, print_json, print_table
    from mobileclip_deploy.errors import RuntimeFailed

    found = diagnose()
    if as_json:
        print_json(asdict(found) | {"complete": found.complete})
    else:
        rows = [[f.area, f.name, f.installed or "missing", f.proven, f.remedy] for f in found.packages]
        print_table(None, ["for", "package", "installed", "tested together", "what to do"], rows)
        rows = [[tool.purpose, tool.name, tool.path or "missing", tool.remedy] for tool in found.tools]
        print_table(None, ["for", "tool", "found", "what to do"], rows)
        say(found.machine)
    if not found.complete:
        conclude(RuntimeFailed("A required package is missing."))
