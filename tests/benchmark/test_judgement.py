"""What a round's cores say against its figures."""

from typing import Any

import pytest
from benchmark import documents

from mobileclip_deploy.benchmark.assembly import assemble
from mobileclip_deploy.benchmark.job import Job
from mobileclip_deploy.benchmark.judgement import cell_warnings, marked, run_warnings
from mobileclip_deploy.benchmark.result import CoreUse, Result, RoundResult, Summary
from mobileclip_deploy.benchmark.statistics import summarize

LITTLE, BIG = 1_800_000, 2_900_000
CAPPED = "capped: core 7 was allowed 2.0 GHz of 2.9 GHz in the requested fixed performance mode"


def core(number: int, maximum: int = BIG, *, allowed: int | None = None, running: int | None = None) -> CoreUse:
    return CoreUse(
        core=number,
        inferences=30,
        running_khz=running or allowed or maximum,
        allowed_khz=allowed or maximum,
        maximum_khz=maximum,
    )


@pytest.mark.parametrize(
    ("cores", "pinned", "fixed", "said"),
    [
        ((core(6), core(7)), (6, 7), False, ()),
        ((CoreUse(core=7, inferences=30),), (), False, ()),  # an emulator tells no clocks
        ((core(0, LITTLE), core(7)), (), False, ("mixed cores: ran on 2 kinds, of 1.8 GHz and 2.9 GHz",)),
        ((core(3, LITTLE),), (7,), False, ("not pinned: ran on core 3, and should have on 7",)),
        ((core(7, allowed=2_000_000),), (7,), False, ("throttled: core 7 was allowed 2.0 GHz of 2.9 GHz",)),
        ((core(7, allowed=2_000_000),), (7,), True, (CAPPED,)),
        ((core(7, running=1_400_000),), (7,), False, ("slow clock: core 7 ran at 1.4 GHz of 2.9 GHz",)),
    ],
)
def test_a_round_on_other_cores_or_clocks_than_the_best_is_marked(
    cores: tuple[CoreUse, ...], pinned: tuple[int, ...], fixed: bool, said: tuple[str, ...]
) -> None:
    finished = RoundResult(run_id="r", cell="c", round=0, status="done", samples_ns=(1,), cores=cores)
    found = marked(finished, pinned, fixed)
    assert found.warnings == said
    assert marked(found, pinned, fixed) == found


DONE = tuple(
    RoundResult(run_id="r", cell="c", round=number, status="done", samples_ns=(1000,) * 20) for number in range(5)
)


def warned(job: Job | None = None, rounds: tuple[RoundResult, ...] = DONE, **changes: Any) -> list[str]:
    """The first words of what is said of a hundred equal samples, with some figures changed."""
    base = summarize([[1000] * 100], [100_000], 0.1)
    summary = Summary.model_validate(base.model_dump() | changes)
    return [text.partition(":")[0] for text in cell_warnings((job or documents.job()).cells[0], summary, rounds)]


def test_warnings_come_where_the_table_says() -> None:
    assert warned() == []
    assert warned(last_over_first=1.1) == []
    assert warned(last_over_first=1.11) == ["trend"]
    assert warned(median_interval_ns={"low": 950.0, "high": 1051.0}) == ["uncertain"]
    assert warned(median_interval_ns={"low": 951.0, "high": 1050.0}) == []
    assert warned(samples=99) == ["few samples"]
    assert warned(cpu_ns=1000 / 1.19) == []
    assert warned(cpu_ns=1000 / 1.21) == ["waited"]
    for state, said in (("fair", []), ("serious", ["throttled"]), ("critical", ["throttled"])):
        hot = RoundResult(run_id="r", cell="c", round=0, status="done", samples_ns=(1,), thermal_state=state)  # type: ignore[arg-type]
        assert warned(rounds=(hot, *DONE[1:])) == said
    assert warned(rounds=DONE[:4]) == ["few rounds"]
    unchecked = [cell.model_dump(mode="json") | {"golden": None, "gate": None} for cell in documents.job().cells]
    assert warned(documents.job(cells=unchecked)) == ["answers not checked"]


