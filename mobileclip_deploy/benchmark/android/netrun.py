"""Driver of a phone's Qualcomm NPU, by Qualcomm's own qnn-net-run from the user's QAIRT SDK.

The ready runners cannot reach that NPU: its driver's library on a phone, libcdsprpc.so, is built for Android's C
library. qnn-net-run is built for it too. Its options, outputs and errors are taken from public scripts that call it:
UbiquitousLearning/mllm's scripts/push_qnn_lib.sh, LiteRT's profiler for Qualcomm's NPU, and others.
"""

import base64
import csv
import math
import os
import re
import shutil
import statistics
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.android.adb import Adb, DeviceLost, quoted
from mobileclip_deploy.benchmark.android.claiming import phone_lock
from mobileclip_deploy.benchmark.android.device import Thermal, cool_down, describe, parse_thermal, snapshot
from mobileclip_deploy.benchmark.android.driver import AndroidDriver, refuse_profile
from mobileclip_deploy.benchmark.android.rounds import Rounds
from mobileclip_deploy.benchmark.android.session import KEEP_AWAKE, LET_SLEEP
from mobileclip_deploy.benchmark.android.transfer import synchronize
from mobileclip_deploy.benchmark.bounded import one_line
from mobileclip_deploy.benchmark.driver import Driver
from mobileclip_deploy.benchmark.job import Cell, Turn
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import Environment, Harness, RoundResult, Run
from mobileclip_deploy.errors import NotRun, RuntimeFailed, UsageError
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.values import RuntimePlace

TOOL = "qnn-net-run"
PROGRAM = f"bin/aarch64-android/{TOOL}"
PROFILE = "qnn-profiling-data_0.log"
SDK = "QNN_SDK_ROOT"
TARGET = "qnn"
PERFORMANCE = "burst"
"""qnn-net-run's name of the clocks that apps request from the NPU."""
VIEWER_SECONDS = 300


def sdk_file(name: str) -> Path:
    """Returns a file of the unpacked QAIRT SDK. QNN_SDK_ROOT names its folder, as after the SDK's own `envsetup`.

    Raises:
        RuntimeFailed: QNN_SDK_ROOT is not set, or the file does not exist.
    """
    named = os.environ.get(SDK)
    if not named:
        raise RuntimeFailed(
            f"{TOOL} is part of Qualcomm's QAIRT SDK, which Qualcomm provides under its licence: unpack it and name "
            f"the folder that contains bin and lib in {SDK}"
        )
    path = Path(named) / name
    if not path.is_file():
        raise RuntimeFailed(f"{named} lacks {name}: name another QAIRT SDK in {SDK}")
    return path


def tools_for(architecture: str) -> dict[str, Path]:
    """Returns the files to push for an NPU such as `v75`: the tool, the HTP backend, the library that the NPU loads."""
    stub, skel = (f"libQnnHtp{architecture.upper()}{part}.so" for part in ("Stub", "Skel"))
    libraries = [f"lib/aarch64-android/{name}" for name in ("libQnnHtp.so", "libQnnSystem.so", stub)]
    names = [PROGRAM, *libraries, f"lib/hexagon-{architecture}/unsigned/{skel}"]
    return {Path(name).name: sdk_file(name) for name in names}


@dataclass
class _Bench:
    """Folders of a run, and measured times.

    `base`: folder on the phone with `bin` and `job`. `kept`: folder here for raw files. `patience`: time limit of a
    start of the tool, in seconds. `seconds`: cell id -> seconds of an inference.
    """

    adb: Adb
    base: str
    kept: Path
    patience: float
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, *words: str) -> Path:
        """Starts the tool once, and returns the folder here with its outputs.

        Raises:
            RuntimeFailed: the tool failed; the error has its last line.
        """
        folder = self.kept / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        binaries, limit = f"{self.base}/bin", ("timeout", "-k", "5", f"{self.patience:.0f}")
        command = quoted(*limit, f"{binaries}/{TOOL}", "--backend", "libQnnHtp.so", "--output_dir", "out", *words)
        environment = f"LD_LIBRARY_PATH={quoted(binaries)} ADSP_LIBRARY_PATH={quoted(binaries)}"
        script = f"cd {quoted(f'{self.base}/job')} && rm -rf out\n{KEEP_AWAKE}\n{environment} {command}; code=$?\n"
        answer = self.adb.shell(f"{script}{LET_SLEEP}\nexit $code", self.patience + 30)
        text = f"{answer.output}{answer.errors}"
        (folder / "said.txt").write_text(text, encoding="utf-8")
        if answer.code != 0:
            lines = [line.strip() for line in text.splitlines() if line.strip()] or [f"exit code {answer.code}"]
            raise RuntimeFailed(f"{TOOL}: {one_line(lines[-1])}")
        self.adb.pull(f"{self.base}/job/out", folder / "out")
        return folder / "out"

    def thermal(self) -> Thermal:
        return parse_thermal(self.adb.shell("dumpsys thermalservice").output)

    def microseconds(self, out: Path, message: str) -> list[int]:
        """Returns microseconds of each `message` in the tool's own profile, read by the SDK's viewer."""
        viewer = sdk_file("bin/x86_64-linux-clang/qnn-profile-viewer")
        log, table = out / PROFILE, out / "profile.csv"
        command = [str(viewer), "--input_log", str(log), "--output", str(table)]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=VIEWER_SECONDS)
        if done.returncode != 0 or not table.is_file():
            raise RuntimeFailed(f"qnn-profile-viewer does not read {log} ({one_line(done.stderr or done.stdout)})")
        with table.open(encoding="utf-8", newline="") as stream:
            return executions(csv.reader(stream), message)


