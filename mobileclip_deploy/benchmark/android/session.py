"""A run of the harness on a phone: starts it, follows it round by round, and ends it in every case.

For a phone that this computer's adb cannot reach, writes a folder with everything that a run needs.
"""

import queue
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mobileclip_deploy.benchmark.android.adb import END, DeviceLost, ShellResult
from mobileclip_deploy.benchmark.android.claiming import PhoneBusy
from mobileclip_deploy.benchmark.android.programs import BUSY, PLAN, InstalledPrograms, Programs, loader_among
from mobileclip_deploy.benchmark.android.settings import AndroidSettings, Runners
from mobileclip_deploy.benchmark.bounded import SAID_BYTES
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.errors import RuntimeFailed

FIXED = "cmd power set-fixed-performance-mode-enabled {} >/dev/null 2>&1"
"""Switches the fixed performance mode. Android describes it as an upper limit that the device can sustain for at least
10 minutes, so it lies below the highest clocks (PowerManager.FIXED_PERFORMANCE_MODE, HIDL Mode::FIXED_PERFORMANCE)."""
KEEP_AWAKE = """\
stayed=$(settings get global stay_on_while_plugged_in 2>/dev/null)
svc power stayon true >/dev/null 2>&1"""
LET_SLEEP = """\
case $stayed in
  "") ;;
  null) settings delete global stay_on_while_plugged_in ;;
  *) settings put global stay_on_while_plugged_in "$stayed" ;;
esac >/dev/null 2>&1"""
"""A phone whose screen is off lowers its clocks. `svc power stayon` wakes the screen and keeps it on while the cable is
in (frameworks/base, PowerCommand.java). `settings get` prints `null` if nothing was set."""

GRACE_SECONDS = 60
"""Seconds above the longest round: for starting the programs, reading their versions, writing to slow storage."""
STOPPED = 124
REMEMBERED_LINES = 20
QUEUED_LINES = 8
SCRIPT = "run.sh"
# The script pins to the core that device.fast_cores would choose for one thread, from the phone's own frequencies.
TEMPLATE = Path(__file__).with_name(SCRIPT)


