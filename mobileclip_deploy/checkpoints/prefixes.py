"""Prefixes that training code puts before every key: DistributedDataParallel, torch.compile, Lightning, TinyCLIP."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["plain_names"]

# TinyCLIP keeps its towers and the temperature in modules of their own.
WRAPPERS = ("module.", "_orig_mod.", "_image_encoder.", "_text_encoder.", "_logit_scale.")
# Stripped only where every key has it: `model.` may also be a part of a layout's own names.
COMMON = ("model.", "clip.", "net.")


def plain_names(names: Sequence[str]) -> dict[str, str]:
    """The names without wrappers' prefixes: {plain: as in the file}. Shorter than `names` when two become one."""
    stripped = {_unwrapped(name): name for name in names}
    for prefix in COMMON:
        if stripped and all(plain.startswith(prefix) for plain in stripped):
            return {_unwrapped(plain.removeprefix(prefix)): name for plain, name in stripped.items()}
    return stripped


def _unwrapped(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name[name.index(".") + 1 :]
    return name
