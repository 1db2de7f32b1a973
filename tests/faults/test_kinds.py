"""Every kind of fault in the graph of every target, at every kind of precision: the comparison that `reproduced` makes
finds it and names the operation, and passes what says the same in other words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from faults.files import FILES, Files, levels
from faults.graphs import WORDS, PlantedGraph
from faults.kinds import HARMLESS, KINDS, Kind

from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.graph import Input, Wire, first_difference

CASES = [
    pytest.param(*file, kind, id=f"{'-'.join(file)}-{kind}", marks=levels(*file))
    for file in FILES
    for kind in KINDS
    if kind.stands_in(*file)
]

MARKED = [pytest.param(*file, marks=levels(*file)) for file in FILES]


def once(given: dict[str, object]) -> str:
    """Every kind: which format a graph was read from is nothing to the comparison, and test_reading.py's."""
    return str(given["kind"])


@pytest.mark.once(by=once)
@pytest.mark.parametrize(("target", "tower", "precision", "kind"), CASES)
def test_a_kind_of_fault_is_found_and_its_operation_named(
    files: Files, target: str, tower: TowerName, precision: str, kind: Kind
) -> None:
    healthy = files.graph(target, tower, precision)
    planted = PlantedGraph(target, healthy)
    named = kind.plant(planted)
    difference = first_difference(planted.done(), healthy)
    assert difference is not None
    assert named is None or named in difference.describe()


@pytest.mark.once("edit")
@pytest.mark.parametrize("edit", HARMLESS)
@pytest.mark.parametrize(("target", "tower", "precision"), MARKED)
def test_what_says_the_same_in_other_words_passes(
    files: Files, target: str, tower: TowerName, precision: str, edit: str
) -> None:
    healthy = files.graph(target, tower, precision)
    planted = PlantedGraph(target, healthy)
    HARMLESS[edit](planted)
    assert first_difference(planted.done(), healthy) is None


@pytest.mark.once("target")
@pytest.mark.parametrize(("target", "tower", "precision"), MARKED)
def test_nothing_that_a_graph_says_is_passed_over(files: Files, target: str, tower: TowerName, precision: str) -> None:
    """Each input and setting of one operation of every type, changed alone: that operation is named."""
    healthy, seen, missed = files.graph(target, tower, precision), set[tuple[str, str]](), list[str]()
    for number in PlantedGraph(target, healthy).order:
        node = healthy.nodes[number]
        for name, value in (*node.inputs, *node.settings.items()):
            reordered = isinstance(value, Wire)  # then another operation may come first
            if (node.type, name) in seen:
                continue
            seen.add((node.type, name))
            planted = PlantedGraph(target, healthy)
            planted.nodes[number] = replace(
                node,
                inputs=tuple((one, other(given) if one == name else given) for one, given in node.inputs),
                settings={one: (given, "changed") if one == name else given for one, given in node.settings.items()},
            )
            difference = first_difference(planted.done(), healthy)
            named = None if difference is None or difference.node is None else difference.node.name
            if named is None or not (reordered or named == node.name):
                missed.append(f"{node.type} {node.name}: {name}")
    assert len(seen) > 40
    assert not missed


def other(value: Input) -> Input:
    """Something else in the place of an input."""
    return None if isinstance(value, Wire) else Wire(None, 7)


def test_every_kind_is_planted_and_every_target_and_precision_has_its_own() -> None:
    planted = [case.values for case in CASES]
    assert {str(kind) for *_, kind in planted} == {kind.name for kind in KINDS}
    kinds = {target: {str(kind) for own, *_, kind in planted if own == target} for target in WORDS}
    assert all(len(own) >= 95 for own in kinds.values()), kinds
    assert all(len({str(case[3]) for case in planted if case[:3] == file}) >= 65 for file in FILES)
    assert {name.partition("-iOS")[0] for target, _, name in FILES if target == "coreml"} == {
        *get_target("coreml").abilities.precisions
    }
