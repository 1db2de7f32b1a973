"""Targets: one folder per deployment format, found by the entry-point group `mobileclip_deploy.targets`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from mobileclip_deploy.errors import DependencyMissing, NotRun, UsageError, first_sentence, suggestion
from mobileclip_deploy.targets.abilities import Abilities
from mobileclip_deploy.targets.artifact import Artifact
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
    "Abilities",
    "Artifact",
    "Attachment",
    "Form",
    "Place",
    "Ports",
    "Precisions",
    "Runner",
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
"""Targets that have left the package: the suffix of their artifacts, and the package of the repository to install."""
RETIRED_OPTIONS = ("as_maps", "image_entry")
"""Options that targets no longer have."""


@cache
def targets() -> Mapping[str, Target]:
    """Every target that is installed, by name, with its default options; ours first.

    Raises:
        DependencyMissing: a package registers a target that cannot be imported.
    """
    loaded = (_load(entry) for entry in _registered_in(tuple(sys.path)))
    found = sorted(loaded, key=lambda one: (one.abilities.order, one.name))
    return {target.name: target for target in found}


@cache
def _registered_in(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Entry points of the packages that Python finds by this path. They are read once per path: they stand in one file
    per package, in hundreds of files."""
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
    """The target called `name`, or the variation that is labelled so (`executorch-<backend>`), with default options;
    in any capitals.

    Raises:
        UsageError: unknown; the text lists the known ones.
    """
    wanted = name.casefold()
    entries = {entry.name.casefold(): entry for entry in _registered_in(tuple(sys.path))}
    own = wanted  # then what is before its last hyphen, and so on
    while own and own not in entries:
        own = own.rpartition("-")[0]
    if not own:
        if wanted in RETIRED:
            raise _retired(wanted)
        known = targets()
        raise UsageError(f"unknown target {name!r}{suggestion(name, known)}; known: {', '.join(known)}, all")
    family = _load(entries[own])  # what the others import (torch, coremltools) is left out of the process
    if own == wanted:
        return family
    varied = family.options.varied(wanted.removeprefix(f"{own}-"))
    if varied is None:
        raise UsageError(f"unknown target {wanted!r}; {family.name} is one target")
    return family.with_options(varied)


def _retired(name: str) -> UsageError:
    _, package = RETIRED[name]
    return UsageError(f"{name} has left the package; in a clone of its repository, type: pip install {package}")


def target_of(path: Path) -> Target | None:
    """The target whose artifacts are called as this file is; None where it is none's.

    Raises:
        UsageError: the target has left the package; the text holds the pip line.
    """
    found = next((one for one in targets().values() if path.suffix and path.suffix in one.abilities.suffixes), None)
    if found is None and (gone := [name for name, (suffix, _) in RETIRED.items() if path.suffix == suffix]):
        raise _retired(gone[0])
    return found


def installed_target(name: str) -> Target:
    """The target called `name`, to read or run what it wrote.

    Raises:
        UsageError: unknown; the text lists the known ones.
        DependencyMissing: its packages are not installed; the text holds the pip line.
    """
    target = get_target(name)
    target.require_installed()
    return target


def found_places(target: Target, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
    """As `Target.places`; nowhere, too, where that says why not."""
    try:
        return target.places(device, options)
    except NotRun:
        return ()


def restored_target(name: str, recorded: Mapping[str, str]) -> Target:
    """The target that wrote a bundle, with the options that its manifest records, to write the same again.

    Raises:
        UsageError: as `installed_target`, or it was written with an option that is gone.
        DependencyMissing: as `installed_target`.
    """
    target = installed_target(name)
    if gone := [option for option in RETIRED_OPTIONS if recorded.get(option) == "on"]:
        raise UsageError(f"the bundle was written with `{gone[0]}`, which version 0.3 had; export it again without")
    return target.with_options(target.Options.restored(recorded))


def named_targets(names: tuple[str, ...]) -> tuple[Target, ...]:
    """Texts such as `onnx`, `onnx,coreml` or `all` -> targets, each once, in the order named.

    Raises:
        UsageError: a name is unknown, or there is none.
    """
    wanted = [name for part in _parts(names) for name in (targets() if part.casefold() == "all" else (part,))]
    if not wanted:
        raise UsageError(f"no target is named; known: {', '.join(targets())}, all")
    return tuple({target.label: target for target in map(get_target, wanted)}.values())


def chosen_targets(names: tuple[str, ...], options: Mapping[str, Any]) -> tuple[Target, ...]:
    """The targets that such texts name, each with those of the options that are its own; one target per backend.

    Args:
        options: by the names of their fields; those that are None were not given.

    Raises:
        UsageError: an option is of none of them, or none makes anything of it as it was chosen.
    """
    given = {name: value for name, value in options.items() if value is not None}
    named: list[Target] = []
    used: set[str] = set()
    for target in named_targets(names):
        known = {own.name: own for own in fields(target.options)}
        own = {name: value for name, value in given.items() if name in known}
        for name, value in own.items():
            kind = bool if isinstance(known[name].default, bool) else str
            if not isinstance(value, kind):
                raise UsageError(f"the option `{name}` takes a {kind.__name__}, not {value!r}")
        settled = type(target.options)(**{**vars(target.options), **own})
        chosen = settled.variations()
        used |= {name for name in own if any(one.uses(name) for one in chosen)}
        named += [target.with_options(one) for one in chosen]
    if foreign := [name for name in given if name not in used]:
        raise _foreign(foreign, named)
    return tuple(named)


def _foreign(names: Sequence[str], named: Sequence[Target]) -> UsageError:
    """What to say of options that nothing which was named uses: those that one target has, in one sentence."""
    every = [(target, own) for target in (*named, *targets().values()) for own in fields(target.options)]
    owner = next((target for target, own in every if own.name == names[0]), None)
    if owner is None:
        known = ", ".join(sorted({own.name for _, own in every}))
        return UsageError(f"unknown option {names[0]!r}; known: {known}")
    for target in named:
        if reason := target.abilities.refused_options.get(names[0]):
            return UsageError(f"`{names[0]}` is refused for {target.title}: {reason}")
    flags = [f"`{own.name}`" for own in fields(owner.options) if own.name in names]
    if owner in named:
        return UsageError(f"{' and '.join(flags)}: of no use to {owner.label}; leave it out")
    verb = "is" if len(flags) == 1 else "are"
    return UsageError(f"{' and '.join(flags)} {verb} {owner.title}'s; add `target='{owner.name}'`")


def names_all(names: tuple[str, ...]) -> bool:
    """Whether `all` is one of the names in such texts."""
    return any(part.casefold() == "all" for part in _parts(names))


def _parts(names: tuple[str, ...]) -> list[str]:
    return [part.strip() for text in names for part in text.split(",")]
