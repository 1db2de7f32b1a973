"""Qualcomm's compiler and emulator of the NPU, run in a separate process: no code of theirs runs in this one."""

import importlib.metadata
import importlib.util
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.base.interpreter import python, run_within
from mobileclip_deploy.errors import ExportError, InvalidInput, NotRun, RuntimeFailed, first_sentence, uncoloured
from mobileclip_deploy.targets.artifact import Left
from mobileclip_deploy.targets.qnn.chips import Chip
from mobileclip_deploy.targets.qnn.process import BINARY, COMPILED, FAILED, SPILLED, TRACE
from mobileclip_deploy.targets.values import TensorInfo, require_shape

PROCESS = "mobileclip_deploy.targets.qnn.process"
PACKAGE = "onnxruntime-qnn"
SECONDS = 1800
"""Time limit for compiling a file, or for one call to answer. nano takes two seconds, and B's image tower at `w8a16` at
least three minutes of a core for two pictures."""
# The compiler writes unfilled padding to the binary: pieces of XML and of paths were seen there. So memory is zeroed
# when it is allocated, and only KEPT of this process's environment is passed on.
CLEAN = "glibc.malloc.perturb={}:glibc.malloc.tcache_count=0"
ZEROED, FILLED = 255, 1
"""Values for CLEAN: memory of zeros, and of bytes 0xFE."""
UNNAMED = "without a name"
KEPT = ("PATH", "PYTHONPATH", "PYTHONSAFEPATH", "LD_LIBRARY_PATH", "TMPDIR", "LANG")


def require_emulator() -> None:
    """Refuses to compile or run without the emulator.

    Raises:
        NotRun: the text says what is missing.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise NotRun("Qualcomm's emulator runs on Linux for x86-64 only; elsewhere the binaries are not run")
    if importlib.util.find_spec("onnxruntime_qnn") is None:
        raise NotRun(f"Qualcomm's emulator is in {PACKAGE}; type: pip install 'mobileclip-deploy[qnn]'")


def engine(chip: Chip) -> str:
    """Returns the name and version of the emulator for a chip."""
    package, runtime = (importlib.metadata.version(name) for name in (PACKAGE, "onnxruntime"))
    return f"Qualcomm's emulator of Hexagon v{chip.architecture} ({PACKAGE} {package}, ONNX Runtime {runtime})"


@dataclass(frozen=True)
class Compilation:
    """A model compiled for a chip.

    Attributes:
        context: the model of one node that ONNX Runtime wrote.
        binary: the binary that it names.
        operations: number of the model's operations before placement.
        left: operations that stay on the CPU.
        spilled: spilled bytes.
    """

    context: bytes
    binary: bytes
    operations: int
    left: tuple[Left, ...]
    spilled: int = 0


def compile_for(source: Path, chip: Chip, *, cpu: bool = False, tokens: int = 0, fill: int = ZEROED) -> Compilation:
    """Compiles an ONNX model for a chip's NPU, with its batch fixed to one.

    Args:
        cpu: True if operations that the NPU does not support may stay on the CPU. Otherwise `context` is empty if there
            are any.
        tokens: size of a free second dimension.
        fill: content of the memory that the compiler allocates, and thus of the padding in the binary.

    Raises:
        ExportError: the compiler refused the model, crashed, or did not return in time.
        NotRun: there is no compiler here.
    """
    require_emulator()
    with temporary_folder() as folder:
        # A relative name, because the compiler derives the graph's name from the path; it differs for each length.
        name = f"{source.stem}-{tokens}.onnx" if tokens else source.name
        (folder / name).symlink_to(source.absolute())
        words = name, chip.architecture, chip.soc, "on" if cpu else "off", tokens
        ended = _ask(folder, "compile", *words, fill=fill)
        operations, left = _placed(folder / TRACE)
        if ended is not None and not left:
            raise ExportError(f"Qualcomm's compiler {ended} ({source.stem}, {chip.code})")
        if ended is not None:
            return Compilation(b"", b"", operations, left)
        context = (folder / COMPILED).read_bytes()
        spilled = int((folder / SPILLED).read_text(encoding="utf-8"))
        return Compilation(context, (folder / BINARY).read_bytes(), operations, _named(left, context), spilled)


def placement(chip: Chip, source: Path, tokens: int = 0) -> Compilation:
    """Returns a compilation that names the operations that the NPU does not support.

    It first compiles without the CPU. If the CPU is allowed, it also gets the DequantizeLinear of a quantized output,
    which the NPU otherwise takes.

    Raises:
        ExportError, NotRun: see `compile_for`.
    """
    compilation = compile_for(source, chip, tokens=tokens)
    return compile_for(source, chip, cpu=True, tokens=tokens) if compilation.left else compilation


def _placed(trace: Path) -> tuple[int, tuple[Left, ...]]:
    """Returns the number of the compiler's operations, and those that it refused; nothing without a trace."""
    try:
        report: dict[str, Any] = json.loads(trace.read_text(encoding="utf-8"))
    except OSError:
        return 0, ()
    refused = [
        Left(node["op_type"], node["node_name"] or UNNAMED, node["reason"]) for node in report["unsupported_nodes"]
    ]
    return report["summary"]["total_onnx_nodes"], tuple(refused)


