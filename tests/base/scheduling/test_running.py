"""Tasks give the same here and on Dask; an error keeps its type and text; a bad scheduler is one line."""

import importlib.util
import math
from typing import Any

import pytest
from command_line import refusal, run

from mobileclip_deploy.base.scheduling import Failed, Task, check_scheduler, run_tasks
from mobileclip_deploy.base.scheduling.tasks import perform
from mobileclip_deploy.errors import DependencyMissing, InvalidInput, MobileClipDeployError, UsageError


class Told:
    """How tasks ended, by their names."""

    def __init__(self) -> None:
        self.ends: dict[str, Any] = {}

    def __call__(self, task: Task, result: Any) -> None:
        self.ends[task.name] = result


def roots(count: int) -> list[Task]:
    return [Task(f"root {number}", math.isqrt, (number,), 0) for number in range(count)]


def test_tasks_are_done_here_one_after_another() -> None:
    told, said = Told(), list[str]()
    run_tasks(roots(3), told, progress=said.append)
    assert told.ends == {"root 0": 0, "root 1": 1, "root 2": 1}
    assert said == ["root 0", "root 1", "root 2"]


def test_after_a_failure_no_other_is_begun_unless_it_is_to_go_on() -> None:
    tasks = [Task("bad", check_scheduler, ("nowhere",), 0), *roots(1)]
    told, going = Told(), Told()
    run_tasks(tasks, told)
    run_tasks(tasks, going, go_on=True)
    assert list(told.ends) == ["bad"]
    assert isinstance(told.ends["bad"].error, UsageError)
    assert list(going.ends) == ["bad", "root 0"]


def test_an_error_keeps_its_type_its_text_or_its_place() -> None:
    refused = perform(Task("bad", check_scheduler, ("nowhere",), 0))
    error = refused.failed().error
    assert isinstance(error, UsageError)
    assert error.exit_code == 2
    assert error.line.startswith("`scheduler` 'nowhere' is not a scheduler; give local, or the address of Dask's")
    error = perform(Task("root -1", math.isqrt, (-1,), 0)).failed().error
    assert error.exit_code == 3
    assert error.line.startswith("root -1: ValueError: isqrt() argument must be nonnegative (tasks.py:")
    failed = Failed(InvalidInput("a.png is no image"))
    assert isinstance(failed.error, MobileClipDeployError)
    assert failed.error.exit_code == 2


@pytest.mark.parametrize("words", [("reinforce", "nowhere"), ("sweep", "nowhere.toml")])
def test_a_scheduler_without_tls_is_refused_unless_the_user_wants_it(words: tuple[str, ...]) -> None:
    address = ("--scheduler", "tcp://10.0.0.1:8786", "-o", "never")
    line = refusal(run(*words, *address))
    assert line.startswith("error: the scheduler tcp://10.0.0.1:8786 has no TLS")
    assert "--insecure-scheduler" in line
    for more in (("--insecure-scheduler",), ("--scheduler", "tls://10.0.0.1:8786")):
        assert "nowhere" in refusal(run(*words, *address, *more))


@pytest.mark.parametrize("scheduler", ["locally", "10.0.0.1:8786", "tcp://", "http://10.0.0.1:8786", "tcp://host:x"])
def test_what_is_no_scheduler_is_refused(scheduler: str) -> None:
    outcome = run("reinforce", "nowhere", "--scheduler", scheduler, "-o", "never")
    assert "--scheduler" in refusal(outcome)
    assert "give local, or the address of Dask's" in refusal(outcome)


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "distributed" else find(name))
    outcome = run("reinforce", "nowhere", "--scheduler", "local", "-o", "never")
    assert refusal(outcome) == (
        "error: --scheduler needs Dask, which is not installed; type: pip install 'mobileclip-deploy[scale]'"
    )
    with pytest.raises(DependencyMissing):
        check_scheduler("tcp://10.0.0.1:8786")
