"""`devices`: what `benchmark` can run on."""

import click

from mobileclip_deploy.cli.options import json_option


@click.command()
@json_option
def devices(as_json: bool) -> None:
    """List the devices that `benchmark` can run on, and what to do about those that are not ready.

    \b
    Example:
      mobileclip-deploy devices
    """
    from mobileclip_deploy.benchmark.driver import devices as found_devices
    from mobileclip_deploy.cli.output import print_json, print_table

    found = found_devices()
    if as_json:
        print_json(found)
        return
    rows = [[one.device, one.name, one.state, one.remedy or ""] for one in found]
    print_table(None, ["--device", "name", "state", "what to do"], rows)