def executions(rows: Iterable[list[str]], message: str = "EXECUTE") -> list[int]:
    """Returns microseconds of each `message` of qnn-net-run itself in a table of qnn-profile-viewer.

    The table's columns: time stamp, message, value, unit, source (NETRUN or BACKEND), level (ROOT or SUB-EVENT), name.
    """
    cells = ([cell.strip() for cell in row] for row in rows)
    return [
        int(row[2]) for row in cells if len(row) >= 6 and row[1] == message and row[3:6] == ["US", "NETRUN", "ROOT"]
    ]


class NetRunDriver(AndroidDriver):
    """Driver of a phone whose NPU runs context binaries."""

    devices = TOOL

    def places(self, target: str, options: dict[str, str]) -> tuple[RuntimePlace, ...]:
        if target != TARGET:
            raise NotRun(f"{TOOL} runs context binaries of Qualcomm's NPU: export with `target={TARGET!r}`")
        return (RuntimePlace(TARGET, backend="htp"),)

    def write_job(self, plan: Plan, into: Path, progress: Progress) -> Path:
        return Driver.write_job(self, plan, into, progress)

    def run(self, plan: Plan, progress: Progress) -> Run:
        refuse_profile(plan)
        if plan.job.protocol.pace_milliseconds:
            raise UsageError(f"{TOOL} runs inferences without pauses: choose another protocol than `paced`")
        if self.runners is not None:
            raise UsageError(f"`runners` are not used: {TOOL} is part of the SDK")
        sdk_file(PROGRAM)
        rounds = Rounds(plan, progress)
        adb = Adb(self._serial(), self._settings.folder)
        phone = describe(adb)
        chip = (phone.device.soc or "unknown").split()[-1].lower()
        base = f"{self._settings.folder}/qnn"
        raw_folder = plan.folder.with_name(plan.folder.name.removesuffix(".partial") + ".qnn")
        bench = _Bench(adb, base, raw_folder, self._settings.turn_limit(plan.job.protocol))
        with phone_lock(adb, self._settings.folder), temporary_folder() as place:
            rounds.tell(f"pushing {TOOL}")
            files, architectures = _files(plan, chip, place)
            tools = {
                name: file for architecture in sorted(architectures) for name, file in tools_for(architecture).items()
            }
            synchronize(adb, f"{base}/bin", tools, executable=True)
            rounds.tell("pushing models")
            synchronize(adb, f"{base}/job", files)
            version = _version(bench)
            before = self._cooled(adb, rounds, fixed_performance=False)
            while turns := plan.outstanding:
                rounds.tell()
                plan.keep(_round(bench, plan, turns[0], rounds.tell))
            after = snapshot(adb, fixed_performance=False)
        harness = Harness(name=TOOL, version=version, build=f"perf_profile {PERFORMANCE}", c_library="bionic")
        return plan.record(phone.device, harness, {TARGET: version}, Environment(before=before, after=after))


