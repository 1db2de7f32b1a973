"""mobileclip-deploy: a trained MobileCLIP checkpoint to Core ML, ONNX and ExecuTorch, proven to be the same model.

import mobileclip_deploy as mcd

model = mcd.load_model("mobileclip_s0", "mobileclip_s0.pt")
report = mcd.reparameterize(model)
bundle = mcd.export(model, target="coreml", precision="fp16", output="out/")
result = mcd.verify(bundle)
runner = mcd.load_runner(bundle, tower="image")
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mobileclip_deploy.api import (
        Bundle,
        FoldReport,
        MobileCLIP,
        MobileClipDeployError,
        ParityReport,
        Runner,
        compare,
        embed,
        evaluate,
        export,
        load_model,
        load_runner,
        recover,
        reinforce,
        reparameterize,
        train,
        verify,
    )

__all__ = [
    "Bundle",
    "FoldReport",
    "MobileCLIP",
    "MobileClipDeployError",
    "ParityReport",
    "Runner",
    "compare",
    "embed",
    "evaluate",
    "export",
    "load_model",
    "load_runner",
    "recover",
    "reinforce",
    "reparameterize",
    "train",
    "verify",
]


class _Package(ModuleType):
    """`mobileclip_deploy.export` is a room and a public function; whoever asks the package for it means the function.

    Importing a room would put the room's module in the function's place. `from mobileclip_deploy.export import ...`
    looks the room up by its whole name and is not concerned.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Import the API when it is first used: the command line's --help needs none of torch."""
    if name in __all__:
        from mobileclip_deploy import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