@dataclass(frozen=True)
class PhoneSession:
    """A run of the harness on the phone, and its time limits.

    Args:
        cores: threads of a cell -> the cores that its rounds are pinned to. Empty if any core will do.
        turn_seconds: time limit of a round; a longer round is ended, and its cell fails.
        total_seconds: time limit after which the phone itself ends everything.
        fixed_performance: switch the phone's fixed performance mode on for the run, and off after it.
        simulated: the device is not a real phone.
    """

    programs: InstalledPrograms
    cores: Mapping[int, tuple[int, ...]]
    turn_seconds: float
    total_seconds: float
    fixed_performance: bool
    simulated: bool

    def run(self, received: Callable[[str], None], first: bool = False) -> None:
        """Runs the job on the phone to its end, or the `first` round of each cell.

        Calls `received` with the line of every finished round.

        Raises:
            RuntimeFailed: the phone was lost, the harness failed, or it took too long. The phone ends by itself
                whatever still runs.
        """
        process = subprocess.Popen(
            self.programs.adb.command("shell", launch_script(self, first)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        try:
            code, errors = self._follow(process, received)
        except BaseException:
            process.kill()
            process.wait()
            with suppress(RuntimeFailed):  # lost: the phone's own time limit ends it
                self.programs.stop()
            raise
        process.wait()
        self._judge(code, errors)

    def _follow(self, process: subprocess.Popen[str], received: Callable[[str], None]) -> tuple[int | None, list[str]]:
        """Returns the exit code on the phone, and the last lines that are not rounds. None if no code came."""
        lines: queue.Queue[tuple[bool, str | None]] = queue.Queue(maxsize=QUEUED_LINES)
        streams = ((True, process.stdout), (False, process.stderr))
        for is_output, stream in streams:
            threading.Thread(target=_read, args=(stream, is_output, lines), daemon=True).start()
        code, open_streams = None, len(streams)
        last_lines: deque[str] = deque(maxlen=REMEMBERED_LINES)
        silence = self.turn_seconds + GRACE_SECONDS
        while open_streams:
            try:
                is_output, line = lines.get(timeout=silence)
            except queue.Empty:
                serial = self.programs.adb.serial
                remedy = "replug it, then go on with `resume=True`"
                raise DeviceLost(f"no output from the phone {serial} for {silence:.0f} s: {remedy}") from None
            if line is None:
                open_streams -= 1
            elif is_output and (end := END.match(line)):
                code = int(end[1])
            elif is_output and line.startswith("{"):
                received(line)
            elif line.strip():
                last_lines.append(line.strip())
        return code, list(last_lines)

    def _judge(self, code: int | None, errors: list[str]) -> None:
        if code == 0:
            return
        last_line = errors[-1] if errors else "no output"
        serial = self.programs.adb.serial
        if code is None:
            failure = self.programs.adb.failure(ShellResult(255, "", "\n".join(errors)))
            raise DeviceLost(
                f"{str(failure).rstrip('.')}; finished rounds are kept: go on with `resume=True`"
            ) from failure
        if code == STOPPED:
            raise RuntimeFailed(
                f"the phone {serial} ended the run after {self.total_seconds:.0f} s: go on with `resume=True`"
            )
        if code in (126, 127) or "not executable" in last_line:
            raise self.programs.not_starting(PLAN, last_line, code)
        if code == BUSY:
            raise PhoneBusy(serial)
        if code > 128:
            raise RuntimeFailed(
                f"the harness on the phone {serial} was ended by signal {code - 128}: resume with `resume=True`"
            )
        raise RuntimeFailed(f"the harness on the phone {serial} failed: {last_line}; then go on with `resume=True`")


def launch_script(session: PhoneSession, first: bool = False) -> str:
    """Returns the script for the phone's shell. With its time limits, a pulled cable leaves nothing running."""
    programs = session.programs
    words = programs.plan_words(session.turn_seconds)
    words += ["--first"] if first else []
    words += ["--simulated"] if session.simulated else []
    for threads, cores in session.cores.items():
        words += ["--pin", f"{threads}={','.join(map(str, cores))}"] if cores else []
    limit = ("timeout", "-k", "5", f"{session.total_seconds:.0f}")
    lines = [KEEP_AWAKE, FIXED.format("true")] if session.fixed_performance else [KEEP_AWAKE]
    lines += [programs.command(PLAN, *words, under=limit), "code=$?"]
    lines += [FIXED.format("false"), LET_SLEEP] if session.fixed_performance else [LET_SLEEP]
    return "\n".join([*lines, "echo mobileclip-shell-ended $code"])


def _read(stream: IO[str], is_output: bool, lines: queue.Queue[tuple[bool, str | None]]) -> None:
    while line := stream.readline(SAID_BYTES):  # a longer line comes in pieces that are not rounds; `fetch` reads it
        lines.put((is_output, line.rstrip("\r\n")))
    lines.put((is_output, None))


def write_job_folder(
    plan: Plan, runners: Runners, settings: AndroidSettings, into: Path, most_seconds: float = float("inf")
) -> Path:
    """Writes `into`/<run_id> with `job`, `bin` and the script that runs the job by these programs.

    Args:
        plan: cells of one thread.
        settings: time limits of a round and of the whole run.
        most_seconds: time limit of the whole run, if it is shorter.
    """
    folder = into / plan.job.run_id
    (folder / "bin").mkdir(parents=True)
    for program in runners.files:
        shutil.copyfile(program, folder / "bin" / program.name)
    plan.copy_to(folder / "job")
    limit = ("timeout", "-k", "5", f"{min(settings.total_limit(plan.job), most_seconds):.0f}")
    programs = Programs(".", loader_among(path.name for path in runners.files))
    command = programs.command(PLAN, *programs.plan_words(settings.turn_limit(plan.job.protocol)), under=limit)
    script = TEMPLATE.read_text(encoding="utf-8")
    for name, lines in (("@COMMAND@", command), ("@KEEP_AWAKE@", KEEP_AWAKE), ("@LET_SLEEP@", LET_SLEEP)):
        script = script.replace(name, lines)
    (folder / SCRIPT).write_text(script, encoding="utf-8", newline="\n")
    return folder
