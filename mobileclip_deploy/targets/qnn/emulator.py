"""Qualcomm's compiler and emulator of the NPU, asked from outside: nothing of theirs runs in this process."""

from __future__ import annotations

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

from mobileclip_deploy.base.escaping import uncoloured
from mobileclip_deploy.base.files.leftovers import temporary_folder
from mobileclip_deploy.base.interpreter import python, run_within
from mobileclip_deploy.errors import ExportError, InvalidInput, NotRun, RuntimeFailed, first_sentence
from mobileclip_deploy.targets.artifact import Left
from mobileclip_deploy.targets.qnn.chips import Chip, numbers
from mobileclip_deploy.targets.qnn.process import BINARY, COMPILED, FAILED, SPILLED, TRACE
from mobileclip_deploy.targets.values import TensorInfo, require_shape

PROCESS = "mobileclip_deploy.targets.qnn.process"
PACKAGE = "onnxruntime-qnn"
SECONDS = 1800
"""How long a file may take to compile, or one call to answer; nano takes two seconds, and B's image tower at `w8a16` at
least three minutes of a core for two pictures."""
# What the compiler allocates for padding and does not fill goes into the binary: pieces of XML and of paths were seen
# there. So memory is zeroed when it is allocated, and nothing of this process's environment is handed on but KEPT.
CLEAN = "glibc.malloc.perturb={}:glibc.malloc.tcache_count=0"
ZEROED, FILLED = 255, 1
"""For CLEAN: memory of zeros, and of bytes 0xFE."""
UNNAMED = "without a name"
KEPT = ("PATH", "PYTHONPATH", "PYTHONSAFEPATH", "LD_LIBRARY_PATH", "TMPDIR", "LANG")


