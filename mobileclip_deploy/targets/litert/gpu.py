"""Compilation of a .tflite by LiteRT's GPU compiler without a phone: on Mesa's software Vulkan, in a separate process.

The compiler (ML Drift, through WebGPU) is the runtime's own, and its shaders compute in float16 as on a phone; only the
driver below it differs.

A GPU computes in float16, whose range must hold all values, and the sums inside means. A mean over a map adds one value
per pixel before it divides. On a phone's GPU the mean of a squeeze-and-excite block was seen to overflow in this way
(google-ai-edge/litert-samples, issue 222).
"""

import importlib.metadata
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.base.interpreter import python, run_within
from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.targets.artifact import Compiled, Extreme, Left
from mobileclip_deploy.targets.litert.computing import computed_values
from mobileclip_deploy.targets.litert.gpu_process import ANSWERED, COMPILED
from mobileclip_deploy.targets.litert.model_file import ModelFile, OpenedModel
from mobileclip_deploy.targets.mil.lint.report import Finding, LintedOperation, LintReport, RuleText

FOLDERS = ("/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d")
SECONDS = 600
"""Time limit for compiling and answering a file; nano takes a few seconds of one core, most of them for shaders."""
ANSWER_SECONDS = 30
"""Time after which no further input is run."""
RETRIES = 2
PROCESS = "mobileclip_deploy.targets.litert.gpu_process"
DRIVER_VARIABLES = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")  # the second for loaders before 1.3.207
# Messages of the runtime's timeout: two minutes per answer, shaders included. Mesa caches shaders, so the next process
# continues from there.
WAITED = ("DEADLINE_EXCEEDED", "Failed to lock custom tensor buffer")
MISSING = (
    "LiteRT's GPU compiler runs here on Mesa's software Vulkan, which was not found; type: apt install "
    "mesa-vulkan-drivers libvulkan1"
)


def software_vulkan() -> Path:
    """Returns the file that points Vulkan's loader to Mesa's driver for the CPU.

    Raises:
        NotRun: it is not installed here.
    """
    if sys.platform != "linux":
        raise NotRun("LiteRT's GPU compiler runs on Linux only here, on Mesa's software Vulkan")
    drivers = [path for folder in FOLDERS for path in sorted(Path(folder).glob("lvp_icd*.json"))]
    if not drivers:
        raise NotRun(MISSING)
    return drivers[0]


def compile_for_gpu(artifact: OpenedModel, inputs: npt.NDArray[np.generic] | None = None) -> Compiled:
    """Compiles and runs an artifact: see `Artifact.compiled`."""
    path, model = artifact.path, artifact.model
    _ = artifact.graph  # validates the file: the runtime trusts its tensors' declarations
    driver = software_vulkan()
    with temporary_folder() as folder:
        run = _run(path, driver, folder, inputs)
        for _ in range(RETRIES):
            if run.waited:
                run = _run(path, driver, folder, inputs)
        answers = None if run.answers is None else np.load(run.answers)
    adapter = re.search(r"Selected adapter: ([^,]+(?:,[^,)]*\))?)", run.log)
    if adapter is None:
        raise NotRun(f"{MISSING} (it found no device)")
    engine = f"LiteRT {importlib.metadata.version('ai-edge-litert')} (GPU, WebGPU on {adapter[1]})"
    return Compiled(
        engine=engine,
        operations=len(model.operators),
        left=_left(model, run.log),
        refusal=None if run.compiled else _refusal(run),
        answers=answers,
        silence=run.silence if answers is None and inputs is not None else None,
    )


@dataclass(frozen=True)
class _Run:
    """Outcome of a process.

    Attributes:
        returned: its exit status; None if it was stopped.
        end: how it ended, in words.
        log: its log.
        compiled: True if it compiled the file.
        answers: file of its answers; None if there are none.
    """

    returned: int | None
    end: str
    log: str
    compiled: bool
    answers: Path | None

    @property
    def waited(self) -> bool:
        """True if the runtime gave up waiting for an answer."""
        return self.compiled and self.returned not in (0, None) and any(words in self.log for words in WAITED)

    @property
    def silence(self) -> str:
        """Reason for missing answers."""
        waited = ": an answer took longer than the runtime's time limit" if self.waited else ""
        return f"the GPU {self.end} before its first answer{waited}" if self.compiled else "it was not compiled"


