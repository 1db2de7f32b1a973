"""What other packages keep for themselves and is used here, one file per package; and an attribute of theirs exchanged
for a while.

A name that begins with an underscore may be gone in the next release. So each stands here once, with the version that
has it, and is asked for when it is used.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mobileclip_deploy.errors import DependencyMissing

__all__ = ["Private", "exchanged"]


@dataclass(frozen=True)
class Private:
    """A private name of a package: `name` in `module`, perhaps of a class (`Block._visit`); `version` has it."""

    package: str
    version: str
    module: str
    name: str

    def __call__(self, owner: Any = None) -> Any:
        """What has this name.

        Args:
            owner: an object of the module, where the name is one of its attributes.

        Raises:
            DependencyMissing: the installed version does not have it.
        """
        try:
            start = importlib.import_module(self.module) if owner is None else owner
            return functools.reduce(getattr, self.name.split("."), start)
        except (ImportError, AttributeError) as error:
            raise DependencyMissing(
                f"{self.package} has no {self.name} ({self.module}), which {self.version} has; "
                f"pip install {self.package}=={self.version}"
            ) from error


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
