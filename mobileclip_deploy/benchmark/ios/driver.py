"""The driver of iPhone and iPad."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

from mobileclip_deploy.benchmark.counting import RoundCounter
from mobileclip_deploy.benchmark.driver import Driver, Listing, Plan
from mobileclip_deploy.benchmark.ios.building import build_app, signing_team
from mobileclip_deploy.benchmark.ios.devices import choose, list_devices
from mobileclip_deploy.benchmark.ios.fetching import checked_run, interrupted, longer_stream, stream_of, write_stream
from mobileclip_deploy.benchmark.ios.following import Launched, Patience, follow
from mobileclip_deploy.benchmark.ios.job_folder import check_plan, write_job_folder
from mobileclip_deploy.benchmark.ios.phone import Phone
from mobileclip_deploy.benchmark.result import Run
from mobileclip_deploy.errors import RuntimeFailed
from mobileclip_deploy.progress import Progress

__all__ = ["IosDriver"]


class IosDriver(Driver):
    """An iPhone or iPad on this Mac. The selector is a UDID, an identifier or a name."""

    kind: ClassVar[str] = "ios"
    devices: ClassVar[str] = "iPhones and iPads"
    patience: ClassVar[Patience] = Patience()

    def discover(self) -> tuple[Listing, ...]:
        if shutil.which("xcrun") is None:
            return ()
        try:
            return tuple(Listing(f"ios:{d.udid}", d.label, d.state, d.remedy) for d in list_devices())
        except RuntimeFailed as failure:
            return (Listing("ios", "iPhones and iPads", "out of reach", str(failure)),)

    def run(self, plan: Plan, progress: Progress) -> Run:
        check_plan(plan)
        run_id, turns = plan.job.run_id, len(plan.job.order)
        counter = RoundCounter(turns, progress)
        device = choose(self.selector)
        counter.tell(0, f"building the app for {device.label}")
        phone = Phone(device.udid, build_app(device.udid, signing_team(self.team)))
        counter.tell(0, "installing")
        phone.install()
        results = f"Documents/results/{run_id}/{run_id}"
        self._meet(phone, plan, f"{results}.rounds.jsonl")
        counter.tell(0, "copying models")
        with tempfile.TemporaryDirectory(prefix="mobileclip-job-") as folder:
            phone.push(write_job_folder(plan, Path(folder)), f"Documents/runs/{run_id}")
        process = phone.launch(("--run", run_id, "--exit"))
        try:
            follow(phone, Launched(run_id, process, f"{results}.progress.json"), counter, self.patience)
            run = checked_run(phone.pull(f"{results}.run.json"), plan, self.kind)
        except RuntimeFailed as failure:
            self._keep(phone, plan, f"{results}.rounds.jsonl")
            raise interrupted(failure, plan) from failure
        except KeyboardInterrupt:
            self._keep(phone, plan, f"{results}.rounds.jsonl")
            raise
        write_stream(plan.stream, stream_of(run))
        try:
            phone.launch(("--remove", run_id, "--exit"))
        except RuntimeFailed as failure:  # the rounds are here: they are worth more than a tidy phone
            counter.tell(turns, f"the run's files stay in the app's documents: {failure}")
        return run

    def _keep(self, phone: Phone, plan: Plan, remote: str) -> None:
        """Bring home what is finished, if the device can still be reached: why it cannot is told already."""
        with contextlib.suppress(RuntimeFailed):
            write_stream(plan.stream, longer_stream(plan.stream, phone.pull(remote)))

    def _meet(self, phone: Phone, plan: Plan, remote: str) -> None:
        """Bring this computer's stream and the device's to the same state, whichever went further."""
        there = phone.pull(remote)
        lines = longer_stream(plan.stream, there)
        write_stream(plan.stream, lines)
        if lines and lines != there:
            phone.push(plan.stream, remote)
