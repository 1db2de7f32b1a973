"""Targets: one folder per deployment format, found by the entry-point group `mobileclip_deploy.targets`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from mobileclip_deploy.errors import DependencyMissing, NotRun, UsageError, first_sentence, suggestion
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.capabilities import Capabilities, Formats, Packages, Places, Storing
from mobileclip_deploy.targets.options import TargetOptions
from mobileclip_deploy.targets.target import Target
from mobileclip_deploy.targets.values import (
    Attachment,
    Form,
    Place,
    Ports,
    Precisions,
    Runner,
    RuntimePlace,
    TensorInfo,
    TowerJob,
)

__all__ = [
    "GROUP",
    "RETIRED",
    "Artifact",
    "Attachment",
    "Capabilities",
    "Form",
    "Formats",
    "Packages",
    "Place",
    "Places",
    "Ports",
    "Precisions",
    "Runner",
    "Storing",
    "Target",
    "TargetOptions",
    "TensorInfo",
    "TowerJob",
    "chosen_targets",
    "found_places",
    "get_target",
    "installed_target",
    "named_targets",
    "names_all",
    "restored_target",
    "target_of",
    "targets",
]

GROUP = "mobileclip_deploy.targets"
RETIRED = {"torchscript": (".ts", "examples/third_party_target")}
"""Targets that have left the package: the suffix of their artifacts, and the repository's package to install
instead."""
RETIRED_OPTIONS = ("as_maps", "image_entry")
"""Options that targets no longer have."""


@cache
def targets() -> Mapping[str, Target]:
    """Returns every installed target by name, with its default options; built-in targets come first.

    Raises:
        DependencyMissing: a package registers a target that cannot be imported.
    """
    loaded = (_load(entry) for entry in _registered_in(tuple(sys.path)))
    ordered = sorted(loaded, key=lambda one: (one.capabilities.formats.order, one.name))
    return {target.name: target for target in ordered}


@cache
def _registered_in(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Returns the entry points of the packages on this path, cached by path: reading them opens one file per package,
    hundreds in all."""
    return tuple(entry_points(group=GROUP))


def _load(entry: EntryPoint) -> Target:
    try:
        target: Target = entry.load()()
    except Exception as error:  # whatever somebody's package raises when it is imported
        package = entry.dist.name if entry.dist is not None else "its package"
        reason = first_sentence(error)
        raise DependencyMissing(f"the target {entry.name!r} of {package} cannot be loaded: {reason}") from error
    return target


def get_target(name: str) -> Target:
    """Returns the target with this name, or the variation with this label (`executorch-<backend>`), with default
    options. Case is ignored.

    Raises:
        UsageError: the name is unknown; the text lists the known names.
    """
    label = name.casefold()
    entries = {entry.name.casefold(): entry for entry in _registered_in(tuple(sys.path))}
    family_name = label  # the longest registered prefix that ends before a hyphen
    while family_name and family_name not in entries:
        family_name = family_name.rpartition("-")[0]
    if not family_name:
        if label in RETIRED:
            raise _retired(label)
        installed = targets()
        raise UsageError(f"unknown target {name!r}{suggestion(name, installed)}; known: {', '.join(installed)}, all")
    family = _load(entries[family_name])  # this target alone: others import torch or coremltools
    if family_name == label:
        return family
    varied = family.options.varied(label.removeprefix(f"{family_name}-"))
    if varied is None:
        raise UsageError(f"unknown target {label!r}; {family.name} is one target")
    return family.with_options(varied)


def _retired(name: str) -> UsageError:
    _, package = RETIRED[name]
    return UsageError(f"{name} is now a separate package; in a clone of the repository, type: pip install {package}")


def target_of(path: Path) -> Target | None:
    """Returns the target whose artifacts have this file's suffix. None if no target has it.

    Raises:
        UsageError: the target has left the package; the text holds the pip line.
    """
    readers = (each for each in targets().values() if path.suffix in each.capabilities.formats.suffixes)
    target = next(readers, None) if path.suffix else None
    if target is None and (gone := [name for name, (suffix, _) in RETIRED.items() if path.suffix == suffix]):
        raise _retired(gone[0])
    return target