@pytest.mark.parametrize(
    ("precision", "gate", "said"),
    [
        ("fp32", {"metric": "relative", "bound": 1e-4}, []),
        ("fp32", {"metric": "relative", "bound": 1e-2}, ["loosened gate"]),
        ("fp32", {"metric": "relative", "bound": 1e-6}, ["own gate"]),
        ("fp32", {"metric": "cosine", "bound": 0.999, "snr_db": 10.0}, []),  # of a place that computes in float16
        ("w8", {"metric": "cosine", "bound": 0.99, "snr_db": 10.0}, []),
        ("w8", {"metric": "cosine", "bound": 0.5, "snr_db": 10.0}, ["loosened gate"]),
        ("w8", {"metric": "cosine", "bound": 0.99, "snr_db": -50.0}, ["loosened gate"]),
        ("w8", {"metric": "cosine", "bound": 0.9999, "snr_db": 10.0}, ["own gate"]),
        ("w8", {"metric": "probabilities", "bound": 0.1}, []),
        (None, {"metric": "cosine", "bound": 0.5}, []),  # a file of others
    ],
)
def test_a_gate_that_is_not_the_default_is_told(precision: str | None, gate: dict[str, Any], said: list[str]) -> None:
    cells = [one.model_dump(mode="json") | {"precision": precision, "gate": gate} for one in documents.job().cells]
    assert warned(documents.job(cells=cells)) == said


def test_what_is_said_of_a_run_as_a_whole() -> None:
    assert run_warnings(stated(load_average_1min=0.0, battery_percent=20.0, low_power_mode=False)) == (QUICK_RUN,)
    for changes, word in (
        ({"load_average_1min": 99.0}, "busy"),
        ({"battery_percent": 19.0}, "battery"),
        ({"low_power_mode": True}, "low-power mode"),
        ({"governor": "powersave"}, "CPU governor"),
    ):
        assert [text for text in run_warnings(stated(**changes)) if text.startswith(word)], word
    broken_off = stated()
    environment = broken_off.environment.model_copy(update={"after": None})
    assert any(
        "interrupted" in text for text in run_warnings(broken_off.model_copy(update={"environment": environment}))
    )
    lacking = broken_off.model_copy(update={"left_out": ("b: coreml does not run here",)})
    assert "left out: b: coreml does not run here" in run_warnings(lacking)
    assert lacking.model_dump(mode="json")["left_out"] == ["b: coreml does not run here"]


QUICK_RUN = "quick: a smoke test of few inferences; not to be quoted"


def stated(**changes: Any) -> Result:
    """A whole result of a real device whose state before and after was this."""
    result = documents.result()
    state = result.environment.before.model_copy(update={"load_average_1min": 0.0, "battery_percent": 90.0} | changes)
    environment = result.environment.model_copy(update={"before": state, "after": state})
    device = result.device.model_copy(update={"simulated": False})
    cells = tuple(cell.model_copy(update={"status": "done"}) for cell in result.cells)
    return result.model_copy(update={"environment": environment, "device": device, "cells": cells})


def test_a_round_of_no_time_fails_its_cell_and_ends_nothing() -> None:
    sent = documents.sent()
    first, *others = sent.rounds
    wrong = first.model_copy(update={"samples_ns": (2_000_000, 0, 0), "cpu_ns": 0})
    cell = assemble(sent.model_copy(update={"rounds": (wrong, *others)})).cells[0]
    assert (cell.status, cell.error) == ("failed", "sample 1 took 0 ns, which is impossible")
    assert cell.summary is None
    assert cell.rounds[0].samples_ns == wrong.samples_ns
    assert cell.rounds[1] == others[0]
