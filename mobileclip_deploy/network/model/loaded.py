"""`MobileCLIP` for annotations and `isinstance`, without the second that torch takes to import, and whether it is
installed."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mobileclip_deploy.network.model.architecture import MobileCLIP as MobileCLIP
else:

    class _Loaded(type):
        def __instancecheck__(cls, value: object) -> bool:
            # Where nothing imported the network's module, nothing is a model.
            module = sys.modules.get("mobileclip_deploy.network.model.architecture")
            return module is not None and isinstance(value, module.MobileCLIP)

    class MobileCLIP(metaclass=_Loaded):
        """A model from `load_model`."""


def torch_installed() -> bool:
    """Returns whether torch is installed, which makes bundles and computes by checkpoints."""
    return importlib.util.find_spec("torch") is not None
