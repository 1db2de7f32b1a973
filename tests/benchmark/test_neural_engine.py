"""The Neural Engine verdict follows from figures, and never says more than they do."""

from typing import Any

import pytest
from benchmark import documents

from mobileclip_deploy.benchmark.neural_engine import (
    NeuralEngineUse,
    neural_engine_use,
    operations_elsewhere,
    planned_placement,
)
from mobileclip_deploy.benchmark.report.table import remarks
from mobileclip_deploy.benchmark.report.writing import html_page, markdown_page
from mobileclip_deploy.benchmark.result import PlannedOperation, Result, RoundResult
from mobileclip_deploy.benchmark.statistics import summarize
from mobileclip_deploy.targets.mil.lint.report import Finding, LintedOperation, LintReport, RuleText

UNITS = ("cpuOnly", "cpuAndNeuralEngine")


def sweep(cpu_ns: int, engine_ns: int, placement: list[dict[str, Any]], simulated: bool = False) -> Result:
    """One file on two sets of compute units."""
    cells = [
        documents.cell(units, "coreml") | {"compute_units": units, "file": "models/nano.mlpackage"} for units in UNITS
    ]
    order = [{"cell": units, "round": number} for units in UNITS for number in range(2)]
    job = documents.job(cells=cells, order=order)
    found = []
    for units, time in zip(UNITS, (cpu_ns, engine_ns), strict=True):
        summary = summarize([[time] * 10], [None], 0.1).model_dump(mode="json")
        measured = {"run_id": job.run_id, "cell": units, "round": 0, "status": "done", "samples_ns": [time] * 10}
        found.append({"id": units, "status": "done", "summary": summary, "rounds": [measured]})
    found[1]["placement"] = placement
    values = documents.result().model_dump(mode="json")
    values |= {"run_id": job.run_id, "job": job.model_dump(mode="json"), "cells": found}
    values["device"] |= {"kind": "ios", "simulated": simulated}
    return Result.model_validate(values)


def plan(engine: int, cpu: int, cost: float | None) -> list[dict[str, Any]]:
    return [
        {"unit": "neuralEngine", "operations": engine, "cost_share": cost},
        {"unit": "cpu", "operations": cpu, "cost_share": None if cost is None else 1 - cost},
    ]


def evidence(result: Result) -> NeuralEngineUse:
    (found,) = neural_engine_use(result)
    return found


@pytest.mark.parametrize(
    ("cpu_ns", "engine_ns", "placement", "verdict"),
    [
        (9_000_000, 1_500_000, plan(120, 11, 0.98), "evidence that it runs"),
        (9_000_000, 1_500_000, plan(120, 0, None), "evidence that it runs"),
        (9_000_000, 9_000_000, plan(120, 11, 0.98), "does not run"),
        (9_000_000, 1_500_000, plan(2, 100, 0.02), "does not run"),
        (9_000_000, 5_000_000, plan(60, 60, 0.5), "mixed"),
        (9_000_000, 1_500_000, [], "no verdict"),
    ],
    ids=["planned and fast", "no costs", "planned and slow", "not planned", "half", "no plan"],
)
def test_the_verdict_needs_the_plan_and_the_ratio(
    cpu_ns: int, engine_ns: int, placement: list[dict[str, Any]], verdict: str
) -> None:
    assert verdict in evidence(sweep(cpu_ns, engine_ns, placement)).verdict


def test_the_figures_stand_before_the_verdict_and_the_plan_is_told_for_each_set_of_compute_units() -> None:
    result = sweep(9_000_000, 1_500_000, plan(120, 11, 0.98))
    found = evidence(result)
    assert "98% of the cost (120 of 131 operations)" in found.text
    assert "6.00 times as fast as cpuOnly" in found.text
    assert found.text in [text for _, text in remarks(result)]
    ((_, text),) = planned_placement(result)
    assert text == "planned placement: cpuAndNeuralEngine: neuralEngine 120 (98%), cpu 11 (2%)"


def test_operations_that_leave_are_named_with_what_lint_finds_of_them() -> None:
    result = sweep(9_000_000, 1_500_000, plan(2, 3, 0.9))
    planned = [PlannedOperation(name=f"conv_{index}", operator="ios18.conv", unit="neuralEngine") for index in range(2)]
    planned += [PlannedOperation(name=f"token_{n}", operator="ios18.gather", unit="cpu", cost=0.01) for n in range(4)]
    planned.append(PlannedOperation(name="sum", operator="ios18.add", unit="cpu"))
    rounds = (RoundResult(run_id=result.run_id, cell=UNITS[1], round=0, status="failed", operations=tuple(planned)),)
    cells = (result.cells[0], result.cells[1].model_copy(update={"rounds": rounds}))
    result = result.model_copy(update={"cells": cells})
    names = "gather token_0, gather token_1, gather token_2 and 1 more"
    assert [text for _, text in operations_elsewhere(result)] == [
        f"5 operations ({names.replace('1 more', '2 more')}), 4.0% of the predicted cost, fall to the CPU"
    ]
    gather = [
        LintedOperation(
            name=f"token_{n}",
            type="gather",
            status="leaves",
            weight_bytes=0,
            findings=(Finding(rule="gather", level="leaves", detail="computed indices"),),
        )
        for n in range(4)
    ]
    report = LintReport(
        package="nano.mlpackage",
        function="main",
        device="a14",
        evaluated=False,
        operations=(*gather, LintedOperation(name="sum", type="add", status="ready", weight_bytes=0)),
        package_findings=(),
        switches=1,
        rules=(
            RuleText(name="gather", level="leaves", text="A lookup by computed indices runs on the CPU", sources={}),
        ),
    )
    because = "because of: gather (A lookup by computed indices runs on the CPU)"
    told = [text for _, text in operations_elsewhere(result, [report])]
    assert told == [
        f"4 operations ({names}), 4.0% of the predicted cost, fall to the CPU, {because}",
        "1 operation (add sum) falls to the CPU; no rule of `lint` explains it",
    ]
    for page in (html_page([result], [report]), markdown_page([result], [report])):
        assert because in page


def test_a_stand_in_is_no_evidence_and_other_runtimes_have_none() -> None:
    result = sweep(9_000_000, 1_500_000, plan(120, 11, 0.98), simulated=True)
    ((_, text),) = planned_placement(result)
    assert text.startswith("planned placement (SIMULATED): ")
    assert evidence(result).verdict == "SIMULATED, so no evidence of anything"
    assert neural_engine_use(documents.result()) == ()


@pytest.mark.parametrize(
    ("share", "speedup", "says"),
    [
        (0.9, 1.5, "evidence that it runs"),
        (0.9, 1.49, "mixed"),
        (0.89, 1.5, "mixed"),
        (0.1, 9, "does not run"),
        (0.11, 1.11, "mixed"),
        (0.99, 1.1, "does not run"),
    ],
)
def test_where_the_verdict_on_the_neural_engine_turns(share: float, speedup: float, says: str) -> None:
    assert says in NeuralEngineUse("a", share, (1, 2), speedup, by_cost=True, simulated=False).verdict
