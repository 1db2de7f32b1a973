"""Capabilities of a target, in five values: everything about a format that is known before anything runs."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mobileclip_deploy.targets.values import Pace, Ports, RuntimePlace

if TYPE_CHECKING:  # `export --help` lists the options of every target, and must not wait for torch
    from torch import nn

    from mobileclip_deploy.network.model.variants import TowerName
    from mobileclip_deploy.targets.rules import StorageRules


@dataclass(frozen=True)
class Packages:
    """Packages that a target needs.

    Attributes:
        required: packages that read and run artifacts.
        extra: pip extra that installs `required`.
        wheels: systems that the packages have wheels for; None for all.
        converters: further packages needed for writing.
        converter_extra: pip extra that installs all packages.
        proven: package versions with which the whole test suite last passed; versions after `or` passed this target's
            tests only.
        runtime_package: distribution whose version a benchmark on this machine records; None for the first of
            `required`.
        runtime_packages: distributions of the runtimes in `Target.places` whose names differ.
        runtime_modules: modules imported before a session's load time is measured.
    """

    required: tuple[str, ...] = ()
    converters: tuple[str, ...] = ()
    extra: str | None = None
    wheels: str | None = None
    converter_extra: str | None = None
    proven: Mapping[str, str] = field(default_factory=dict)
    runtime_package: str | None = None
    runtime_packages: Mapping[str, str] = field(default_factory=dict)
    runtime_modules: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Packages that read, run and write artifacts."""
        return *self.required, *self.converters

    def missing(self, *, converters: bool = False) -> list[str]:
        """Returns the packages that are not installed, those for writing included if `converters`."""
        required = self.all if converters else self.required
        return [package for package in required if importlib.util.find_spec(package) is None]

    def import_runtime(self) -> None:
        """Imports the modules that a session needs."""
        for name in self.runtime_modules:
            importlib.import_module(name)

    @property
    def runtime(self) -> str | None:
        """Distribution that runs artifacts on this machine. None if the target has no packages."""
        return self.runtime_package or next(iter(self.required), None)

    def runtime_version(self) -> str:
        """Returns the version of the distribution that runs artifacts on this machine.

        Raises:
            PackageNotFoundError: it is not installed.
        """
        return importlib.metadata.version(self.runtime) if self.runtime else "unversioned"


