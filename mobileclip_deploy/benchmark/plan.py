"""The plan of a measurement: a job, the folder of its files, and the expected answers."""

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mobileclip_deploy.benchmark.answers import Expected, judge
from mobileclip_deploy.benchmark.documents import append, outstanding, parse_document, read_stream, write_document
from mobileclip_deploy.benchmark.job import Job, Turn, weights_beside
from mobileclip_deploy.benchmark.result import Device, Environment, Harness, RoundResult, Run, Snapshot

SESSION = "session.json"
"""File in a plan's folder that names a run which goes on without this computer."""
ROUNDS_BYTES = 64 << 20
"""Maximum bytes of all rounds without their answers: eight million samples and their names."""


@dataclass(frozen=True)
class Plan:
    """A folder with every file of the job, some of them as links. It also contains the stream of finished rounds, from
    which an interrupted run continues.

    Attributes:
        profile: True if operator times are measured too.
        versions: versions of each runtime that the bundles of the job were proven with.
        expected: expected answers, which are in none of the files.
    """

    folder: Path
    job: Job
    profile: bool = False
    versions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    expected: Expected = field(default_factory=dict)

    @property
    def proven(self) -> dict[str, frozenset[str]]:
        """Every runtime of the job, with the versions that bundles were proven with; empty if no bundle names one."""
        return {cell.runtime: self.versions.get(cell.runtime, frozenset()) for cell in self.job.cells}

    @property
    def stream(self) -> Path:
        """File of the finished rounds, one per line."""
        return self.folder / f"{self.job.run_id}.rounds.jsonl"

    @property
    def files(self) -> dict[str, Path]:
        """Every file of the job, by its path in the folder: packages file by file, weights next to a model, and
        golden inputs."""
        names = [name for cell in self.job.cells for name in (cell.file, *weights_beside(cell.file))]
        names += [cell.golden.inputs.file for cell in self.job.cells if cell.golden]
        places = (self.folder / name for name in dict.fromkeys(names))
        expanded = (file for place in places for file in (sorted(place.rglob("*")) if place.is_dir() else (place,)))
        return {file.relative_to(self.folder).as_posix(): file for file in expanded if file.is_file()}

    def copy_to(self, folder: Path) -> None:
        """Writes job.json and every file that it names into a new folder."""
        folder.mkdir(parents=True)
        for name, source in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        write_document(folder / "job.json", self.job)

    @property
    def most_bytes(self) -> int:
        """Maximum size of all rounds of a device: the answers of its cells in base64, and the rest of its report."""
        cells = [cell for cell in self.job.cells if cell.golden]
        answers = sum(4 * cell.golden.inputs.shape[0] * math.prod(cell.output.shape) for cell in cells if cell.golden)
        return ROUNDS_BYTES + 2 * answers

    @property
    def outstanding(self) -> tuple[Turn, ...]:
        """Turns that are not in the stream yet, without those of cells that failed or had wrong answers."""
        return outstanding(self.job, read_stream(self.stream, self.job))

    def keep(self, finished: RoundResult) -> None:
        """Judges a round that came from a device and appends it to the stream. There is no other way to append one.

        Rounds that are not in the plan, or are there already, are ignored.
        """
        turn = Turn(cell=finished.cell, round=finished.round)
        if finished.run_id == self.job.run_id and turn in self.outstanding:
            append(self.stream, judge(finished, self.job, self.expected))

    def record(self, device: Device, harness: Harness, runtimes: dict[str, str], environment: Environment) -> Run:
        """Returns the run of this plan's device: every round in the stream."""
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
        """Returns the state before the first round; a run that continues keeps the first state."""
        path = self.folder / "environment-before.json"
        if path.exists():
            return parse_document(path.read_text(encoding="utf-8"), Snapshot, str(path))
        snapshot = take()
        write_document(path, snapshot)
        return snapshot
