"""The cells of a round take turns on the host, each in its own process; what happens to one is none of the others'."""

import io
import os
import sys
import threading
from pathlib import Path

import pytest
from benchmark.documents import job

from mobileclip_deploy.benchmark.host import rounds, worker
from mobileclip_deploy.benchmark.host.rounds import run_round, side_by_side
from mobileclip_deploy.benchmark.job import Turn
from mobileclip_deploy.benchmark.plan import Plan

# Speaks as worker.py does, writes down what it is told, and comes to the end that a file with its name asks for.
STAND_IN = f"""
import os, signal, sys, time
from pathlib import Path
folder, name, number = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
def note(word):
    with (folder / "told.txt").open("a") as told:
        told.write(f"{{name}} {{word}}\\n")
    if (folder / f"{{name}} {{word}}").exists():
        getattr(sys.modules[__name__], (folder / f"{{name}} {{word}}").read_text())()
def dies(): os.kill(os.getpid(), signal.SIGKILL)
def sleeps(): time.sleep(600)
def fails(): sys.exit("no such model")
def chatters(): print("a library's first words", flush=True)
(folder / f"{{name}}.pid").write_text(str(os.getpid()))
note("loads")
word = None
while "--in-turns" in sys.argv and word != "end":
    sys.stdout.write({worker.WAITING!r}); sys.stdout.flush()
    word = (sys.stdin.readline() or sys.exit(1)).strip()
    note(word)
result = {{"run_id": "20261124T180000-0011", "cell": name, "round": int(number), "status": "done", "samples_ns": [7]}}
print(__import__("json").dumps(result))
"""
CELLS = ("executorch-image", "onnx-image")
FIRST = tuple(Turn(cell=name, round=0) for name in CELLS)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Two cells without golden outputs, whose processes are the stand-in."""
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN, encoding="utf-8")
    monkeypatch.setattr(rounds, "WORKER", (str(script),))
    cells = [cell.model_copy(update={"golden": None, "gate": None}).model_dump() for cell in job().cells]
    return Plan(tmp_path, job(cells=cells))


def _told(plan: Plan) -> list[tuple[str, str]]:
    return [(line.split()[0], line.split()[1]) for line in (plan.folder / "told.txt").read_text().splitlines()]


def _ended(plan: Plan, name: str) -> bool:
    """Whether its process is gone, and waited for."""
    try:
        os.kill(int((plan.folder / f"{name}.pid").read_text()), 0)
    except ProcessLookupError:
        return True
    return False


def test_samples_are_taken_side_by_side_once_all_have_loaded(plan: Plan) -> None:
    done = list(run_round(plan, FIRST))
    assert [(one.cell, one.status, one.samples_ns) for one in done] == [(name, "done", (7,)) for name in CELLS]
    told = _told(plan)
    assert told[:2] == [(name, "loads") for name in CELLS]
    windows = [told[start : start + 2] for start in range(2, len(told), 2)]
    assert [{word for _, word in window} for window in windows] == [{"sample"}] * 3 + [{"end"}]
    assert all({name for name, _ in window} == set(CELLS) for window in windows)


def test_their_order_is_the_seeds(plan: Plan) -> None:
    longer = plan.job.model_copy(update={"protocol": plan.job.protocol.model_copy(update={"iterations_per_round": 20})})
    orders = []
    for seed in (11, 11, 12):
        (plan.folder / "told.txt").unlink(missing_ok=True)
        list(run_round(Plan(plan.folder, longer.model_copy(update={"seed": seed})), FIRST))
        orders.append(_told(plan))
    assert orders[0] == orders[1] != orders[2]
    assert {name for name, _ in orders[0][2::2]} == set(CELLS)  # not always the same first


@pytest.mark.parametrize(
    ("moment", "end", "said"),
    [
        ("loads", "dies", "the process was ended by SIGKILL (out of memory?)"),
        ("loads", "fails", "the process ended with code 1: no such model"),
        ("loads", "chatters", "the process ended with code 1: nothing was printed"),
        ("sample", "dies", "the process was ended by SIGKILL (out of memory?)"),
        ("sample", "sleeps", "no answer within 3 s; the process was ended"),
        ("end", "fails", "the process ended with code 1: no such model"),
    ],
)
def test_one_that_ends_is_told_of_and_the_other_goes_on(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, moment: str, end: str, said: str
) -> None:
    monkeypatch.setattr(rounds, "PATIENCE_SECONDS", 3 if end == "sleeps" else 60)
    (plan.folder / f"onnx-image {moment}").write_text(end)
    other, ended = run_round(plan, FIRST)
    assert (ended.status, ended.error) == ("failed", said)
    assert (other.status, other.samples_ns) == ("done", (7,))
    assert _told(plan).count(("executorch-image", "sample")) == 3
    assert _ended(plan, "onnx-image")


def test_a_round_of_one_cell_takes_its_samples_without_being_told(plan: Plan) -> None:
    (done,) = run_round(plan, FIRST[:1])
    assert done.status == "done"
    assert _told(plan) == [("executorch-image", "loads")]


def test_an_interruption_leaves_no_process_and_nothing_to_wait_for(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    say = rounds._Process.say

    class Interrupted:
        def readline(self) -> str:
            raise KeyboardInterrupt

    def interrupted(process: rounds._Process, word: str) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(process._running, "stdout", Interrupted())
            say(process, word)

    monkeypatch.setattr(rounds._Process, "say", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(run_round(plan, FIRST))
    assert all(_ended(plan, name) for name in CELLS)
    # One that still ran down would keep this process from ending, for a quarter of an hour.
    assert not [one for one in threading.enumerate() if isinstance(one, threading.Timer) and not one.finished.is_set()]


def test_cells_are_side_by_side_as_far_as_memory_goes_and_in_one_round(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = plan.job.order
    assert side_by_side(plan, order) == order[:2]
    assert side_by_side(plan, order[1:]) == order[1:2]
    one = rounds.PROCESS_BYTES + rounds.COPIES * 1000
    monkeypatch.setattr(rounds, "memory_bytes", lambda: 2 * (2 * one - 1))
    assert side_by_side(plan, order) == order[:1]
    monkeypatch.setattr(rounds, "memory_bytes", lambda: 2 * (2 * one))
    assert side_by_side(plan, order) == order[:2]
    monkeypatch.setattr(rounds, "memory_bytes", lambda: 0)
    assert side_by_side(plan, order) == order[:1]


def test_a_worker_runs_once_before_each_sample_and_ends_when_its_driver_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Counted:
        runs = 0

        def run(self) -> None:
            self.runs += 1

    def ends(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(sys, "stdin", io.StringIO("sample\nsample\n"))
    monkeypatch.setattr(os, "_exit", ends)
    said, session = io.StringIO(), Counted()
    samples = worker._told(said, session)  # type: ignore[arg-type]
    assert [next(samples), next(samples)] == [None, None]
    assert (said.getvalue(), session.runs) == (2 * worker.WAITING, 2)
    with pytest.raises(SystemExit):
        next(samples)
