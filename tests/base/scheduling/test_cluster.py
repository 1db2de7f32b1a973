"""On Dask: the same results, memory that is kept to, lost workers and schedulers, all told in one line."""

import contextlib
import math
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from emoji_pairs import write_pairs
from planted import inside, plant, ran

import mobileclip_deploy as mcd
from mobileclip_deploy.base.files import read_json
from mobileclip_deploy.base.files.staging import TEMPORARY
from mobileclip_deploy.base.scheduling import Failed, Task, require_scheduler, run_tasks
from mobileclip_deploy.errors import InvalidInput, RuntimeFailed, UsageError

dask = pytest.importorskip("dask", reason="needs Dask: pip install 'mobileclip-deploy[scale]'")
distributed = pytest.importorskip("distributed", reason="needs Dask: pip install 'mobileclip-deploy[scale]'")
from mobileclip_deploy.base.scheduling import cluster as scheduling  # noqa: E402

GB = 10**9


@pytest.fixture(autouse=True)
def whatever_this_process_holds() -> Iterator[None]:
    """Workers that are threads of this process have its memory, which grows from test to test."""
    with dask.config.set(scheduling.NO_PAUSES):
        yield


def _cluster(workers: int, **options: Any) -> Any:
    """A scheduler whose workers are threads of this process."""
    place = {"protocol": "tcp", "host": "127.0.0.1", "dashboard_address": None}
    return distributed.LocalCluster(n_workers=workers, processes=False, **place, **options)


@pytest.fixture
def address() -> Iterator[str]:
    """A scheduler with two workers, as threads of this process."""
    with scheduling._quiet(), _cluster(2, memory_limit=4 * GB, threads_per_worker=1) as made:
        yield made.scheduler_address


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_every_task_is_done_once_and_progress_says_how_many_are_left(address: str, tmp_path: Path) -> None:
    tasks = [Task(f"root {number}", math.isqrt, (number,), GB) for number in range(9)]
    tasks.insert(4, Task("missing", read_json, (tmp_path,), GB))
    ends: list[tuple[str, Any]] = []
    said: list[str] = []
    run_tasks(tasks, lambda task, end: ends.append((task.name, end)), address, go_on=True, progress=said.append)
    assert len(ends) == 10
    found = dict(ends)
    failed = found.pop("missing")
    assert found == {f"root {number}": math.isqrt(number) for number in range(9)}
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, InvalidInput)
    assert failed.error.line == f"{tmp_path} is not a regular file"
    assert re.fullmatch(r"0 of 10 done, 0 failed, [12] running, [89] left \([12] processes\)", said[0])


def test_a_failure_ends_what_is_not_to_go_on(address: str, tmp_path: Path) -> None:
    bad = [Task(f"bad {number}", read_json, (tmp_path,), 3 * GB) for number in range(8)]
    ends: list[str] = []
    run_tasks(bad, lambda task, _: ends.append(task.name), address)
    assert 1 <= len(ends) <= 2  # two run at once


def where() -> str:
    """The name of the worker that runs this."""
    return str(distributed.get_worker().name)


def test_a_large_task_goes_where_its_memory_is() -> None:
    with scheduling._quiet(), _cluster(1, memory_limit=GB) as made:
        options = made.new_spec["options"] | {"memory_limit": 4 * GB}
        made.new_spec = made.new_spec | {"options": options}
        made.scale(2)
        made.wait_for_workers(2)
        ends: list[tuple[str, Any]] = []
        tasks = [Task(name, where, (), size * GB) for name, size in (("three", 3), ("two", 2), ("half", 0))]
        run_tasks(tasks, lambda task, end: ends.append((task.name, end)), made.scheduler_address)
    found = dict(ends)
    assert found["three"] == found["two"] == "1"
    assert found["half"] in ("0", "1")


def test_a_worker_of_another_version_is_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = iter(["1.0"])
    monkeypatch.setattr(metadata, "version", lambda _: next(ours, "0.9"))
    with pytest.raises(RuntimeFailed, match=r"the worker tcp://\S+ has mobileclip-deploy 0\.9, but this is 1\.0"):
        require_scheduler(address)


def test_a_task_that_fits_nowhere_is_refused_before_any_is_begun(address: str) -> None:
    tasks = [Task("small", math.isqrt, (1,), GB), Task("large", math.isqrt, (1,), 5 * GB)]
    with pytest.raises(
        UsageError, match=r"large needs 5\.0 GB of memory, but a process can have [34]\.\d GB; free some"
    ):
        run_tasks(tasks, lambda *_: pytest.fail("begun"), address)


