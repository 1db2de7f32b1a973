"""Where a Core ML artifact parts from its checkpoint: the first operation that differs from a fresh conversion.

Conversion is deterministic: the same checkpoint gives the same operations under the same names. So the artifact is
compared, operation by operation, with one that is converted now: parameters, weights, and what each computes on real
inputs. Where all of that agrees, precision is what costs, and the artifact is compared with its float32 twin instead.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from mobileclip_deploy.architecture import MobileCLIP
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.linting import program_input
from mobileclip_deploy.mil import Operation, Precision, Program, load
from mobileclip_deploy.reference import Inputs
from mobileclip_deploy.targets import ExportOptions, get_target
from mobileclip_deploy.towers import TowerName
from mobileclip_deploy.verification import silent, tower_job

__all__ = ["Explanation", "compare_programs", "drift", "explain_bundle"]

VALUE_BOUND = 1e-4  # relative, of a result: two evaluations of the same graph here agree to the bit
WEIGHT_BOUND = {"float32": 1e-5, "float16": 1e-4}  # relative, of a constant: folding elsewhere rounds otherwise
DRIFT_BOUND = 1e-2  # relative, of a result at reduced precision
INPUTS = 3


class Explanation(BaseModel):
    """What was found for one tower.

    `finding`: `unreadable`; `interface` (an input or output is not what a conversion gives); `operation` (this one
    is another, has other parameters or computes something else: the first such); `precision` (the same graph and
    weights; this operation is the first whose result precision moves by more than `bound`); `none`.
    `relative` is the deviation of its result, `before` the last operation that still agreed, `position` its number.
    """

    model_config = ConfigDict(frozen=True)

    tower: str
    finding: Literal["unreadable", "interface", "operation", "precision", "none"]
    detail: str
    type: str | None = None
    operation: str | None = None
    position: int | None = None
    operations: int | None = None
    before: str | None = None
    relative: float | None = None
    bound: float | None = None

    def describe(self) -> str:
        """One line for people."""
        where = (
            f"{self.type} {self.operation!r} (operation {self.position} of {self.operations}): " if self.type else ""
        )
        moved = f"; its result deviates by {self.relative:.1e}" if self.relative is not None else ""
        return f"{self.tower} tower: {where}{self.detail}{moved}"


def explain_bundle(
    bundle: Bundle, model: MobileCLIP, inputs: Inputs, progress: Callable[[str], None] = silent
) -> tuple[Explanation, ...]:
    """Explain every tower of a Core ML bundle.

    Args:
        bundle: as opened.
        model: its checkpoint, folded.
        inputs: real inputs; the first few are used.
        progress: told what starts next.

    Raises:
        UsageError: the bundle is of another target.
    """
    if bundle.manifest.target != "coreml":
        raise UsageError(f"only Core ML bundles can be explained op by op; this one is for {bundle.manifest.target}")
    found = []
    for tower in bundle.manifest.towers:
        progress(f"{bundle.path.name}: {tower} tower, a fresh conversion to compare with")
        found.append(_explain(bundle, tower, model, inputs))
    return tuple(found)


def _explain(bundle: Bundle, tower: TowerName, model: MobileCLIP, inputs: Inputs) -> Explanation:
    precision = bundle.manifest.towers[tower].precision
    try:
        written = load(bundle.artifact(tower))
    except InvalidInput as error:
        return Explanation(tower=tower, finding="unreadable", detail=str(error))
    with tempfile.TemporaryDirectory(prefix="mobileclip-explain-") as folder:
        fresh = _convert(bundle, tower, model, precision, Path(folder) / "fresh.mlpackage")
        feeds = [program_input(fresh, inputs, index) for index in range(min(INPUTS, len(inputs.of(tower))))]
        found = compare_programs(tower, written, fresh, feeds)
        if found.finding != "none" or precision == "fp32":
            return found
        twin = _convert(bundle, tower, model, "fp32", Path(folder) / "twin.mlpackage")
        return drift(tower, written, twin, feeds)


def _convert(bundle: Bundle, tower: TowerName, model: MobileCLIP, precision: str, path: Path) -> Program:
    options = ExportOptions.restored(bundle.manifest.options)
    get_target("coreml").export(tower_job(model, tower, precision, options), path)
    return load(path)


def compare_programs(tower: str, written: Program, fresh: Program, feeds: Sequence[Mapping[str, Any]]) -> Explanation:
    """The first difference between a written program and the one that it should be.

    Args:
        tower: for the report.
        written: the program under suspicion.
        fresh: the program that it should be.
        feeds: inputs for both; the earliest operation that deviates on any of them counts.
    """
    interface = _interface(written, fresh)
    if interface is not None:
        return Explanation(tower=tower, finding="interface", detail=interface)
    count = len(fresh.operations)
    parted = next(_differences(written, fresh), None)
    shared = parted.position if parted is not None and parted.structural else count
    moved = min((hit for feed in feeds for hit in _deviations(written, fresh, feed, shared)), default=None)
    if parted is None and moved is None:
        return Explanation(tower=tower, finding="none", detail="the same operations and weights as a fresh conversion")
    if parted is None or (moved is not None and moved[0] < parted.position):
        assert moved is not None
        parted = _Difference(moved[0], "computes something else", written.operations[moved[0]])
    index = parted.position
    return Explanation(
        tower=tower,
        finding="operation",
        detail=parted.detail,
        type=parted.operation.type,
        operation=parted.operation.name,
        position=index + 1,
        operations=count,
        before=fresh.operations[index - 1].name if index else None,
        relative=moved[1] if moved is not None and moved[0] == index else None,
        bound=VALUE_BOUND,
    )


@dataclass(frozen=True)
class _Difference:
    """A difference in what is written: where, in words, at which operation, and whether the graph itself differs."""

    position: int
    detail: str
    operation: Operation
    structural: bool = False


def _interface(written: Program, fresh: Program) -> str | None:
    for what in ("inputs", "outputs"):
        have, want = getattr(written, what), getattr(fresh, what)
        if len(have) != len(want):
            return f"{len(have)} {what}, a conversion gives {len(want)}"
        for port, wanted in zip(have, want, strict=True):
            for name in ("name", "kind", "dtype", "shape", "colour"):
                if getattr(port, name) != getattr(wanted, name):
                    return (
                        f"the {what[:-1]} {port.name!r} has {name} {getattr(port, name)}, not {getattr(wanted, name)}"
                    )
    return None


def _results(operation: Operation) -> list[str | None]:
    return [result.name for result in operation.outputs]


def _differences(written: Program, fresh: Program) -> Iterator[_Difference]:
    """Where the operations, their wiring or their constants differ, in program order; ends where the graphs part."""
    bound = WEIGHT_BOUND["float16" if _is_half(fresh) else "float32"]
    ours, theirs = ({op.name for op in program.operations} for program in (written, fresh))
    for index, (have, want) in enumerate(zip_longest(written.operations, fresh.operations)):
        if have is None or (want is not None and want.name not in ours):
            yield _Difference(index, "is missing", want, structural=True)
            return
        if want is None or have.name not in theirs:
            yield _Difference(index, "is not in a conversion", have, structural=True)
            return
        if have.type != want.type or _results(have) != _results(want):
            yield _Difference(index, f"is {want.type} {want.name!r} in a conversion", have, structural=True)
            return
        changed = _changed_inputs(have, want, bound)
        if changed is not None:
            yield _Difference(index, changed, have)


def _changed_inputs(have: Operation, want: Operation, bound: float) -> str | None:
    for name in want.inputs.keys() - have.inputs.keys():
        return f"lacks its {name}"
    for name in have.inputs.keys() - want.inputs.keys():
        return f"has an input {name} that a conversion does not write"
    for name, expected in want.inputs.items():
        wires = [None if argument.constant else argument.name for argument in have.inputs[name]]
        wanted = [None if argument.constant else argument.name for argument in expected]
        if wires != wanted:
            return f"its {name} comes from {wires}, not {wanted}"
        if all(argument.constant for argument in expected):
            text = _changed_constant(have.constant(name), want.constant(name), bound)
            if text is not None:
                return f"its {name} {text}"
    return None


def _changed_constant(have: Any, want: Any, bound: float) -> str | None:
    if not isinstance(have, np.ndarray) or not isinstance(want, np.ndarray):
        return None if have == want else f"is {have!r}, not {want!r}"
    if have.shape != want.shape:
        return f"has shape {list(have.shape)}, not {list(want.shape)}"
    if want.dtype.kind != "f":
        return None if np.array_equal(have, want) else f"is {_short(have)}, not {_short(want)}"
    relative = _relative(have, want)
    if relative <= bound:
        return None
    return f"is {_short(have)}, not {_short(want)}" if want.size <= 4 else f"is off by {relative:.1e} (relative)"


def _short(array: np.ndarray[Any, Any]) -> str:
    values = array.reshape(-1)[:4].tolist()
    text = ", ".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in values)
    return text if array.size == 1 else f"[{text}{', ...' if array.size > 4 else ''}]"


def _relative(have: Any, want: Any) -> float:
    """Deviation relative to the norm; infinite where either side is not finite and they are not equal."""
    a, b = np.asarray(have, np.float64), np.asarray(want, np.float64)
    if a.shape != b.shape:
        return float("inf")
    if np.array_equal(a, b):
        return 0.0
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        relative = float(np.linalg.norm(a - b) / np.linalg.norm(b))
    return relative if np.isfinite(relative) else float("inf")


def _is_half(program: Program) -> bool:
    return any(result.dtype == "float16" for operation in program.operations for result in operation.outputs)


def _deviations(written: Program, fresh: Program, feed: Mapping[str, Any], shared: int) -> Iterator[tuple[int, float]]:
    """The first of the `shared` first operations whose results deviate beyond the bound, if any."""
    precision: Precision = "float16" if _is_half(fresh) else "float32"
    pairs = zip(written.trace(feed, precision), fresh.trace(feed, precision), strict=False)
    try:
        for index, (have, want) in enumerate(pairs):
            if index >= shared:
                return
            relative = max(_relative(have.values[name], value) for name, value in want.values.items())
            if relative > VALUE_BOUND:
                yield index, relative
                return
    except InvalidInput:
        return  # the written program does not run to its end: what differs in it has been found without running


def drift(tower: str, written: Program, twin: Program, feeds: Sequence[Mapping[str, Any]]) -> Explanation:
    """Where precision costs: the first operation whose result is further from the float32 twin's than `DRIFT_BOUND`.

    Operations are matched by type and name, to which conversion to float16 adds a suffix.
    """
    worst: dict[str, float] = {}
    for feed in feeds:
        exact = {_plain(step.operation): step.values for step in twin.trace(feed)}
        for step in written.trace(feed, "float16" if _is_half(written) else "float32"):
            name, values = step.operation.name, list(step.values.values())
            wanted = list(exact.get(_plain(step.operation), {}).values())
            if step.operation.type != "cast" and list(map(np.shape, wanted)) == list(map(np.shape, values)):
                worst[name] = max(worst.get(name, 0.0), max(map(_relative, values, wanted)))
    names = [operation.name for operation in written.operations]
    beyond = next((name for name in names if worst.get(name, 0.0) > DRIFT_BOUND), None)
    if beyond is None:
        largest = max(worst.values(), default=0.0)
        text = f"the same graph and weights as a fresh conversion; precision moves no result by over {largest:.1e}"
        return Explanation(tower=tower, finding="none", detail=text)
    index = names.index(beyond)
    return Explanation(
        tower=tower,
        finding="precision",
        detail=f"the same graph and weights as a fresh conversion; precision first costs over {DRIFT_BOUND:g} here",
        type=written.operations[index].type,
        operation=beyond,
        position=index + 1,
        operations=len(names),
        before=names[index - 1] if index else None,
        relative=worst[beyond],
        bound=DRIFT_BOUND,
    )


def _plain(operation: Operation) -> tuple[str, str]:
    return operation.type, operation.name.removesuffix("_cast_fp16").removesuffix("_to_fp16")