def require_emulator() -> None:
    """Refuse to compile or run where the emulator is not.

    Raises:
        NotRun: the text says what is missing.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise NotRun("Qualcomm's emulator is run on Linux for x86-64 alone; elsewhere the binaries are not run")
    if importlib.util.find_spec("onnxruntime_qnn") is None:
        raise NotRun(f"Qualcomm's emulator is in {PACKAGE}; type: pip install 'mobileclip-deploy[qnn]'")


def engine(chip: Chip) -> str:
    """What answers for a chip, with its version."""
    own, runtime = (importlib.metadata.version(name) for name in (PACKAGE, "onnxruntime"))
    return f"Qualcomm's emulator of Hexagon v{chip.architecture} ({PACKAGE} {own}, ONNX Runtime {runtime})"


@dataclass(frozen=True)
class Compilation:
    """What the compiler made of a model for a chip: `context`, the model of one node that ONNX Runtime wrote, and the
    `binary` that it names; how many operations the model had when it was placed, and those that are `left` to the CPU;
    bytes that are `spilled`.
    """

    context: bytes
    binary: bytes
    operations: int
    left: tuple[Left, ...]
    spilled: int = 0


def compile_for(source: Path, *chips: Chip, cpu: bool = False, tokens: int = 0, fill: int = ZEROED) -> Compilation:
    """Compile an ONNX model for a chip's NPU, its batch fixed to one; for several chips as one binary.

    Args:
        cpu: operations that the NPU does not take may stay on the CPU; without, `context` is empty where there are any.
        tokens: what a free second dimension is fixed to.
        fill: of the memory that the compiler allocates, and thus of the padding in the binary.

    Raises:
        ExportError: the compiler refused the model, died, or did not return in time.
        NotRun: there is no compiler here.
    """
    require_emulator()
    with temporary_folder() as folder:
        # By a name alone, because the compiler calls the graph after the path that it is given: each length another.
        name = f"{source.stem}-{tokens}.onnx" if tokens else source.name
        (folder / name).symlink_to(source.absolute())
        ended = _ask(folder, "compile", name, *numbers(chips), "on" if cpu else "off", tokens, fill=fill)
        operations, left = _placed(folder / TRACE)
        if ended is not None and not left:
            raise ExportError(f"Qualcomm's compiler {ended} ({source.stem}, {', '.join(one.code for one in chips)})")
        if ended is not None:
            return Compilation(b"", b"", operations, left)
        context = (folder / COMPILED).read_bytes()
        told = folder / SPILLED
        spilled = int(told.read_text(encoding="utf-8")) if told.exists() else 0
        return Compilation(context, (folder / BINARY).read_bytes(), operations, _named(left, context), spilled)


def placement(chip: Chip, source: Path, tokens: int = 0) -> Compilation:
    """A compilation that tells by name what the NPU does not take: where the CPU may help at all, it is given the
    DequantizeLinear of a quantized output too, which the NPU takes where it may not.

    Raises:
        ExportError, NotRun: see `compile_for`.
    """
    made = compile_for(source, chip, tokens=tokens)
    return compile_for(source, chip, cpu=True, tokens=tokens) if made.left else made


def _placed(trace: Path) -> tuple[int, tuple[Left, ...]]:
    """How many operations the compiler was given, and those that it did not take; nothing without a trace."""
    try:
        told: dict[str, Any] = json.loads(trace.read_text(encoding="utf-8"))
    except OSError:
        return 0, ()
    refused = [Left(one["op_type"], one["node_name"] or UNNAMED, one["reason"]) for one in told["unsupported_nodes"]]
    return told["summary"]["total_onnx_nodes"], tuple(refused)


def _named(left: tuple[Left, ...], context: bytes) -> tuple[Left, ...]:
    """The same, called as they are in the model that was written, where they stand around the binary: the compiler
    does not name an operation by its result."""
    around = iter(onnx.ModelProto.FromString(context).graph.node) if left else iter(())
    found = []
    for one in left:
        node = next((node for node in around if node.op_type == one.type), None)
        found.append(one if node is None else replace(one, name=node.name or node.output[0]))
    return tuple(found)


def _ask(folder: Path, *words: object, fill: int = ZEROED) -> str | None:
    """Run the process in a folder; says how it ended, None where it did what it was asked."""
    command, environment = python("-m", PROCESS, *map(str, words))
    kept = {name: value for name, value in environment.items() if name in KEPT}
    log = folder / "log"
    with log.open("wb") as out:
        returned, end = run_within(
            command, SECONDS, env=kept | {"GLIBC_TUNABLES": CLEAN.format(fill)}, cwd=folder, stdout=out, stderr=out
        )
    if returned == 0:
        return None
    return end if returned is None or returned < 0 else f"{end}: {_reason(log.read_text(errors='replace'))}"


def _reason(log: str) -> str:
    """What the runtime raised, without the places in its own sources."""
    said = [line for line in uncoloured(log).splitlines() if line.startswith(FAILED)]
    return first_sentence(ValueError(said[-1].removeprefix(FAILED).rpartition("] ")[2])) if said else "it says nothing"


class EmulatorRunner:
    """Context binaries of a chip on Qualcomm's emulator, one process for each call.

    Args:
        contexts: the .onnx that names a binary, by the shape of its input; whoever calls has looked at it.
        port: their input.

    Raises:
        NotRun: there is no emulator here.
    """

    def __init__(self, chip: Chip, contexts: Mapping[tuple[int, ...], Path], port: TensorInfo) -> None:
        require_emulator()
        self._chip, self._contexts, self._port = chip, contexts, port
        self.engine = engine(chip)

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """Answers to inputs of a tower.

        Raises:
            InvalidInput: another shape, or pixels outside of [0, 1].
            RuntimeFailed: the emulator refused the binary, died, or did not answer in time.
        """
        require_shape(inputs, self._port.shape)
        context = self._contexts.get((1, *inputs.shape[1:]))
        if context is None:
            taken = " or ".join(str(list(shape)) for shape in self._contexts)
            raise InvalidInput(f"input of shape {list(inputs.shape)}; there are binaries for {taken}")
        (answers,) = emulated(self._chip, context, self._port, inputs).values()
        return answers


def emulated(
    chip: Chip, model: Path, port: TensorInfo, inputs: npt.NDArray[np.generic]
) -> dict[str, npt.NDArray[np.float32]]:
    """All results of a context binary, or of a model to be compiled, on the emulator of a chip, by name, [N, ...] each.

    Raises:
        InvalidInput: pixels outside of [0, 1].
        NotRun: there is no emulator here.
        RuntimeFailed: the model was refused, or the emulator died, or did not answer in time.
    """
    require_emulator()
    _require_range(inputs, port)
    with temporary_folder() as folder:
        given, answers = folder / "inputs.npy", folder / "answers.npz"
        np.save(given, inputs.astype(port.dtype))
        ended = _ask(folder, "answer", model.absolute(), chip.architecture, chip.soc, given, answers)
        if ended is not None:
            raise RuntimeFailed(f"Qualcomm's emulator {ended} ({model.name})")
        with np.load(answers) as found:
            return {name: found[name].astype(np.float32) for name in found}


def _require_range(inputs: npt.NDArray[Any], port: TensorInfo) -> None:
    """In float16 pixels of 0 ... 255 overflow on their way, and what comes out is finite, plausible and wrong."""
    if port.dtype == "float32" and len(inputs) and not (inputs.min() >= 0 and inputs.max() <= 1):
        raise InvalidInput(
            "pixels are not in [0, 1]; divide bytes by 255: out of range an NPU answers plausibly and wrong"
        )
