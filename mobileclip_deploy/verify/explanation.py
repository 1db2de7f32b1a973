"""Where a Core ML artifact parts from its checkpoint: the first operation that differs from a fresh conversion.

Where none does, precision is what costs, and the artifact is compared with its float32 twin instead.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.inspect.linting import program_input
from mobileclip_deploy.mil import Operation, Program, load
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.progress import silent
from mobileclip_deploy.targets.conversion import convert_again, lacks_calibration
from mobileclip_deploy.towers.inputs import Inputs
from mobileclip_deploy.verify.program_comparison import Explanation, compare_programs, is_half, relative_deviation

__all__ = ["Explanation", "drift", "explain_bundle"]

DRIFT_BOUND = 1e-2  # relative, of a result at reduced precision
INPUTS = 3


def explain_bundle(
    bundle: Bundle,
    model: MobileCLIP,
    inputs: Inputs,
    progress: Callable[[str], None] = silent,
    *,
    calibration: Path | None = None,
) -> tuple[Explanation, ...]:
    """Explain every tower of a Core ML bundle.

    Args:
        bundle: as opened.
        model: its checkpoint, folded.
        inputs: real inputs; the first few are used.
        progress: told what starts next.
        calibration: the folder of images that the bundle was calibrated on, if on one of the exporter's.

    Raises:
        UsageError: the bundle is of another target, or the images it was calibrated on are not given.
    """
    if bundle.manifest.target != "coreml":
        raise UsageError(f"only Core ML bundles can be explained op by op; this one is for {bundle.manifest.target}")
    found = []
    for tower in bundle.manifest.towers:
        progress(f"{bundle.path.name}: {tower} tower, a fresh conversion to compare with")
        found.append(_explain(bundle, tower, model, inputs, calibration))
    return tuple(found)


def _explain(
    bundle: Bundle, tower: TowerName, model: MobileCLIP, inputs: Inputs, calibration: Path | None
) -> Explanation:
    lacks = lacks_calibration(bundle, tower, calibration)
    if lacks is not None:
        raise UsageError(f"explaining the {tower} tower {lacks}")
    precision = bundle.manifest.towers[tower].precision
    try:
        written = load(bundle.artifact(tower), bundle.manifest.towers[tower].function)
    except InvalidInput as error:
        return Explanation(tower=tower, finding="unreadable", detail=str(error))
    with tempfile.TemporaryDirectory(prefix="mobileclip-explain-") as folder:
        fresh = load(convert_again(bundle, tower, model, precision, Path(folder), calibration))
        feeds = [program_input(fresh, inputs, index) for index in range(min(INPUTS, len(inputs.of(tower))))]
        found = compare_programs(tower, written, fresh, feeds)
        if found.finding != "none" or precision == "fp32":
            return found
        twin_folder = Path(folder) / "twin"
        twin_folder.mkdir()
        twin = load(convert_again(bundle, tower, model, "fp32", twin_folder))
        return drift(tower, written, twin, feeds)


def drift(tower: str, written: Program, twin: Program, feeds: Sequence[Mapping[str, Any]]) -> Explanation:
    """Where precision costs: the first operation whose result is further from the float32 twin's than `DRIFT_BOUND`.

    Operations are matched by type and name, to which conversion to float16 adds a suffix.
    """
    worst: dict[str, float] = {}
    for feed in feeds:
        exact = {_plain(step.operation): step.values for step in twin.trace(feed)}
        for step in written.trace(feed, "float16" if is_half(written) else "float32"):
            name, values = step.operation.name, list(step.values.values())
            wanted = list(exact.get(_plain(step.operation), {}).values())
            if step.operation.type != "cast" and list(map(np.shape, wanted)) == list(map(np.shape, values)):
                worst[name] = max(worst.get(name, 0.0), max(map(relative_deviation, values, wanted)))
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
