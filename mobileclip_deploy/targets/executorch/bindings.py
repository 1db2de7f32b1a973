"""ExecuTorch's runtime, imported with this module: in 1.2 seconds of processor time instead of 4.6.

The bindings import the exporter, and with it torch's compiler, only for the class of one warning. A temporary empty
module replaces the exporter during the import.
"""

import sys
import warnings
from types import ModuleType

__all__ = ["portable_lib", "runtime"]

BINDINGS = "executorch.extension.pybindings.portable_lib"
EXPORTER = "executorch.exir"

if not {BINDINGS, EXPORTER} & sys.modules.keys():
    import executorch

    _WARNING = f"{EXPORTER}._warnings"
    sys.modules[EXPORTER], sys.modules[_WARNING] = ModuleType(EXPORTER), ModuleType(_WARNING)
    sys.modules[EXPORTER]._warnings = sys.modules[_WARNING]  # type: ignore[attr-defined]
    sys.modules[_WARNING].ExperimentalWarning = FutureWarning  # type: ignore[attr-defined]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            import executorch.extension.pybindings.portable_lib
    finally:
        del sys.modules[EXPORTER], sys.modules[_WARNING]
        vars(executorch).pop("exir", None)

from executorch import runtime  # noqa: E402
from executorch.extension.pybindings import portable_lib  # noqa: E402