def installed_target(name: str) -> Target:
    """Returns the target with this name, ready to read or run its artifacts.

    Raises:
        UsageError: the name is unknown; the text lists the known names.
        DependencyMissing: its packages are not installed; the text holds the pip line.
    """
    target = get_target(name)
    target.require_installed()
    return target


def found_places(target: Target, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
    """Returns `Target.places`; empty if that raises NotRun."""
    try:
        return target.places(device, options)
    except NotRun:
        return ()


def restored_target(name: str, recorded: Mapping[str, str]) -> Target:
    """Returns the target that wrote a bundle, with the options recorded in its manifest, to write the same bundle
    again.

    Raises:
        UsageError: as `installed_target`, or the bundle was written with a removed option.
        DependencyMissing: as `installed_target`.
    """
    target = installed_target(name)
    if gone := [option for option in RETIRED_OPTIONS if recorded.get(option) == "on"]:
        raise UsageError(f"the bundle was written with `{gone[0]}`, an option of version 0.3; export it again without")
    return target.with_options(target.Options.restored(recorded))


def named_targets(names: tuple[str, ...]) -> tuple[Target, ...]:
    """Returns the targets that texts such as `onnx`, `onnx,coreml` or `all` name, each once, in the order named.

    Raises:
        UsageError: a name is unknown, or no target is named.
    """
    target_names = [name for part in _parts(names) for name in (targets() if part.casefold() == "all" else (part,))]
    if not target_names:
        raise UsageError(f"no target is given; known: {', '.join(targets())}, all")
    return tuple({target.label: target for target in map(get_target, target_names)}.values())


def chosen_targets(names: tuple[str, ...], options: Mapping[str, Any]) -> tuple[Target, ...]:
    """Returns the targets that such texts name, each with the options that it has; one target per backend.

    Args:
        options: values by field name; None means that the option was not used.

    Raises:
        UsageError: no named target has an option, or none uses it with the other chosen options.
    """
    set_options = {name: value for name, value in options.items() if value is not None}
    named: list[Target] = []
    used: set[str] = set()
    for target in named_targets(names):
        known_fields = {target_values.name: target_values for target_values in fields(target.options)}
        target_values = {name: value for name, value in set_options.items() if name in known_fields}
        for name, value in target_values.items():
            kind = bool if isinstance(known_fields[name].default, bool) else str
            if not isinstance(value, kind):
                raise UsageError(f"the option `{name}` takes a {kind.__name__}, not {value!r}")
        combined = type(target.options)(**{**vars(target.options), **target_values})
        chosen = combined.variations()
        used |= {name for name in target_values if any(variation.uses(name) for variation in chosen)}
        named += [target.with_options(variation) for variation in chosen]
    if foreign := [name for name in set_options if name not in used]:
        raise _foreign(foreign, named)
    return tuple(named)


def _foreign(names: Sequence[str], named: Sequence[Target]) -> UsageError:
    """Returns the error for options that no named target uses. All options of the first one's owner share one
    sentence."""
    every = [(target, owned) for target in (*named, *targets().values()) for owned in fields(target.options)]
    owner = next((target for target, owned in every if owned.name == names[0]), None)
    if owner is None:
        known_names = ", ".join(sorted({owned.name for _, owned in every}))
        return UsageError(f"unknown option {names[0]!r}; known: {known_names}")
    for target in named:
        if reason := target.capabilities.formats.refused_options.get(names[0]):
            return UsageError(f"`{names[0]}` is not supported for {target.title}: {reason}")
    flags = [f"`{owned.name}`" for owned in fields(owner.options) if owned.name in names]
    if owner in named:
        return UsageError(f"{' and '.join(flags)}: not used by {owner.label}; leave it out")
    verb = "is" if len(flags) == 1 else "are"
    return UsageError(f"{' and '.join(flags)} {verb} {owner.title}'s; add `target='{owner.name}'`")


def names_all(names: tuple[str, ...]) -> bool:
    """Returns whether `all` is one of the names in such texts."""
    return any(part.casefold() == "all" for part in _parts(names))


def _parts(names: tuple[str, ...]) -> list[str]:
    return [part.strip() for text in names for part in text.split(",")]
