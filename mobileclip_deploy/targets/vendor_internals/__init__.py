"""Private parts of other packages that are used here, one file per package, and temporary replacement of their
attributes.

A name that begins with an underscore may vanish in the next release. Each is therefore declared here once, with the
version that has it, and looked up when it is used.
"""

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
    """A private name of a package: `name` in `module`, possibly a class attribute (`Block._visit`). `version` has
    it."""

    package: str
    version: str
    module: str
    name: str

    def __call__(self, owner: Any = None) -> Any:
        """Returns the value of this name.

        Args:
            owner: an object of the module, if the name is one of its attributes.

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
    """Context manager that replaces the attribute `name` of `owner`, a module or a class, by `other`."""
    is_own = name in vars(owner)  # otherwise a base class has it, or nothing
    previous = inspect.getattr_static(owner, name, None)  # keeps a static method as such
    setattr(owner, name, other)
    try:
        yield
    finally:
        if is_own:
            setattr(owner, name, previous)
        else:
            delattr(owner, name)
