"""`doctor`: what is installed here, and what is missing."""

from __future__ import annotations

import click

__all__ = ["doctor"]


@click.command()
def doctor() -> None:
    """Show what is installed, which versions are proven together, and what is missing.

    \b
    Example:
      mobileclip-deploy doctor
    """
    from mobileclip_deploy.cli.output import note, print_table
    from mobileclip_deploy.inspect.door import doctor as diagnose

    found = diagnose()
    rows = [[f.area, f.name, f.installed or "missing", f.proven, f.remedy] for f in found.packages]
    print_table(None, ["for", "package", "installed", "proven together", "what to do"], rows)
    rows = [[tool.purpose, tool.name, tool.path or "missing", tool.remedy] for tool in found.tools]
    print_table(None, ["for", "tool", "found", "what to do"], rows)
    click.echo(found.machine)
    if not found.complete:
        note("A required package is missing.")
        raise SystemExit(3)
