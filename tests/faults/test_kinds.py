"""Every kind of fault in the graph of every target: the comparison that `reproduced` makes finds it and names the
operation, and passes what says the same in other words."""

from dataclasses import replace

import pytest
from faults.files import FILES, QUICK, Files
from faults.graphs import WORDS, PlantedGraph
from faults.kinds import HARMLESS, KINDS, Kind

from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.graph import Input, Wire, first_difference

# The comparison does not depend on the format that a graph was read from (test_reading.py tests that), so each kind is
# planted in one file here. benchmarks/planted.py plants every kind in every file.
FIRST = {kind: next(file for file in QUICK if kind.stands_in(*file)) for kind in KINDS}


def missed(files: Files, target: str, tower: TowerName, precision: str, kind: Kind) -> str | None:
    """What is wrong where the comparison does not find a kind of fault in a file, or does not name its operation."""
    healthy = files.graph(target, tower, precision)
    planted = PlantedGraph(target, healthy)
    named = kind.plant(planted)
    difference = first_difference(planted.done(), healthy)
    if difference is None:
        return f"{kind}: not found"
    told = difference.describe()
    return None if named is None or named in told else f"{kind}: {named} is not named: {told}"


@pytest.mark.parametrize("kind", KINDS, ids=[f"{'-'.join(FIRST[kind])}-{kind}" for kind in KINDS])
def test_a_kind_of_fault_is_found_and_its_operation_named(files: Files, kind: Kind) -> None:
    assert missed(files, *FIRST[kind], kind) is None


@pytest.mark.once("edit")
@pytest.mark.parametrize("edit", HARMLESS)
@pytest.mark.parametrize(("target", "tower", "precision"), QUICK)
def test_what_says_the_same_in_other_words_passes(
    files: Files, target: str, tower: TowerName, precision: str, edit: str
) -> None:
    healthy = files.graph(target, tower, precision)
    planted = PlantedGraph(target, healthy)
    HARMLESS[edit](planted)
    assert first_difference(planted.done(), healthy) is None


@pytest.mark.once("target")
@pytest.mark.parametrize(("target", "tower", "precision"), QUICK)
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
    return None if isinstance(value, Wire) else Wire(None, 7)


def test_every_target_and_precision_has_its_own_kinds() -> None:
    kinds = {
        target: {str(kind) for file in FILES if file[0] == target for kind in KINDS if kind.stands_in(*file)}
        for target in WORDS
    }
    assert all(len(own) >= 95 for own in kinds.values()), kinds
    assert {name.partition("-iOS")[0] for target, _, name in FILES if target == "coreml"} == {
        *get_target("coreml").capabilities.storing.precisions
    }