def test_a_task_whose_process_dies_too_often_has_failed_and_the_others_are_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(scheduling, "DEATHS", 1)
    tasks = [Task("dying", os._exit, (9,), GB // 10), Task("living", math.isqrt, (4,), GB // 10)]
    ends: dict[str, Any] = {}
    environment = dict(os.environ)
    with inside(plant(tmp_path)):
        run_tasks(tasks, lambda task, end: ends.update({task.name: end}), "local", go_on=True)
    assert ran(tmp_path) == ""
    assert dict(os.environ) == environment  # Dask sets the numbers of threads of its processes there
    assert ends["living"] == 2
    assert ends["dying"].error.line == (
        "dying: its process ended 1 times, killed or crashed; it was expected to need 0.1 GB; give it more memory"
    )


def test_a_process_without_the_keys_of_the_run_gets_no_answer(tmp_path: Path) -> None:
    import psutil

    with inside(tmp_path), scheduling.connected([Task("one", math.isqrt, (1,), GB // 10)], "local") as client:
        address = str(client.scheduler.address)
        workers = client.scheduler_info(n_workers=-1)["workers"]
        assert {where.partition(":")[0] for name, one in workers.items() for where in (name, one["nanny"])} == {"tls"}
        assert client.submit(os.getpid).result(timeout=60) != os.getpid()
        (folder,) = {one["local_directory"] for one in workers.values()}
        scratch = next(path for path in Path(folder).parents if TEMPORARY in path.name)
        assert scratch.stat().st_mode & 0o777 == 0o700
        ours = psutil.Process()
        for process in (ours, *ours.children(recursive=True)):
            assert "PRIVATE KEY" not in " ".join((*process.cmdline(), *process.environ().values()))
            for one in process.net_connections():
                if one.status == psutil.CONN_LISTEN:
                    assert one.laddr.ip == "127.0.0.1"
                    paths = ("/", "/health", "/info/main/workers.html", "/metrics", "/json/counts.json")
                    assert {plain_answer(one.laddr.port, path) for path in paths} <= {b"", b"HTTP/1.1 404"}
        with pytest.raises(OSError, match=r"Timed out|reset|handshake|certificate|TLS"):
            distributed.Client(address, security=distributed.Security.temporary(), timeout=3, set_as_default=False)
        with pytest.raises(OSError, match=r"Timed out|reset"):
            distributed.Client(address.replace("tls", "tcp"), timeout=3, set_as_default=False)


def plain_answer(port: int, path: str) -> bytes:
    """How the answer of a port to plain text begins; an alert of TLS is none."""
    with socket.create_connection(("127.0.0.1", port), 5) as one, contextlib.suppress(ConnectionResetError):
        one.settimeout(5)
        one.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = one.recv(12)
        return b"" if answer[:1] == b"\x15" else answer
    return b""


def test_a_scheduler_with_tls_needs_certificates() -> None:
    with pytest.raises(UsageError, match="needs certificates; name them in Dask's configuration"):
        require_scheduler("tls://127.0.0.1:8786")


def test_a_scheduler_that_is_lost_is_told(tmp_path: Path) -> None:
    with scheduling._quiet(), _cluster(1) as made:
        tasks = [Task(f"wait {number}", time.sleep, (0.2,), 0) for number in range(500)]
        closing = threading.Thread(target=made.close)
        ends: list[str] = []

        def told(task: Task, _: object) -> None:
            ends.append(task.name)
            if len(ends) == 2:
                closing.start()

        with pytest.raises(RuntimeFailed, match=r"was lost; repeat the same command, which resumes"):
            run_tasks(tasks, told, made.scheduler_address)
        closing.join()
    assert 2 <= len(ends) < 500


def test_nothing_is_written_where_no_scheduler_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "ANSWERS", 1.0)
    where = f"tcp://127.0.0.1:{free_port()}"
    pairs = write_pairs(tmp_path / "pairs", 2)
    with pytest.raises(RuntimeFailed, match=f"no Dask scheduler responds at {where}; start one with `dask scheduler`"):
        mcd.reinforce(pairs, mcd.load_model(), tmp_path / "made", scheduler=where, insecure_scheduler=True)
    assert not (tmp_path / "made").exists()


def test_a_scheduler_without_workers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "APPEARS", 0.2)
    told = r"has no workers; start some with `dask worker tcp://127\.0\.0\.1"
    with scheduling._quiet(), _cluster(0) as made, pytest.raises(RuntimeFailed, match=told):
        run_tasks([Task("one", math.isqrt, (1,), 0)], lambda *_: None, made.scheduler_address)