def _run(path: Path, driver: Path, folder: Path, inputs: npt.NDArray[np.generic] | None) -> _Run:
    answers = folder / "answers.npy"
    arguments = []
    if inputs is not None:
        np.save(folder / "inputs.npy", inputs)
        arguments = [str(folder / "inputs.npy"), str(answers), str(ANSWER_SECONDS)]
    # LLVM does not optimize shaders: the same answers, in a third of the time.
    variables = {"GALLIVM_PERF": "nopt"} | dict.fromkeys(DRIVER_VARIABLES, str(driver))
    command, environment = python("-m", PROCESS, str(path.absolute()), *arguments, variables=variables)
    output, log = folder / "said", folder / "log"
    with output.open("wb") as out, log.open("wb") as err:
        returned, end = run_within(command, SECONDS, env=environment, stdout=out, stderr=err)
    words = output.read_text(errors="replace").split()
    answered = answers if ANSWERED in words else None
    return _Run(returned, end, log.read_text(errors="replace"), COMPILED in words, answered)


def _left(model: ModelFile, log: str) -> tuple[Left, ...]:
    """Returns the operators that stay on the CPU. The log lists them by type, with a reason for each type."""
    match = re.search(r"not supported by GPU delegate:\n(.*?)\n[^\n]*operations will run on the", log, re.DOTALL)
    if match is None:
        return ()
    reasons = {}
    for line in match[1].splitlines():
        kind, _, reason = line.partition(":")
        reasons[kind] = reason.strip().removeprefix(f"{kind}: ")
    return tuple(
        Left(operator.type, layer_name(model.tensors[operator.outputs[0]].name), reasons[operator.type])
        for operator in model.operators
        if operator.type in reasons
    )


def layer_name(tensor: str) -> str:
    """Returns torch's name of the layer that a tensor of a converted file belongs to: `tower.text.layers.0.attention`.

    The converter writes the classes into the names: `a.b.Linear_qkv` for a layer called `qkv`.
    """
    parts = tensor.split(";")[0].split("/")[1:]
    return ".".join(part.rpartition(".")[2].partition("_")[2] or part for part in parts) or tensor


def _refusal(run: _Run) -> str:
    match = re.search(r"Failed to create litert::ml_drift::\w+: ([^\n]*)", run.log)
    why = "" if match is None else f": {match[1].split('; ')[0].rstrip('.')[:300]}"
    if run.returned is None:
        raise NotRun(f"LiteRT's GPU compiler {run.end}")
    return f"the compiler {run.end}{why}"


def extremes(artifact: OpenedModel, inputs: npt.NDArray[np.generic]) -> tuple[Extreme, Extreme | None]:
    """Returns the largest absolute value that a file computes in float32 over all inputs, and the largest sum inside a
    mean.

    A sum adds absolute values, so that it bounds every order of summation. The largest sum is None if there is no mean.
    """
    model = artifact.model
    means = [operator for operator in model.operators if operator.type == "MEAN"]
    values, sums = [], []
    for computed in computed_values(artifact.path.read_bytes(), model, inputs):
        for index, value in computed.items():
            values.append((float(np.abs(value).max()), layer_name(model.tensors[index].name)))
        for mean in means:
            source, axes = computed.get(mean.inputs[0]), model.tensors[mean.inputs[1]].values
            if source is not None and axes is not None:
                dimensions = tuple(int(axis) for axis in axes.reshape(-1))
                largest = float(np.abs(source).sum(axis=dimensions, dtype=np.float64).max())
                sums.append((largest, layer_name(model.tensors[mean.outputs[0]].name)))
    return Extreme(*max(values)), Extreme(*max(sums)) if sums else None


SOURCE = {"LiteRT's GPU accelerator": "https://ai.google.dev/edge/litert/next/gpu"}
UNSUPPORTED = RuleText(
    name="unsupported", level="leaves", text="LiteRT's compiler has no GPU kernel for it", sources=SOURCE
)
REFUSED = RuleText(
    name="refused", level="leaves", text="LiteRT's compiler failed; the whole file stays on the CPU", sources=SOURCE
)


def lint_model(artifact: OpenedModel, device: str) -> LintReport:
    """Compiles a file for the GPU as `Artifact.compiled`, and reports for each operation whether it runs there."""
    model, result = artifact.model, compile_for_gpu(artifact)
    reasons = {(left.type, left.name): left.reason for left in result.left}
    refused = () if result.refusal is None else (Finding(rule="refused", level="leaves", detail=result.refusal),)
    counted: set[int] = set()
    operations = []
    for operator in model.operators:
        name = layer_name(model.tensors[operator.outputs[0]].name)
        reason = reasons.get((operator.type, name))
        # Each constant is counted for the first operator that takes it.
        added = {index for index in operator.inputs if index >= 0 and model.tensors[index].values is not None} - counted
        counted |= added
        size, findings = sum(model.tensors[index].bytes for index in added), refused
        if reason is not None:
            findings = (Finding(rule="unsupported", level="leaves", detail=reason or "it gives no reason"),)
        operations.append(LintedOperation.of(name, operator.type, size, findings))
    return LintReport.of(artifact.path.name, ("main", device), operations, (UNSUPPORTED, REFUSED), refused)
