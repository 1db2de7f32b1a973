"""What a shell offers for an option's value: names of targets, precisions, variants, layouts, devices and chips."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

__all__ = ["bundle_layouts", "chips", "devices", "layouts", "precisions", "target_lists", "targets", "variants"]


def targets(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """One target."""
    return _starting(typed, _target_names())


def target_lists(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Several targets with commas between them, or all."""
    before, comma, last = typed.rpartition(",")
    return [f"{before}{comma}{name}" for name in _starting(last, (*_target_names(), *(() if comma else ("all",))))]


def precisions(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """A precision, or one for each tower."""
    from mobileclip_deploy.model.precision import PRECISIONS, TABLE, TABLES
    from mobileclip_deploy.model.variants import TOWERS

    known = [name for name in PRECISIONS if name != "mixed"]  # which a search alone chooses
    before, comma, last = typed.rpartition(",")
    tower, equals, name = last.partition("=")
    if TABLE in (name if equals else last):
        first, between, table = typed.rpartition(TABLE)
        return [f"{first}{between}{one}" for one in _starting(table, TABLES)]
    if equals:
        return [f"{before}{comma}{tower}={one}" for one in _starting(name, known)]
    others = [f"{before}{comma}{one}=" for one in _starting(last, TOWERS)]
    return others if comma else [*_starting(last, (*known, "smallest")), *others]


def variants(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """A variant, yours too."""
    from mobileclip_deploy.model.variants import variant_names

    return _starting(typed, variant_names())


def layouts(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """A layout of checkpoints."""
    from mobileclip_deploy.checkpoints.fitting import LAYOUTS

    return _starting(typed, LAYOUTS)


def bundle_layouts(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """A layout of bundles."""
    from mobileclip_deploy.layouts import layout_names

    return _starting(typed, layout_names())


def devices(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """A kind of device."""
    from mobileclip_deploy.benchmark.driver import DRIVERS

    return _starting(typed, DRIVERS)


def chips(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """A chip with a Neural Engine, or a GPU."""
    from mobileclip_deploy.inspect.linting import CHIPS, PLACES

    return _starting(typed, (*CHIPS, *PLACES))


def _target_names() -> list[str]:
    from mobileclip_deploy.targets import targets as installed

    return list(installed())


def _starting(typed: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(typed.lower())]
