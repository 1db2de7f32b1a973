"""What coremltools keeps for itself; and what it does in its 80 passes over a program that does not change the program:
half of their time.

- It checks the whole program after each pass. One check after each pipeline of passes stays.
- It writes the whole program as text, for a log that nobody keeps.
- Whenever a pass is left it finds anew, for every value, which compressed weights it comes from, since what depends on
  one may not be replaced by what does not: also of constants, which come from nothing, and of programs without any.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from mobileclip_deploy.targets.foreign import Private, exchanged
from mobileclip_deploy.targets.mlpackage import import_coremltools

MIL = "coremltools.converters.mil.mil"
APPLY_PASSES = Private("coremltools", "9.0", "coremltools.models.utils", "_apply_graph_pass")
PROPAGATE = Private("coremltools", "9.0", MIL, "Block._propagate_nonreplaceable_vars")
UPSTREAM = Private("coremltools", "9.0", MIL, "Var._set_nonreplaceable_vars_upstream")
STATISTICS = Private(
    "coremltools",
    "9.0",
    "coremltools.optimize.coreml._post_training_quantization",
    "_get_activation_calibration_stats",
)


@contextlib.contextmanager
def measured(ranges: Mapping[str, Mapping[str, float]]) -> Iterator[None]:
    """Have coremltools take these ranges of activations instead of measuring.

    coremltools 9.0 would run the model through Core ML, which exists on macOS only, and keeps only the last sample
    (`_update_tensor_range` overwrites before it compares; fixed after 9.0).
    """
    STATISTICS()
    with exchanged(sys.modules[STATISTICS.module], STATISTICS.name, lambda *_: ranges):
        yield


@contextlib.contextmanager
def lean_passes() -> Iterator[None]:
    """In here coremltools' passes do what they do to a program, and no more; and the names that it gives are counted
    from 0, whatever programs this process has made before: a conversion clears the counts when it ends, not before."""
    import_coremltools()
    from coremltools.converters.mil.mil import Block, Builder, Program, Var
    from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipelineManager

    apply, propagate, upstream = PassPipelineManager.apply_pipeline, PROPAGATE(), UPSTREAM()
    Builder.name_count.clear()

    def apply_pipeline(program: Any, pipeline: Any) -> None:
        program.validate = lambda **_: None
        try:
            with exchanged(Program, "__str__", lambda _: "a program"):
                apply(program, pipeline)
        finally:
            del program.validate
        program.validate()

    def propagate_if_any(block: Any) -> None:
        if any(op.op_type.startswith("constexpr_") for op in block.operations):
            propagate(block)

    def upstream_of_results(var: Any) -> None:
        if var.op is None or var.op.op_type != "const":  # a constant comes from nothing
            upstream(var)

    with (
        exchanged(PassPipelineManager, "apply_pipeline", staticmethod(apply_pipeline)),
        exchanged(Block, "_propagate_nonreplaceable_vars", propagate_if_any),
        exchanged(Var, "_set_nonreplaceable_vars_upstream", upstream_of_results),
    ):
        yield
