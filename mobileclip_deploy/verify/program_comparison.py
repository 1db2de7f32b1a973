"""Two Core ML programs side by side: the first operation that one has and the other has not, or has otherwise.

Conversion is deterministic: the same checkpoint gives the same operations under the same names. So a written program
can be compared, operation by operation, with one that is converted now: wiring, parameters, weights, and where inputs
are given what each computes on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.mil import Operation, Precision, Program

__all__ = ["Explanation", "compare_programs", "is_half", "relative_deviation"]

VALUE_BOUND = 1e-4  # relative, of a result: two evaluations of the same graph here agree to the bit
WEIGHT_BOUND = {"float32": 1e-5, "float16": 1e-4}  # relative, of a constant: folding elsewhere rounds otherwise


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
        moved = f"; its result deviates by {self.relative:.1e}" if self.relative is not None else ""
        return f"{self.tower} tower: {self.where()}{moved}"

    def where(self) -> str:
        """Which operation, if it is one, and what of it."""
        if not self.type:
            return self.detail
        return f"{self.type} {self.operation!r} (operation {self.position} of {self.operations}): {self.detail}"


def compare_programs(tower: str, written: Program, fresh: Program, feeds: Sequence[Mapping[str, Any]]) -> Explanation:
    """The first difference between a written program and the one that it should be.

    Args:
        tower: for the report.
        written: the program under suspicion.
        fresh: the program that it should be.
        feeds: inputs for both; the earliest operation that deviates on any of them counts. Without any the programs
            are compared as written, and may have been loaded without evaluation.
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
    bound = WEIGHT_BOUND["float16" if is_half(fresh) else "float32"]
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
    relative = relative_deviation(have, want)
    if relative <= bound:
        return None
    return f"is {_short(have)}, not {_short(want)}" if want.size <= 4 else f"is off by {relative:.1e} (relative)"


def _short(array: np.ndarray[Any, Any]) -> str:
    values = array.reshape(-1)[:4].tolist()
    text = ", ".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in values)
    return text if array.size == 1 else f"[{text}{', ...' if array.size > 4 else ''}]"


def relative_deviation(have: Any, want: Any) -> float:
    """Deviation relative to the norm; infinite where either side is not finite and they are not equal."""
    a, b = np.asarray(have, np.float64), np.asarray(want, np.float64)
    if a.shape != b.shape:
        return float("inf")
    if np.array_equal(a, b):
        return 0.0
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        relative = float(np.linalg.norm(a - b) / np.linalg.norm(b))
    return relative if np.isfinite(relative) else float("inf")


def is_half(program: Program) -> bool:
    return any(result.dtype == "float16" for operation in program.operations for result in operation.outputs)


def _deviations(written: Program, fresh: Program, feed: Mapping[str, Any], shared: int) -> Iterator[tuple[int, float]]:
    """The first of the `shared` first operations whose results deviate beyond the bound, if any."""
    precision: Precision = "float16" if is_half(fresh) else "float32"
    pairs = zip(written.trace(feed, precision), fresh.trace(feed, precision), strict=False)
    try:
        for index, (have, want) in enumerate(pairs):
            if index >= shared:
                return
            relative = max(relative_deviation(have.values[name], value) for name, value in want.values.items())
            if relative > VALUE_BOUND:
                yield index, relative
                return
    except InvalidInput:
        return  # the written program does not run to its end: what differs in it has been found without running
