"""mobileclip-deploy: a trained MobileCLIP checkpoint to Core ML, ONNX and ExecuTorch, proven to be the same model.

import mobileclip_deploy as mcd

model = mcd.load_model("mobileclip_s0", "mobileclip_s0.pt")
report = mcd.reparameterize(model)
bundle = mcd.export(model, target="coreml", precision="fp16", output="out/")
result = mcd.verify(bundle)
runner = mcd.load_runner(bundle, tower="image")
"""

from __future__ import annotations

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


def __getattr__(name: str) -> Any:
    """Import the API when it is first used: the command line's --help needs none of torch."""
    if name in __all__:
        from mobileclip_deploy import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
