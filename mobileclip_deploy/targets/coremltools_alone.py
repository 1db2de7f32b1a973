"""coremltools, imported without the packages that it would import only to say that it could convert from them."""

from __future__ import annotations

import sys
from types import ModuleType

__all__ = ["import_coremltools"]

# What nothing here is converted from. That coremltools knows torch, and what stands behind it, stays.
OTHERS = ("sklearn", "executorch")


def import_coremltools() -> ModuleType:
    """The package, imported in 4.6 seconds of processor time instead of 7.9 where ExecuTorch is installed as well.

    Converters from scikit-learn are then missing from it, as they are with a scikit-learn newer than 1.5.
    """
    hidden = [] if "coremltools" in sys.modules else [name for name in OTHERS if name not in sys.modules]
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    modules |= dict.fromkeys(hidden)  # an import of None fails as that of a package that is not installed
    try:
        import coremltools
    finally:
        for name in hidden:
            del modules[name]
    found: ModuleType = coremltools
    return found
