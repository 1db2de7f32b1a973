"""Private parts of Core AI's packages: MLIR's Python bindings, and the members of a program."""

from functools import cache
from types import SimpleNamespace
from typing import Any

from mobileclip_deploy.targets.vendor_internals import Private

VERSION = "1.0.0b3"
IR = (
    "F32Type",
    "FunctionType",
    "InsertionPoint",
    "Location",
    "Operation",
    "RankedTensorType",
    "StringAttr",
    "TypeAttr",
)
DIALECT = ("FourCC", "FourCCAttr", "ImageType", "constant")
BINDINGS = [Private("coreai-core", VERSION, "coreai._compiler.ir", name) for name in IR]
BINDINGS += [Private("coreai-core", VERSION, "coreai._compiler.dialects.coreai", name) for name in DIALECT]
# Member of an `AIProgram`.
MODULE = Private("coreai-core", VERSION, "coreai.authoring", "_module._mlir_module")
# Importing it registers the operations `torch.ops.coreai`.
LAYERS = Private("coreai-torch", "0.4.3", "coreai_torch._compression.custom_layers", "__name__")


@cache
def mlir() -> Any:
    """Returns MLIR's types, operations and locations, and constants and images of Core AI's dialect, as attributes by
    name."""
    return SimpleNamespace(**{binding.name: binding() for binding in BINDINGS})
