"""The driver of iPhone and iPad."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

from mobileclip_deploy.benchmark.driver import Driver, Listing, Place, Plan, Progress
from mobileclip_deploy.benchmark.ios.building import build_app, signing_team
from mobileclip_deploy.benchmark.ios.compute_units import check_plan, core_ml_places
from mobileclip_deploy.benchmark.ios.devices import choose, list_devices
from mobileclip_deploy.benchmark.ios.fetching import checked_result, interrupted, longer_stream, stream_of, write_stream
from mobileclip_deploy.benchmark.ios.following import Patience, follow
from mobileclip_deploy.benchmark.ios.job_folder import write_job_folder
from mobileclip_deploy.benchmark.ios.phone import Phone
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.errors import RuntimeFailed

__all__ = ["IosDriver"]


class IosDriver(Driver):
    """An iPhone or iPad on this Mac. The selector is a UDID, an identifier or a name."""

    kind: ClassVar[str] = "ios"
    patience: ClassVar[Patience] = Patience()

    def discover(self) -> tuple[Listing, ...]:
        if shutil.which("xcrun") is None:
            return ()
        try:
            return tuple(Listing(f"ios:{d.udid}", d.label, d.state, d.remedy) for d in list_devices())
        except RuntimeFailed as failure:
            return (Listing("ios", "iPhones and iPads", "out of reach", str(failure)),)

    def places(self, target: str, options: dict[str, str]) -> tuple[Place, ...]:
        return core_ml_places(target)

    def run(self, plan: Plan, progress: Progress) -> Result:
        check_plan(plan)
        run_id = plan.job.run_id
        turns = len(plan.job.order)
        device = choose(self.selector)
        progress(0, turns, f"building the app for {device.label}")
        phone = Phone(device.udid, build_app(device.udid, signing_team(self.team)))
        progress(0, turns, "installing")
        phone.install()
        results = f"Documents/results/{run_id}/{run_id}"
        self._meet(phone, plan, f"{results}.rounds.jsonl")
        progress(0, turns, "copying models")
        with tempfile.TemporaryDirectory(prefix="mobileclip-job-") as folder:
            phone.push(write_job_folder(plan, Path(folder)), f"Documents/runs/{run_id}")
        process = phone.launch(("--run", run_id, "--exit"))
        try:
            follow(phone, run_id, process, f"{results}.progress.json", progress, self.patience)
            result = checked_result(phone.pull(f"{results}.result.json"), plan, "ios")
        except RuntimeFailed as failure:
            self._keep(phone, plan, f"{results}.rounds.jsonl")
            raise interrupted(failure, plan) from failure
        except KeyboardInterrupt:
            self._keep(phone, plan, f"{results}.rounds.jsonl")
            raise
        write_stream(plan.stream, stream_of(result))
        try:
            phone.launch(("--remove", run_id, "--exit"))
        except RuntimeFailed as failure:  # the result is here: it is worth more than a tidy phone
            progress(turns, turns, f"the run's files stay in the app's documents: {failure}")
        return result

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
