"""`variants`: list of the variants that can be loaded."""

import click

from mobileclip_deploy.cli.options import json_option
from mobileclip_deploy.cli.terminal import say


@click.command()
@json_option
def variants(as_json: bool) -> None:
    """List the known variants, their sizes and published figures.

    \b
    Example:
      mobileclip-deploy variants
    """
    from mobileclip_deploy.cli.output import print_json, print_table
    from mobileclip_deploy.network.model.variants import variant_cards

    cards = variant_cards()
    if as_json:
        print_json(cards)
        return
    columns = ["variant", "layouts", ">pixels", "resize", "activation", ">image M", ">text M", ">dim"]
    columns += [">ImageNet top-1*", "weights", "in products"]
    rows = [
        [
            card.name,
            ", ".join(card.layouts),
            str(card.preprocess.size),
            card.preprocess.interpolation,
            card.activation,
            f"{card.parameters_image / 1e6:.1f}",
            f"{card.parameters_text / 1e6:.1f}",
            str(card.embed_dim),
            f"{card.published.imagenet_top1:.1f}" if card.published and card.published.imagenet_top1 else "",
            card.licence.label,
            card.licence.answer("product").answer,
        ]
        for card in cards
    ]
    print_table(None, columns, rows)
    say("Parameters are counted, in training form. * Published by the models' authors, not measured here.")
    say("In products: whether the licence of weights downloaded today allows it; docs/licences.md quotes its text.")
