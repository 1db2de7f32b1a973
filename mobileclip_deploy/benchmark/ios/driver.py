"""Driver of iPhone and iPad."""

import contextlib
import platform
import shutil
from pathlib import Path
from typing import ClassVar

from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.driver import Driver, Listing, RoundCounter
from mobileclip_deploy.benchmark.ios.building import build_app, signing_team
from mobileclip_deploy.benchmark.ios.devices import CONNECT, choose, list_devices
from mobileclip_deploy.benchmark.ios.exchange import check_plan, checked_run, interrupted, store_rounds, write_in_parts
from mobileclip_deploy.benchmark.ios.following import Patience, follow
from mobileclip_deploy.benchmark.ios.phone import Phone
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import Run
from mobileclip_deploy.errors import InvalidInput, RuntimeFailed


class IosDriver(Driver):
    """Driver of an iPhone or iPad on this Mac. The selector is a UDID, an identifier or a name."""

    kind: ClassVar[str] = "ios"
    devices: ClassVar[str] = "iPhones and iPads"
    patience: ClassVar[Patience] = Patience()

    def discover(self) -> tuple[Listing, ...]:
        if shutil.which("xcrun") is None:
            remedy = f"needs a Mac with Xcode 16 or later, but this is {platform.system()}: run `benchmark` there"
            return (Listing("ios", "iPhones and iPads", "unavailable here", remedy),)
        try:
            listings = tuple(Listing(f"ios:{d.udid}", d.label, d.state, d.remedy) for d in list_devices())
            return listings or (Listing("ios", "iPhones and iPads", "none known", CONNECT),)
        except RuntimeFailed as failure:
            return (Listing("ios", "iPhones and iPads", "out of reach", str(failure)),)

    def write_job(self, plan: Plan, into: Path, progress: Progress) -> Path:
        check_plan(plan)
        folder = into / plan.job.run_id
        plan.copy_to(folder)
        return folder

    def run(self, plan: Plan, progress: Progress) -> Run:
        check_plan(plan)
        run_id, turns = plan.job.run_id, len(plan.job.order)
        counter = RoundCounter(turns, progress)
        device = choose(self.selector)
        counter.tell(0, f"building the app for {device.label}")
        team = signing_team(self.team)
        phone = Phone(device.udid, build_app(device.udid, team, lambda what: counter.tell(0, what)))
        counter.tell(0, "installing")
        phone.install()
        results = f"Documents/results/{run_id}/{run_id}"
        with temporary_folder() as place:
            folder = write_in_parts(plan, place)
            files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
            phone.prepare(run_id, sorted({file.parent.as_posix() for file in files} - {"."}))
            store_rounds(phone.pull(f"{results}.rounds.jsonl", plan.most_bytes), plan)
            if plan.stream.exists():
                phone.push(plan.stream, f"{results}.rounds.jsonl")
            for index, file in enumerate(files, start=1):
                counter.tell(0, f"copying file {index} of {len(files)}, {file.name}")
                phone.push(folder / file, f"Documents/runs/{run_id}/{file.as_posix()}")
        try:
            if any(turn.round == 0 for turn in plan.outstanding):
                self._measure(phone, plan, counter, first=True)
                phone.push(plan.stream, f"{results}.rounds.jsonl")
            self._measure(phone, plan, counter)
            run = checked_run(phone.pull(f"{results}.run.json", plan.most_bytes), plan, self.kind)
        except (RuntimeFailed, KeyboardInterrupt) as stopped:
            # Fetches finished rounds if the device can still be reached. If not, `stopped` already has the reason.
            with contextlib.suppress(RuntimeFailed, InvalidInput):
                store_rounds(phone.pull(f"{results}.rounds.jsonl", plan.most_bytes), plan)
            if isinstance(stopped, RuntimeFailed):
                raise interrupted(stopped, plan) from stopped
            raise
        try:
            phone.launch(("--remove", run_id, "--exit"))
        except RuntimeFailed as failure:  # the rounds are fetched; leftover files on the phone do not fail the run
            counter.tell(turns, f"the run's files stay in the app's documents: {failure}")
        return run

    def _measure(self, phone: Phone, plan: Plan, counter: RoundCounter, first: bool = False) -> None:
        """Makes the app run the `first` round of each cell, or the rounds that are left, and fetches them.

        The answers are judged between the two calls.
        """
        run_id = plan.job.run_id
        process = phone.launch(("--run", run_id, *(("--first",) if first else ()), "--exit"))
        disturbed = follow(phone, process, plan, counter, self.patience, first)
        store_rounds(phone.pull(f"Documents/results/{run_id}/{run_id}.rounds.jsonl", plan.most_bytes), plan, disturbed)
