"""The plan of a measurement: a job, the folder of its files, and the answers that it expects."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mobileclip_deploy.base.files import file_sha256
from mobileclip_deploy.benchmark.answers import Expected, judge
from mobileclip_deploy.benchmark.documents import append, outstanding, parse_document, read_stream, write_document
from mobileclip_deploy.benchmark.job import Job, Turn, weights_beside
from mobileclip_deploy.benchmark.result import Device, Environment, Harness, RoundResult, Run, Snapshot

ROUNDS_BYTES = 64 << 20
"""Bytes of all rounds without their answers: eight million samples and their names."""


@dataclass(frozen=True)
class Plan:
    """A folder with everything that the job names, some of it as links; `profile` asks for operator times as well.

    `versions`: of a runtime, those that the bundles of the job were proven with. `expected` is in
    none of its files. The folder keeps the stream of finished rounds too, so that an interrupted run goes on from it.
    """

    folder: Path
    job: Job
    profile: bool = False
    versions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    expected: Expected = field(default_factory=dict)

    @property
    def proven(self) -> dict[str, frozenset[str]]:
        """Every runtime of the job, and the versions that bundles were proven with; none where no bundle says."""
        return {cell.runtime: self.versions.get(cell.runtime, frozenset()) for cell in self.job.cells}

    @property
    def stream(self) -> Path:
        """Where finished rounds go, one per line."""
        return self.folder / f"{self.job.run_id}.rounds.jsonl"

    @property
    def files(self) -> dict[str, Path]:
        """Every file that the job names, by its path in the folder: packages file by file, weights that lie beside a
        model, golden inputs, and the answers to some of them that a job by hand shows."""
        names = [name for cell in self.job.cells for name in (cell.file, *weights_beside(cell.file))]
        golden = [cell.golden for cell in self.job.cells if cell.golden]
        names += [one.file for pair in golden for one in (pair.inputs, pair.outputs) if one]
        places = (self.folder / name for name in dict.fromkeys(names))
        every = (file for place in places for file in (sorted(place.rglob("*")) if place.is_dir() else (place,)))
        return {file.relative_to(self.folder).as_posix(): file for file in every if file.is_file()}

    def copy_to(self, folder: Path) -> None:
        """Write job.json and every file that it names into a new folder."""
        folder.mkdir(parents=True)
        for name, source in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        write_document(folder / "job.json", self.job)

    def write_for_app(self, into: Path) -> Path:
        """Writes `into`/<run_id> for an app that measures by itself, and returns that folder.

        It contains the job, what it names, and files.json, by which an app fetches the folder from a web server: every
        file, its size and its SHA-256.
        """
        folder = into / self.job.run_id
        self.copy_to(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        entries = [
            {"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "sha256": file_sha256(path)}
            for path in files
        ]
        listing = {"schema_version": 1, "run_id": folder.name, "files": entries}
        (folder / "files.json").write_text(json.dumps(listing) + "\n", encoding="utf-8")
        return folder

    @property
    def most_bytes(self) -> int:
        """The most that all rounds of a device can take: the answers of its cells in base64, and what else it tells."""
        cells = [cell for cell in self.job.cells if cell.golden]
        answers = sum(4 * cell.golden.inputs.shape[0] * math.prod(cell.output.shape) for cell in cells if cell.golden)
        return ROUNDS_BYTES + 2 * answers

    @property
    def outstanding(self) -> tuple[Turn, ...]:
        """The turns that the stream does not hold yet, without those of cells that failed or answered wrongly."""
        return outstanding(self.job, read_stream(self.stream, self.job))

    def keep(self, finished: RoundResult) -> None:
        """Judge a round that came from a device and append it to the stream, to which there is no other way.

        What was not asked for, or is there already, is no round of this plan.
        """
        turn = Turn(cell=finished.cell, round=finished.round)
        if finished.run_id == self.job.run_id and turn in self.outstanding:
            append(self.stream, judge(finished, self.job, self.expected))

    def record(self, device: Device, harness: Harness, runtimes: dict[str, str], environment: Environment) -> Run:
        """What this plan's device found: every round that was kept."""
        return Run(
            schema_version=1,
            run_id=self.job.run_id,
            job=self.job,
            device=device,
            harness=harness,
            runtimes=runtimes,
            environment=environment,
            rounds=read_stream(self.stream, self.job),
        )

    def environment_before(self, take: Callable[[], Snapshot]) -> Snapshot:
        """The state before the first round, which a run that goes on keeps."""
        path = self.folder / "environment-before.json"
        if path.exists():
            return parse_document(path.read_text(encoding="utf-8"), Snapshot, str(path))
        found = take()
        write_document(path, found)
        return found
