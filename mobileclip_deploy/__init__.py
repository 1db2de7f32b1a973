"""mobileclip-deploy: a trained MobileCLIP checkpoint to an app's format, proven to be the same model.

import mobileclip_deploy as mcd

model = mcd.load_model("mobileclip_s0", "mobileclip_s0.pt")
report = mcd.reparameterize(model)
bundle = mcd.export(model, target="coreml", precision="fp16", output="out/")
result = mcd.verify(bundle)
runner = mcd.load_runner(bundle, tower="image")
embeddings = runner(mcd.preprocess(["cat.jpg"], bundle))

Every command of the command line has its function here; it stands in the `door` of its room. What a function is given
is held against its annotations on the way through this package (`arguments.checked`), and there alone.
"""

from __future__ import annotations

import ast
import functools
import importlib
import os
import sys
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from mobileclip_deploy.base.arguments import checked

# ONNX Runtime 1.29 and newer tells Microsoft which models a process loads, with a number of this machine, unless this
# stands in the environment when it is imported. What you set yourself stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Hugging Face's packages tell the hub their version and their user's agent with what they fetch.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

# Where each name comes from. Imported when it is first used: the command line's --help needs none of torch.
DOORS = {
    line.module.removeprefix(f"{__name__}."): tuple(one.name for one in line.names)
    for line in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(line, ast.ImportFrom) and line.module
}
__all__ = sorted(name for names in DOORS.values() for name in names)


_checked = functools.cache(checked)


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
    for door, names in DOORS.items():
        if name in names:
            found = getattr(importlib.import_module(f"{__name__}.{door}"), name)
            return _checked(found) if isinstance(found, FunctionType) else found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
