"""How fast `reinforce` stores what a teacher says, on one worker and on two, and what 12 million samples would cost.

    python benchmarks/reinforcement_throughput.py --teacher builtin
    python benchmarks/reinforcement_throughput.py --teacher mobileclip_s0.pt --shard 4 --add

Every worker is a process of one thread of a Dask cluster on this machine. A first shard for each worker is made before
anything is measured, so that loading is not. Counted are seconds and the CPU seconds of the workers: where a machine
does other work too, only the latter mean something, and the former are given beside them. Writes
benchmarks/results/reinforcement_throughput.json and the block in docs/figures/training.md. A minute for nano; larger
teachers are given smaller shards.
"""

import argparse
import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from measuring import ROOT, Figures, markdown

import mobileclip_deploy as mcd
from mobileclip_deploy.evaluation.pairs import read_pairs
from mobileclip_deploy.training.reinforcement.building import ReinforcementSettings, reinforce
from mobileclip_deploy.training.reinforcement.teachers import Teacher

KEPT = Figures("reinforcement_throughput", "figures/training.md")
HELD_OUT = ROOT / "models" / "nano" / "evaluation"
SHARDS, AUGMENTATIONS, MILLIONS = 6, 4, 12


def measure(teacher: str, workers: int, shard: int) -> dict[str, Any]:
    import psutil
    from distributed import Client, LocalCluster

    model = mcd.load_model(None, None if teacher == "builtin" else teacher)
    pairs = read_pairs(HELD_OUT)
    pairs = replace(pairs, rows=pairs.rows[: SHARDS * shard])
    settings = ReinforcementSettings(augmentations=AUGMENTATIONS, shard_rows=shard)
    folder = Path(tempfile.mkdtemp(prefix="throughput-"))
    place = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "threads_per_worker": 1}
    try:
        with LocalCluster(n_workers=workers, **place) as cluster, Client(cluster) as client:
            pids = list(client.run(os.getpid).values())

            def spent() -> float:
                times = [psutil.Process(pid).cpu_times() for pid in pids]
                return sum(one.user + one.system for one in times)

            marks: list[tuple[float, float, int]] = []

            def progress(text: str) -> None:
                done = int(text.split()[0]) if " done, " in text else 0
                if done >= workers and (not marks or done > marks[-1][2]):
                    marks.append((time.monotonic(), spent(), done))

            teachers = [Teacher.of(model)]
            reinforce(pairs, teachers, folder / "out", settings, progress, scheduler=str(cluster.scheduler_address))
            marks.append((time.monotonic(), spent(), SHARDS))
    finally:
        shutil.rmtree(folder)
    (began, used, first), (ended, all_used, last) = marks[0], marks[-1]
    samples = (last - first) * shard
    return {
        "teacher": teachers[0].entry.variant,
        "workers": workers,
        "samples": samples,
        "seconds": ended - began,
        "cpu_seconds": all_used - used,
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{AUGMENTATIONS} augmentations and one caption a sample, one teacher, workers of one thread:",
        "",
    ]
    heads = ("teacher", ">workers", ">samples a CPU second", ">samples a second", ">12M samples, core hours")
    told = []
    for row in rows:
        rate = row["samples"] / row["cpu_seconds"]
        hours = MILLIONS * 1e6 / rate / 3600
        wall = row["samples"] / row["seconds"]
        told.append([row["teacher"], str(row["workers"]), f"{rate:.2f}", f"{wall:.2f}", f"{hours:,.0f}"])
    return "\n".join(lines + markdown(heads, told))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--teacher", action="append", required=True)
    parser.add_argument("--shard", type=int, default=16, help="pairs in each of six shards; all but the first count")
    parser.add_argument("--add", action="store_true", help="to the teachers that were measured before")
    asked = parser.parse_args()
    rows = KEPT.read() if asked.add else []
    rows += [measure(teacher, workers, asked.shard) for teacher in asked.teacher for workers in (1, 2)]
    KEPT.write(rows)
    KEPT.show(table(rows))


if __name__ == "__main__":
    main()
