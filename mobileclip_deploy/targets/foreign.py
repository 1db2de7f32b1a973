"""Another library's attribute, exchanged for a while."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

__all__ = ["exchanged"]


@contextlib.contextmanager
def exchanged(owner: Any, name: str, other: Any) -> Iterator[None]:
    """In here `owner`, a module or a class, has `other` under `name`; afterwards what it had."""
    own = name in vars(owner)  # or a base class has it, or nobody
    had = inspect.getattr_static(owner, name, None)  # a static method as such
    setattr(owner, name, other)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, had)
        else:
            delattr(owner, name)