@dataclass(frozen=True)
class Formats:
    """A target's files, and how far they can be read.

    Attributes:
        suffixes: suffixes of artifacts, by which `inspect` recognises them.
        foreign_suffix: suffix of files that others wrote and that are benchmarked as competitors; None if none are.
        order: sort key in lists.
        stages: True if a conversion has stages, which `Target.stage_checks` measures again.
        readable: True if `Artifact.program` returns a program that can be run operation by operation.
        unavailable: parts of the format that are not built in, and what each would need.
        refused_options: other targets' options that users try here, by name, and the reason for the refusal.
        not_searched: own options that a search for the smallest bundle does not support, by name, and the reason.
    """

    suffixes: tuple[str, ...] = ()
    foreign_suffix: str | None = None
    order: int = 100
    stages: bool = False
    readable: bool = False
    unavailable: Mapping[str, str] = field(default_factory=dict)
    refused_options: Mapping[str, str] = field(default_factory=dict)
    not_searched: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Storing:
    """A target's precisions, and how it stores weights.

    Attributes:
        precisions: precisions that the target has.
        default_precision: its default among them.
        tables: precisions that a text tower's word table may have while the rest has another one (`w4p-table-w6p`).
        refused: by tower and precision, the reason for refusing a precision that it could, or seems to be able to,
            write.
        mixes: True if each layer can have bits of its own (precision "mixed", see `TowerJob.four_bit`).
        learns_rounding: True if `export(rounding=)` works: the exporter finds the exact integers of a learned weight
            again.
        absorbs_layer_scales, absorbs_norms: True if rounding is learned with the layer scales, or the preceding norms'
            scales, multiplied into the weights.
        rules: how the format stores weights; None if the target does not define it.
    """

    precisions: tuple[str, ...] = ()
    default_precision: str = "fp16"
    tables: tuple[str, ...] = ()
    refused: Mapping[tuple[TowerName, str], str] = field(default_factory=dict)
    mixes: bool = False
    learns_rounding: bool = False
    absorbs_layer_scales: bool = False
    absorbs_norms: bool = False
    rules: StorageRules | None = None

    def has(self, tower: TowerName, precision: str) -> bool:
        """Returns whether a tower can be stored at a precision."""
        from mobileclip_deploy.network.model.precision import is_precision, precision_of

        if precision in self.precisions or not is_precision(precision):
            return precision in self.precisions and (tower, precision) not in self.refused
        parts = precision_of(precision)
        rest = parts.rest.removesuffix("a8")  # w8a8 equals w8 for a table: lookups multiply nothing
        return tower == "text" and parts.rest in self.precisions and parts.table in self.tables and parts.table != rest

    def lacking(self, name: str, tower: TowerName, precision: str) -> str:
        """Returns an error text for a missing precision: the reason, or the list of available ones. `name` is the
        target's."""
        if (reason := self.refused.get((tower, precision))) is not None:
            return f"{tower}={precision} is not supported on {name}: {reason}"
        rest, between, _ = precision.partition("-table-")
        if not between or rest not in self.precisions:
            return f"{name} has no precision {precision}; it has {', '.join(self.precisions)}"
        others = [table for table in self.tables if table != rest.removesuffix("a8")]
        if not others:
            return f"{name} cannot store the token embedding at another precision; give {rest} instead of {precision}"
        available = f"it has {', '.join(self.precisions)}; at {rest} the token embedding can have {', '.join(others)}"
        return f"{name} has no precision {precision}; {available}"

    def absorb(self, tower: nn.Module) -> None:
        """Multiplies into the weights of a folded tower, in place, what the exporter multiplies into them. The tower
        computes the same, and a weight put on its grid afterwards stays there."""
        from mobileclip_deploy.artifacts.towers.absorbing import absorb_layer_scales, absorb_norms

        if self.absorbs_layer_scales:
            absorb_layer_scales(tower)
        if self.absorbs_norms:
            absorb_norms(tower)

    def fixed(self, tower: nn.Module) -> frozenset[str]:
        """Returns the names of a tower's parameters that must keep their values after `absorb` while others are
        trained. The exporter multiplies these into weights, so a change would move the weights off their grids."""
        from mobileclip_deploy.artifacts.towers.absorbing import normed_layers

        norms = {norm for _, _, norm in normed_layers(tower)} if self.absorbs_norms else set()
        names = {f"{name}.weight" for name, module in tower.named_modules() if module in norms}
        return frozenset(names | {name for name, _ in tower.named_parameters() if "layer_scale" in name})


@dataclass(frozen=True)
class Places:
    """Places where a target's artifacts run.

    Attributes:
        by_device: places by kind of device: host, android, ios, mac or browser. A missing device runs none; a missing
            host uses `Artifact.runner`.
        compiled: places of a device, such as `gpu`, that this machine can compile an artifact for.
        slow_runtime: limit on the inputs of a runtime much slower than torch; None for no limit.
    """

    by_device: Mapping[str, tuple[RuntimePlace, ...]] = field(default_factory=dict)
    compiled: tuple[str, ...] = ()
    slow_runtime: Pace | None = None


@dataclass(frozen=True)
class Capabilities:
    """Capabilities of a target, possibly with chosen options."""

    packages: Packages = field(default_factory=Packages)
    formats: Formats = field(default_factory=Formats)
    ports: Ports = field(default_factory=Ports)
    storing: Storing = field(default_factory=Storing)
    places: Places = field(default_factory=Places)
