"""Driver of Android phones: finds a phone, pushes the job, waits until it is cool, runs the plan, fetches results."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mobileclip_deploy.base.files import file_sha256
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.android.adb import (
    Adb,
    DeviceLost,
    is_back,
    listed_devices,
    quoted,
    remedy_for_state,
)
from mobileclip_deploy.benchmark.android.claiming import PhoneBusy, phone_lock
from mobileclip_deploy.benchmark.android.device import (
    AndroidPhone,
    describe,
    fast_cores,
    parse_thermal,
    snapshot,
    wait_until_cool,
)
from mobileclip_deploy.benchmark.android.programs import PLAN, InstalledPrograms, NotStarting, loader_among, runner
from mobileclip_deploy.benchmark.android.rounds import Rounds
from mobileclip_deploy.benchmark.android.session import FIXED, PhoneSession, write_job_folder
from mobileclip_deploy.benchmark.android.settings import AndroidSettings, Runners, find_runners
from mobileclip_deploy.benchmark.android.transfer import place, synchronize
from mobileclip_deploy.benchmark.bounded import one_line, parsing_device_output
from mobileclip_deploy.benchmark.driver import Driver, Listing
from mobileclip_deploy.benchmark.job import Job
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import Environment, Harness, Run, Snapshot
from mobileclip_deploy.errors import NotRun, RuntimeFailed
from mobileclip_deploy.targets.values import RuntimePlace

RECONNECTIONS = 3
"""Number of times that a run continues by itself after its phone was lost."""


class AndroidDriver(Driver):
    """Driver of the phone with the serial number `selector`, or of the only connected phone. Keeps to one phone."""

    kind = "android"
    devices = "Android phones"
    takes_runners = True

    def __init__(self, selector: str | None = None, settings: AndroidSettings | None = None) -> None:
        super().__init__(selector)
        self._settings = settings or AndroidSettings.of()
        self._serial_of_run: str | None = None

    def places(self, target: str, options: dict[str, str]) -> tuple[RuntimePlace, ...]:
        return self._named_places(target, options, "MOBILECLIP_ANDROID_PLACES", self._settings.places)

    def discover(self) -> tuple[Listing, ...]:
        try:
            devices = listed_devices()
        except RuntimeFailed as missing:
            return (Listing("android", "adb", "missing", str(missing)),)
        if not devices:
            remedy = "connect one by USB, and turn on USB debugging in its developer options"
            return (Listing("android", "Android phones", "none connected", remedy),)
        return tuple(self._listing(serial, state) for serial, state in devices)

    def write_job(self, plan: Plan, into: Path, progress: Progress) -> Path:
        runners = self._find_runners(plan, progress)
        return write_job_folder(plan, runners, self._settings, into)

    def run(self, plan: Plan, progress: Progress) -> Run:
        refuse_profile(plan)
        lost_times = 0
        while True:
            try:
                return self._run(plan, progress)
            except DeviceLost as lost:
                lost_times += 1
                if lost_times > RECONNECTIONS or not self._is_back(str(lost), progress):
                    raise

    def _is_back(self, reason: str, progress: Progress) -> bool:
        seconds = self._settings.reconnect_seconds
        if self._serial_of_run is None or not seconds:
            return False
        progress(f"{reason} (waiting {seconds:.0f} s for the phone)")
        return is_back(self._serial_of_run, seconds)

    def _run(self, plan: Plan, progress: Progress) -> Run:
        job = plan.job
        rounds = Rounds(plan, progress)
        self._serial_of_run = self._serial_of_run or self._serial()
        adb = Adb(self._serial_of_run, self._settings.folder)
        phone = describe(adb)
        # Only after a phone was found: the runtimes to fetch are tens of megabytes.
        runners = self._find_runners(plan, progress)
        if phone.machine != runners.machine:
            raise RuntimeFailed(
                f"the harness was built for {runners.machine} and the phone {adb.serial} is {phone.machine}: phones "
                "need the 64-bit build for arm64-v8a and a 64-bit Android; android_harness/README.md has the steps"
            )
        programs = InstalledPrograms(self._settings.folder, loader_among(path.name for path in runners.files), adb=adb)
        there = adb.shell(f"ls -- {quoted(programs.folder)} 2>/dev/null").output.split()
        with suppress(NotStarting):  # the phone has no harness yet, or one that cannot have started a run
            self._end_own_run(replace(programs, loader=loader_among(there)), plan)
        with phone_lock(adb, programs.base) as alone:
            session = self._session(programs, phone, job)
            self._bring(programs, rounds, runners, alone)
            harness, runtimes = _versions(session, job)
            before = self._cooled(adb, rounds, session.fixed_performance)
        for first in (True, False):
            if [turn for turn in plan.outstanding if turn.round == 0 or not first]:
                rounds.tell()
                self._measure(session, rounds, first)
        after = snapshot(adb, session.fixed_performance)
        self._clean(adb, plan)
        return plan.record(phone.device, harness, runtimes, Environment(before=before, after=after))

    def _find_runners(self, plan: Plan, progress: Progress) -> Runners:
        return find_runners(self.runners or self._settings.runners, plan.proven, progress, self.runtime_versions)

    def _cooled(self, adb: Adb, rounds: Rounds, fixed_performance: bool) -> Snapshot:
        """Waits until the phone is cool if a round is left, and returns its state before the first round."""
        if rounds.plan.outstanding:
            wait_until_cool(
                lambda: parse_thermal(adb.shell("dumpsys thermalservice").output),
                self._settings.cooling_seconds,
                rounds.tell,
            )
        return rounds.plan.environment_before(lambda: snapshot(adb, fixed_performance))

    def _measure(self, session: PhoneSession, rounds: Rounds, first: bool) -> None:
        """Runs the first round of each cell, or the rounds after it, and fetches the results.

        After the first rounds, pushes the stream as this computer judged it. The phone then continues only the cells
        with correct answers.
        """
        adb, base = session.programs.adb, session.programs.base
        try:
            session.run(rounds.receive, first)
        except BaseException:
            with suppress(RuntimeFailed):  # the phone keeps its stream: the next run fetches it
                rounds.fetch(adb, base)
            raise
        rounds.fetch(adb, base)
        if first:
            place(adb, f"{base}/job", {rounds.plan.stream.name: rounds.plan.stream})

    def _listing(self, serial: str, state: str) -> Listing:
        remedy = remedy_for_state(state)
        if remedy is not None:
            return Listing(f"android:{serial}", "unknown", state, remedy)
        try:
            device = describe(Adb(serial, self._settings.folder)).device
        except RuntimeFailed as reason:
            return Listing(f"android:{serial}", "unknown", "failed", str(reason))
        name = f"{device.name}, Android {device.os_version}, {device.architecture}"
        return Listing(f"android:{serial}", f"{name} (simulated)" if device.simulated else name, "ready")

    def _serial(self) -> str:
        """Returns the serial number of the selected phone, or of the only ready phone.

        Raises:
            RuntimeFailed: the phone is not connected or not ready, or several are ready and none is selected.
        """
        states = dict(listed_devices())
        if self.selector is not None and self.selector not in states:
            connected = ", ".join(states) or "none"
            raise RuntimeFailed(f"there is no Android device {self.selector}; connected: {connected}")
        if not states:
            raise RuntimeFailed(
                "no Android phone is connected: plug one in, switch USB debugging on in its developer options, and "
                "look at `mobileclip-deploy devices`"
            )
        ready = [serial for serial, state in states.items() if state == "device"]
        if self.selector is None and len(ready) > 1:
            raise RuntimeFailed(
                f"{len(ready)} Android phones are connected: choose one with `device='android:{ready[0]}'`"
            )
        serial = self.selector or (ready or list(states))[0]
        remedy = remedy_for_state(states[serial])
        if remedy is not None:
            raise RuntimeFailed(f"the phone {serial} is {states[serial]}: {remedy}")
        return serial

    def _session(self, programs: InstalledPrograms, phone: AndroidPhone, job: Job) -> PhoneSession:
        adb, turn = programs.adb, self._settings.turn_limit(job.protocol)
        fixed = self._settings.fixed_performance
        script = f"{FIXED.format('true')}; code=$?; {FIXED.format('false')}; exit $code"
        if fixed and adb.shell(script).code != 0:
            raise RuntimeFailed(
                f"the phone {adb.serial} has no fixed performance mode: unset MOBILECLIP_ANDROID_FIXED_PERFORMANCE"
            )
        return PhoneSession(
            programs=programs,
            cores={cell.threads: fast_cores(phone.frequencies, cell.threads) for cell in job.cells},
            turn_seconds=turn,
            total_seconds=self._settings.total_limit(job),
            fixed_performance=fixed,
            simulated=phone.device.simulated,
        )

    def _bring(self, programs: InstalledPrograms, rounds: Rounds, runners: Runners, alone: bool) -> None:
        """Pushes programs, models and golden files to the phone. Fetches rounds of an interrupted run of this job."""
        adb, folder, plan = programs.adb, programs.base, rounds.plan
        rounds.tell("pushing the harness")
        synchronize(adb, programs.folder, {path.name: path for path in runners.files}, executable=True)
        if not alone:
            self._end_own_run(programs, plan)
        if _is_job_of(adb, folder, plan):
            rounds.fetch(adb, folder)
        files = plan.files | {"job.json": plan.folder / "job.json"}
        if plan.stream.exists():
            files[plan.stream.name] = plan.stream
        rounds.tell("pushing models")
        synchronize(adb, f"{folder}/job", files)

    def _end_own_run(self, programs: InstalledPrograms, plan: Plan) -> None:
        """Stops an interrupted run of this plan that still runs on the phone, before its files are changed.

        Raises:
            RuntimeFailed: the run belongs to another plan, or does not end.
        """
        if not programs.is_busy():
            return
        if not _is_job_of(programs.adb, programs.base, plan):
            raise PhoneBusy(programs.adb.serial)
        programs.stop()

    def _clean(self, adb: Adb, plan: Plan) -> None:
        """Removes the files that this run wrote. Models and programs stay, so that the next run need not push them."""
        names = (plan.stream.name, f"{plan.job.run_id}.run.json", "job.json")
        with (
            suppress(PhoneBusy),
            phone_lock(adb, self._settings.folder),
        ):  # a benchmark that started meanwhile removes them
            adb.demand("rm -f -- " + quoted(*(f"{self._settings.folder}/job/{name}" for name in names)))


def refuse_profile(plan: Plan) -> None:
    """Raises NotRun if operator times are requested."""
    if plan.profile:
        raise NotRun("operator times are not recorded on Android phones: leave `profile` out")


def _versions(session: PhoneSession, job: Job) -> tuple[Harness, dict[str, str]]:
    """Reads the versions of the harness and its runtimes from the programs on the phone. Shows that they start."""
    programs = session.programs
    pinned = tuple(sorted({core for cores in session.cores.values() for core in cores}))
    with parsing_device_output(f"the harness on the phone {programs.adb.serial}"):
        harness = json.loads(programs.version(PLAN))
        description = Harness(
            name=one_line(harness["name"]),
            version=one_line(harness["version"]),
            build=harness["build"],
            affinity=pinned,
            c_library=harness.get("c_library"),
        )
        runtimes = sorted({cell.runtime for cell in job.cells})
        versions = {name: json.loads(programs.version(runner(name)))["version"] for name in runtimes}
        return description, {name: one_line(version) for name, version in versions.items()}


def _is_job_of(adb: Adb, folder: str, plan: Plan) -> bool:
    """Returns whether the job on the phone is this plan's. Hashes job.json only: hashing models would disturb a run."""
    answer = adb.shell(f"sha256sum -- {quoted(f'{folder}/job/job.json')}")
    return answer.code == 0 and answer.output.lstrip("\\").startswith(file_sha256(plan.folder / "job.json"))
