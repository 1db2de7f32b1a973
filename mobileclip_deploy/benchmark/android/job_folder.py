"""A job with everything that runs it, for a phone that no adb of this computer reaches."""

from __future__ import annotations

import shutil
from pathlib import Path

from mobileclip_deploy.benchmark.android.programs import PLAN, Programs, loader_among
from mobileclip_deploy.benchmark.android.session import KEEP_AWAKE, LET_SLEEP
from mobileclip_deploy.benchmark.android.settings import AndroidSettings, Runners
from mobileclip_deploy.benchmark.driver import Plan

SCRIPT = "run.sh"
# The core is the one that device.fast_cores finds for one thread, told from the phone that the script runs on.
TEMPLATE = Path(__file__).with_suffix(".sh")


def write_job_folder(plan: Plan, runners: Runners, settings: AndroidSettings, into: Path) -> Path:
    """Write `into`/<run_id> with `job`, `bin` and the script that runs the one by the other.

    Args:
        plan: cells of one thread.
        settings: how long a round may take, and the whole.
    """
    folder = into / plan.job.run_id
    (folder / "bin").mkdir(parents=True)
    for program in runners.files:
        shutil.copyfile(program, folder / "bin" / program.name)
    plan.copy_to(folder / "job")
    limit = ("timeout", "-k", "5", f"{settings.total_limit(plan.job):.0f}")
    programs = Programs(".", loader_among(path.name for path in runners.files))
    command = programs.command(PLAN, *programs.plan_words(settings.turn_limit(plan.job.protocol)), under=limit)
    script = TEMPLATE.read_text(encoding="utf-8")
    for name, lines in (("@COMMAND@", command), ("@KEEP_AWAKE@", KEEP_AWAKE), ("@LET_SLEEP@", LET_SLEEP)):
        script = script.replace(name, lines)
    (folder / SCRIPT).write_text(script, encoding="utf-8", newline="\n")
    return folder
