"""The classes that networks were trained to tell apart, in the order of their logits."""

from __future__ import annotations

from functools import cache
from typing import Literal

from mobileclip_deploy.model.open_clip_files import open_clip_module

__all__ = ["ClassSet", "class_names"]

ClassSet = Literal["imagenet_1k"]

# open_clip's list is made for prompts, and calls two pairs of classes by one name. WordNet's first words for one of
# each pair.
TOLD_APART = {744: "projectile", 836: "sunglass"}


@cache
def class_names(classes: ClassSet) -> tuple[str, ...]:
    """Of the 1,000 classes of ImageNet the names that OpenAI curated, each once.

    Raises:
        DependencyMissing: open_clip_torch is not installed.
    """
    names = open_clip_module("zero_shot_metadata").IMAGENET_CLASSNAMES
    return tuple(TOLD_APART.get(number, name) for number, name in enumerate(names))
