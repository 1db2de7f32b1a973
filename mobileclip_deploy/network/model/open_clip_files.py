"""Single modules of open_clip, read without the package around them, whose import takes seconds. Also the class names
of networks that were trained as classifiers."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, Literal

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


ClassSet = Literal["imagenet_1k"]

# open_clip's list is made for prompts, and gives two pairs of classes the same name. WordNet's first words for one of
# each pair.
TOLD_APART = {744: "projectile", 836: "sunglass"}


@cache
def class_names(classes: ClassSet) -> tuple[str, ...]:
    """Returns names of ImageNet's 1,000 classes as OpenAI curated them, all different.

    Raises:
        DependencyMissing: open_clip_torch is not installed.
    """
    names = open_clip_module("zero_shot_metadata").IMAGENET_CLASSNAMES
    return tuple(TOLD_APART.get(index, name) for index, name in enumerate(names))
