"""Driver of the Mac itself. Builds the iPhone's Swift harness by `swift build`, and runs it natively."""

import contextlib
import platform
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import ClassVar

from mobileclip_deploy.base.files import cache_folder
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.driver import Driver, Listing, RoundCounter
from mobileclip_deploy.benchmark.ios.building import harness_sources
from mobileclip_deploy.benchmark.ios.exchange import check_plan, checked_run, interrupted, store_rounds
from mobileclip_deploy.benchmark.ios.following import RunProgress, read_progress
from mobileclip_deploy.benchmark.ios.power import PowerMeter
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import Run
from mobileclip_deploy.errors import RuntimeFailed

SECONDS = 0.5

OLD_SWIFT = re.compile(r"using Swift tools version 6\.\d+(?:\.\d+)? but the installed version is ([\d.]*\d)")


class MacDriver(Driver):
    """Driver of Core ML and Core AI on this Mac."""

    kind: ClassVar[str] = "mac"
    devices: ClassVar[str] = "the Mac's harness"
    only: ClassVar[str | None] = "Mac"

    def discover(self) -> tuple[Listing, ...]:
        if platform.system() != "Darwin":
            remedy = f"this is {platform.system()}, but Core ML's own runtime is for Macs only: run `benchmark` on one"
            return (Listing("mac", "Mac", "unavailable here", remedy),)
        return (Listing("mac", f"this Mac, {platform.machine()}, macOS {platform.mac_ver()[0]}", "ready"),)

    def run(self, plan: Plan, progress: Progress) -> Run:
        check_plan(plan)
        counter = RoundCounter(len(plan.job.order), progress)
        counter.tell(0, "building the harness")
        harness = build_harness()
        run_id, meter = plan.job.run_id, PowerMeter()
        with temporary_folder() as documents:
            plan.copy_to(documents / "runs" / run_id)
            output = documents / "results" / run_id
            output.mkdir(parents=True)
            command = [str(harness), "--documents", str(documents), "--run", run_id]
            try:
                if any(turn.round == 0 for turn in plan.outstanding):
                    self._measure([*command, "--first"], output, plan, counter, meter)
                self._measure(command, output, plan, counter, meter)
                run = checked_run((output / f"{run_id}.run.json").read_bytes(), plan, self.kind)
            except RuntimeFailed as failure:
                raise interrupted(failure, plan) from failure
        return run.model_copy(update={"environment": run.environment.model_copy(update={"power": meter.use()})})

    def _measure(self, command: list[str], output: Path, plan: Plan, counter: RoundCounter, meter: PowerMeter) -> None:
        """Runs the harness from the rounds in this computer's stream on, and stores the new rounds."""
        stream = output / plan.stream.name
        if plan.stream.exists():
            shutil.copyfile(plan.stream, stream)
        try:
            with meter.running():
                self._run(command, output, plan.job.run_id, counter)
        finally:
            store_rounds(stream.read_bytes() if stream.exists() else None, plan)

    def _run(self, command: list[str], output: Path, run_id: str, counter: RoundCounter) -> None:
        last: RunProgress | None = None
        with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                while process.poll() is None:
                    time.sleep(SECONDS)
                    current = None
                    with contextlib.suppress(FileNotFoundError):
                        current = read_progress((output / f"{run_id}.progress.json").read_bytes(), run_id)
                    if current is not None and current != last:
                        last = current
                        counter.tell(current.finished_turns, current.what)
            finally:
                process.kill()
            if process.returncode != 0:
                log.seek(0)
                lines = log.read().decode(errors="replace").strip().splitlines() or ["no output"]
                raise RuntimeFailed(
                    f"the harness ended (exit {process.returncode}: {lines[-1]}); run the command again"
                )


def build_harness() -> Path:
    """Builds the harness in the release configuration, and returns the program. `swift build` reuses unchanged parts.

    Raises:
        RuntimeFailed: this is not a Mac, Swift is not installed, or the build fails.
    """
    if platform.system() != "Darwin":
        raise RuntimeFailed("`device='mac'` needs a Mac, the only computer with Core ML; run this command there")
    scratch = cache_folder("mac-harness")
    package = ["--package-path", str(harness_sources() / "HarnessCore"), "--scratch-path", str(scratch)]
    command = ["swift", "build", "--configuration", "release", "--product", "mobileclip-harness", *package]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    except FileNotFoundError:
        raise RuntimeFailed("swift is missing; install Xcode 16 or newer (docs/devices.md)") from None
    if done.returncode != 0 and (old := OLD_SWIFT.search(done.stdout + done.stderr)):
        raise RuntimeFailed(
            f"the harness needs Swift 6, but this is {old[1]}: install Xcode 16 or newer, or its command line tools "
            "(softwareupdate --list), and choose them with: sudo xcode-select -s"
        )
    if done.returncode != 0:
        errors = [line for line in (done.stdout + done.stderr).splitlines() if "error:" in line] or ["no error line"]
        raise RuntimeFailed(f"the harness does not build ({errors[0].strip()}); for all of it run: {' '.join(command)}")
    return scratch / "release" / "mobileclip-harness"
