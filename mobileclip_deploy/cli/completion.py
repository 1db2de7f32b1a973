"""Shell completion of option values: names of targets, precisions, variants, layouts, devices and chips."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

Offered = Callable[["click.Context", "click.Parameter", str], list[str]]


def names(room: str, name: str) -> Offered:
    """Returns a completion of names from a function or a constant of a room, imported on completion only."""

    def offered(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
        source = getattr(importlib.import_module(f"mobileclip_deploy.{room}"), name)
        return _starting(typed, source() if callable(source) else source)

    return offered


targets = names("targets", "targets")
variants = names("network.model.variants", "variant_names")
layouts = names("network.checkpoints.fitting", "LAYOUTS")
bundle_layouts = names("artifacts.layouts", "layout_names")
chips = names("verify.inspect.linting", "LINTED")


def target_lists(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Completes several targets with commas between them, or all."""
    from mobileclip_deploy.targets import targets as installed

    return lists((*installed(), *(() if "," in typed else ("all",))))(context, parameter, typed)


def lists(names: Collection[str]) -> Offered:
    """Returns a completion of one of these names, or several with commas between them."""

    def offered(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
        before, comma, last = typed.rpartition(",")
        return [f"{before}{comma}{name}" for name in _starting(last, names)]

    return offered


def precisions(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Completes a precision, or one for each tower."""
    from mobileclip_deploy.network.model.precision import PRECISIONS, TABLE, TABLES
    from mobileclip_deploy.network.model.variants import TOWERS

    precision_names = [name for name in PRECISIONS if name != "mixed"]  # which only a search chooses
    before, comma, last = typed.rpartition(",")
    tower, equals, name = last.partition("=")
    if TABLE in (name if equals else last):
        first, between, table = typed.rpartition(TABLE)
        return [f"{first}{between}{completed}" for completed in _starting(table, TABLES)]
    if equals:
        return [f"{before}{comma}{tower}={completed}" for completed in _starting(name, precision_names)]
    others = [f"{before}{comma}{completed}=" for completed in _starting(last, TOWERS)]
    return others if comma else [*_starting(last, (*precision_names, "smallest")), *others]


def _starting(typed: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(typed.lower())]