def _named(left: tuple[Left, ...], context: bytes) -> tuple[Left, ...]:
    """Returns these operations with their names in the written model, which contains them around the binary: the
    compiler does not name an operation by its result."""
    around = iter(onnx.ModelProto.FromString(context).graph.node) if left else iter(())
    renamed = []
    for operation in left:
        node = next((node for node in around if node.op_type == operation.type), None)
        renamed.append(operation if node is None else replace(operation, name=node.name or node.output[0]))
    return tuple(renamed)


def _ask(folder: Path, *words: object, fill: int = ZEROED) -> str | None:
    """Runs the process in a folder. Describes how it failed; None if it succeeded."""
    command, environment = python("-m", PROCESS, *map(str, words))
    passed_on = {name: value for name, value in environment.items() if name in KEPT}
    log = folder / "log"
    with log.open("wb") as out:
        returned, end = run_within(
            command, SECONDS, env=passed_on | {"GLIBC_TUNABLES": CLEAN.format(fill)}, cwd=folder, stdout=out, stderr=out
        )
    if returned == 0:
        return None
    return end if returned is None or returned < 0 else f"{end}: {_reason(log.read_text(errors='replace'))}"


def _reason(log: str) -> str:
    """Returns the runtime's error, without positions in its own sources."""
    hits = [line for line in uncoloured(log).splitlines() if line.startswith(FAILED)]
    return first_sentence(ValueError(hits[-1].removeprefix(FAILED).rpartition("] ")[2])) if hits else "no reason given"


class EmulatorRunner:
    """Runner of a chip's context binaries on Qualcomm's emulator, one process for each call.

    Args:
        contexts: the .onnx that names a binary, by the shape of its input; the caller has validated it.
        port: their input.

    Raises:
        NotRun: there is no emulator here.
    """

    def __init__(self, chip: Chip, contexts: Mapping[tuple[int, ...], Path], port: TensorInfo) -> None:
        require_emulator()
        self._chip, self._contexts, self._port = chip, contexts, port
        self.engine = engine(chip)

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """Returns the answers to inputs of a tower.

        Raises:
            InvalidInput: another shape, or pixels outside of [0, 1].
            RuntimeFailed: the emulator refused the binary, crashed, or did not answer in time.
        """
        require_shape(inputs, self._port.shape)
        context = self._contexts.get((1, *inputs.shape[1:]))
        if context is None:
            shapes = " or ".join(str(list(shape)) for shape in self._contexts)
            raise InvalidInput(f"input of shape {list(inputs.shape)}; there are binaries for {shapes}")
        (answers,) = emulated(self._chip, context, self._port, inputs).values()
        return answers


def emulated(
    chip: Chip, model: Path, port: TensorInfo, inputs: npt.NDArray[np.generic]
) -> dict[str, npt.NDArray[np.float32]]:
    """Returns all results of a context binary on a chip's emulator, by name, [N, ...] each. A model that is not
    compiled is compiled first.

    Raises:
        InvalidInput: pixels outside of [0, 1].
        NotRun: there is no emulator here.
        RuntimeFailed: the model was refused, or the emulator crashed, or did not answer in time.
    """
    require_emulator()
    # In float16, pixels of 0 ... 255 overflow in the tower, and the output is finite, plausible and wrong.
    if port.dtype == "float32" and len(inputs) and not (inputs.min() >= 0 and inputs.max() <= 1):
        raise InvalidInput(
            "pixels are not in [0, 1]; divide bytes by 255: out of range an NPU gives plausible but wrong results"
        )
    with temporary_folder() as folder:
        input_file, answers = folder / "inputs.npy", folder / "answers.npz"
        np.save(input_file, inputs.astype(port.dtype))
        ended = _ask(folder, "answer", model.absolute(), chip.architecture, chip.soc, input_file, answers)
        if ended is not None:
            raise RuntimeFailed(f"Qualcomm's emulator {ended} ({model.name})")
        with np.load(answers) as arrays:
            return {name: arrays[name].astype(np.float32) for name in arrays}
