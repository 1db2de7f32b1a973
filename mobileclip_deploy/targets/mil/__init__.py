"""An evaluator of Core ML's ML programs: it reads a .mlpackage as written and computes it with torch, on any system.

Core ML runs on Apple's systems only. This package computes the results of a written package anywhere:

    from mobileclip_deploy.targets.mil import load

    program = load("image.mlpackage")
    print(program.inputs)                               # names, shapes, colour layout, scale and bias
    outputs = program({"image": pixels})                # uint8 [H, W, 3] in RGB order -> {"out": float32 [1, 512]}
    outputs = program({"image": pixels}, "float16")     # every float16 result rounded to float16
    for step in program.trace({"image": pixels}):       # the results of each operation
        print(step.operation.type, step.operation.name, {name: v.shape for name, v in step.values.items()})
    for weight in program.weights:                      # the stored weights, and their compression
        print(weight.name, weight.kind, weight.bytes)

Nothing of the converter's memory is used. The specification is parsed by coremltools' protobuf classes (without
importing the rest of coremltools), and the weight file is read by this package. A package is treated as untrusted:
contradictions raise `InvalidInput` in one line, nothing outside the package is read, and every declared size is checked
against the files. An op that is not defined here raises `UnsupportedOperation`, which lists where it occurs.

Emulated are the definition of each op as coremltools documents it, in float32, and the rounding of results to float16.
Not emulated are the order of a device's sums, its approximations of functions, and saturation inside an op.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mobileclip_deploy.targets.inspection import PortInspection as Port

if TYPE_CHECKING:
    from mobileclip_deploy.targets.mil.description import Argument as Argument
    from mobileclip_deploy.targets.mil.description import Operation as Operation
    from mobileclip_deploy.targets.mil.description import Weight as Weight
    from mobileclip_deploy.targets.mil.plan import UnsupportedOperation as UnsupportedOperation
    from mobileclip_deploy.targets.mil.program import Computed as Computed
    from mobileclip_deploy.targets.mil.program import Precision as Precision
    from mobileclip_deploy.targets.mil.program import Program as Program
    from mobileclip_deploy.targets.mil.program import load as load

MODULES = {
    "description": ("Argument", "Operation", "Weight"),
    "plan": ("UnsupportedOperation",),
    "program": ("Computed", "Precision", "Program", "load"),
}
"""Names by module, imported on first use: the evaluator needs torch, and lint of other targets does not."""
_MODULE_OF = {name: module for module, names in MODULES.items() for name in names}
__all__ = ["Port", *_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
