"""What a target can do, as one value: everything about a format that is known before anything runs."""

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
class Abilities:
    """Abilities of a target, perhaps with options that were chosen of it.

    Attributes:
        packages: what reads and runs artifacts; `extra` is the pip extra that brings them, and `wheels` says for which
            systems, None: for all.
        converters: what writing needs besides, where that is more; `converter_extra` brings all.
        proven: package versions with which the whole test suite last passed; versions behind `or` passed this target's
            tests alone.
        unavailable: what of the format is not built in, and what each would need.
        suffixes: of artifacts, by which `inspect` knows them; `foreign_suffix` of files that others wrote in this
            format and `Target.declared` reads, None where it reads none.
        order: where it stands in lists.
        precisions: those that it has, and `default_precision` of them; `tables`: those that a text tower's table of
            words can have while the rest has another (`w4p-table-w6p`); `refused`: what it could write, or seem to,
            and should not, by tower and precision, and why.
        mixes: each layer can be stored at bits of its own (precision "mixed", see `TowerJob.four_bit`).
        recoverable: `recover` can train on its storage: the exporter finds the very integers of a trained weight again.
        learns_rounding: `export(rounding=)` works for it though `recover` does not.
        absorbs_layer_scales, absorbs_norms: weights are trained with the layer scales, and with those of the norms
            before them, multiplied into them.
        stages: a conversion has stages, which `Target.stage_checks` measures again.
        readable: `Artifact.program` gives a program that can be followed operation by operation.
        named_tensors: inputs and outputs have names, by which an app asks for them; `input_types`: the types that a
            layout may ask for of a tower's input, none but the target's own where a tower is left out.
        no_pictures: why image towers cannot take pictures of any size (`Form.pictures`); None where they can.
        no_contexts: why text towers cannot take ids of several lengths (`Form.contexts`); None where they can.
        refused_options: options of other targets that it was asked for and cannot have, by name, and why.
        not_searched: options of its own that a search for the smallest bundle cannot follow, by name, and why.
        ports: what inputs and outputs are called.
        rules: how the format stores weights; None of a target that does not say.
        places: where artifacts run, by kind of device: host, android, ios, mac or browser; nowhere on one left out, but
            on a host in `Artifact.runner`.
        compiled_places: places of a device, such as `gpu`, that an artifact can be compiled for on this machine.
        runtime_package: the distribution whose version a benchmark on this machine records; None: the first of
            `packages`. `runtime_packages`: the same for runtimes of `Target.places` that are not called as theirs is.
        pace: how much is asked of a runtime that is much slower than torch; None: every input.
        runtime_modules: what is imported before the clock of a session's loading runs.
    """

    packages: tuple[str, ...] = ()
    converters: tuple[str, ...] = ()
    extra: str | None = None
    wheels: str | None = None
    converter_extra: str | None = None
    proven: Mapping[str, str] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    suffixes: tuple[str, ...] = ()
    foreign_suffix: str | None = None
    order: int = 100
    precisions: tuple[str, ...] = ()
    default_precision: str = "fp16"
    tables: tuple[str, ...] = ()
    refused: Mapping[tuple[TowerName, str], str] = field(default_factory=dict)
    mixes: bool = False
    recoverable: bool = False
    learns_rounding: bool = False
    absorbs_layer_scales: bool = False
    absorbs_norms: bool = False
    stages: bool = False
    readable: bool = False
    named_tensors: bool = True
    input_types: Mapping[TowerName, tuple[str, ...]] = field(default_factory=dict)
    no_pictures: str | None = "its artifacts take pixels of one size"
    no_contexts: str | None = "its text towers take ids of one length"
    refused_options: Mapping[str, str] = field(default_factory=dict)
    not_searched: Mapping[str, str] = field(default_factory=dict)
    ports: Ports = field(default_factory=Ports)
    rules: StorageRules | None = None
    places: Mapping[str, tuple[RuntimePlace, ...]] = field(default_factory=dict)
    compiled_places: tuple[str, ...] = ()
    runtime_package: str | None = None
    runtime_packages: Mapping[str, str] = field(default_factory=dict)
    runtime_modules: tuple[str, ...] = ()
    pace: Pace | None = None

    def has(self, tower: TowerName, precision: str) -> bool:
        """Whether a tower can be stored at a precision."""
        from mobileclip_deploy.network.model.precision import is_precision, precision_of

        if precision in self.precisions or not is_precision(precision):
            return precision in self.precisions and (tower, precision) not in self.refused
        found = precision_of(precision)
        own = found.rest.removesuffix("a8")  # of a table, which nothing is multiplied by, w8a8 is w8
        return tower == "text" and found.rest in self.precisions and found.table in self.tables and found.table != own

    def lacking(self, name: str, tower: TowerName, precision: str) -> str:
        """What to say of a precision that it does not have: those that it has, or why. `name`: of the target."""
        if (reason := self.refused.get((tower, precision))) is not None:
            return f"{tower}={precision} is refused on {name}: {reason}"
        rest, between, _ = precision.partition("-table-")
        if not between or rest not in self.precisions:
            return f"{name} has no precision {precision}; it has {', '.join(self.precisions)}"
        others = [table for table in self.tables if table != rest.removesuffix("a8")]
        if not others:
            return f"{name} stores the table of words in one way alone; give {rest} in the place of {precision}"
        known = f"it has {', '.join(self.precisions)}; at {rest} the table of words can have {', '.join(others)}"
        return f"{name} has no precision {precision}; {known}"

    def absorb(self, tower: nn.Module) -> None:
        """Multiply into the weights of a folded tower, in place, what the exporter multiplies into them; the tower
        computes the same. A weight that was put on its grid then stays there."""
        from mobileclip_deploy.artifacts.towers.absorbing import absorb_layer_scales, absorb_norms

        if self.absorbs_layer_scales:
            absorb_layer_scales(tower)
        if self.absorbs_norms:
            absorb_norms(tower)

    def fixed(self, tower: nn.Module) -> frozenset[str]:
        """The parameters of a tower, by name, that stay as `absorb` left them while others are trained: what exporters
        multiply into weights would move these off their grids."""
        from mobileclip_deploy.artifacts.towers.absorbing import normed_layers

        norms = {norm for _, _, norm in normed_layers(tower)} if self.absorbs_norms else set()
        found = {f"{name}.weight" for name, module in tower.named_modules() if module in norms}
        return frozenset(found | {name for name, _ in tower.named_parameters() if "layer_scale" in name})

    @property
    def all_packages(self) -> tuple[str, ...]:
        """What reads, runs and writes artifacts."""
        return *self.packages, *self.converters

    def missing(self, *, converters: bool = False) -> list[str]:
        """The packages that are not installed; those that writing needs among them."""
        wanted = self.all_packages if converters else self.packages
        return [package for package in wanted if importlib.util.find_spec(package) is None]

    def import_runtime(self) -> None:
        """Import what a session needs."""
        for name in self.runtime_modules:
            importlib.import_module(name)

    @property
    def runtime(self) -> str | None:
        """The distribution that runs artifacts on this machine."""
        return self.runtime_package or next(iter(self.packages), None)

    def runtime_version(self) -> str:
        """The version of what runs artifacts on this machine.

        Raises:
            PackageNotFoundError: it is not installed.
        """
        return importlib.metadata.version(self.runtime) if self.runtime else "unversioned"
