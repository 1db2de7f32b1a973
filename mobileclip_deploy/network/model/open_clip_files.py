"""Single modules of open_clip, read without the package around them, whose import takes seconds."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from mobileclip_deploy.errors import DependencyMissing


def open_clip_module(name: str) -> Any:
    """Returns a module of open_clip that imports no other module of it.

    Raises:
        DependencyMissing: open_clip_torch is not installed.
    """
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise DependencyMissing("open_clip is not installed; type: pip install open_clip_torch")
    file = Path(package.origin).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"mobileclip_deploy._open_clip_{name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