def _files(plan: Plan, chip: str, place: Path) -> tuple[dict[str, Path], set[str]]:
    """Returns the files that a job needs on the phone, by name, and the architectures of the binaries.

    The files: a binary for each cell, a file for each golden input, the lists that the tool reads.
    """
    files: dict[str, Path] = {}
    architectures = set()
    for cell in plan.job.cells:
        binary, architecture = get_target(TARGET).open(plan.folder / cell.file).compiled_for(chip, cell.input.shape)
        architectures.add(architecture)
        files[f"{cell.id}.bin"] = binary
        assert cell.golden is not None
        inputs = cell.golden.inputs
        count = min(inputs.shape[0], plan.job.protocol.golden_inputs or inputs.shape[0])
        values = np.fromfile(plan.folder / inputs.file, inputs.dtype).reshape(inputs.shape)[:count]
        lines = []
        for index, row in enumerate(values):
            name = f"{cell.id}.{index}.raw"
            (place / name).write_bytes(row.astype(cell.input.dtype).tobytes())
            files[name] = place / name
            lines.append(f"{cell.input.name}:={name}\n")
        for suffix, listed in (("all", lines), ("first", lines[:1])):
            name = f"{cell.id}.{suffix}.txt"
            (place / name).write_text("".join(listed), encoding="utf-8", newline="\n")
            files[name] = place / name
    return files, architectures


def _round(bench: _Bench, plan: Plan, turn: Turn, progress: Progress) -> RoundResult:
    """Measures a round in one process of the tool, once the phone is cool. In the first round, a process before it
    answers golden inputs."""
    cell, run_id = plan.job.cell(turn.cell), plan.job.run_id
    _, cooled_seconds = cool_down(bench.thermal, plan.job.protocol.cool_seconds, progress)
    try:
        answers = _answers(bench, cell) if turn.round == 0 or cell.id not in bench.seconds else None
        out, times = _timed(bench, plan, cell, f"{cell.id}.round{turn.round}")
        loading = bench.microseconds(out, "INIT")
    except DeviceLost:
        raise
    except RuntimeFailed as failed:
        return RoundResult.failed(run_id, turn, one_line(str(failed)))
    return RoundResult(
        run_id=run_id,
        cell=cell.id,
        round=turn.round,
        status="done",
        load_first_ns=loading[0] * 1000 if loading else None,
        first_inference_ns=times[0] * 1000,
        samples_ns=tuple(time * 1000 for time in times[plan.job.protocol.warm_up_iterations :]),
        cooled_seconds=cooled_seconds or None,
        thermal_state=bench.thermal().state,
        answers=answers if turn.round == 0 else None,
    )


def _timed(bench: _Bench, plan: Plan, cell: Cell, name: str) -> tuple[Path, list[int]]:
    """Runs the first golden input many times in one process. Returns the output folder and each run's microseconds."""
    protocol = plan.job.protocol
    iterations = max(protocol.iterations_per_round, math.ceil(protocol.seconds_per_round / bench.seconds[cell.id]))
    count = protocol.warm_up_iterations + iterations
    out = bench.run(name, *_words(cell, "first"), "--num_inferences", str(count), "--keep_num_outputs", "1")
    times = bench.microseconds(out, "EXECUTE")
    if len(times) != count:
        raise RuntimeFailed(f"{TOOL}'s profile has {len(times)} executions of {count}")
    return out, times


def _answers(bench: _Bench, cell: Cell) -> bytes:
    """Returns answers to the golden inputs, float32 in base64. Keeps the median time of an inference for the rounds."""
    out = bench.run(f"{cell.id}.answers", *_words(cell, "all"))
    times = bench.microseconds(out, "EXECUTE")
    bench.seconds[cell.id] = max(statistics.median(times or [0]), 1) / 1e6
    files = [out / f"Result_{index}" / f"{cell.output.name}.raw" for index in range(len(times))]
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        raise RuntimeFailed(f"{TOOL} wrote no {(missing or [out])[0].name}")
    return base64.b64encode(b"".join(file.read_bytes() for file in files))


def _words(cell: Cell, inputs: str) -> tuple[str, ...]:
    """Returns the options of every start: context, inputs in the tensors' own types, a profile of each inference."""
    words = ("--retrieve_context", f"{cell.id}.bin", "--input_list", f"{cell.id}.{inputs}.txt")
    return (*words, "--use_native_input_files", "--perf_profile", PERFORMANCE, "--profiling_level", "basic")


def _version(bench: _Bench) -> str:
    """Reads the tool's version on the phone, which shows that the tool starts there."""
    binaries = f"{bench.base}/bin"
    answer = bench.adb.shell(f"LD_LIBRARY_PATH={quoted(binaries)} {quoted(f'{binaries}/{TOOL}', '--version')}")
    text = answer.output + answer.errors
    match = re.search(r"\bv?(\d+\.\d+[\w.]*)", text)
    if answer.code != 0 or match is None:
        raise RuntimeFailed(f"{TOOL} does not start on the phone {bench.adb.serial} ({one_line(text) or answer.code})")
    return match[1]
