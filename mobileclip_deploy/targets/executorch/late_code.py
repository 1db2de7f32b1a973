"""Python code of torch.fx graphs, generated when something asks for it instead of after every pass.

Each of the hundred passes of a lowering makes its graph into Python source and compiles that; of 1,256 times that this
happens for nano's text tower in int8, the result is looked at 51 times. It was a fifth of the export.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["code_when_asked_for"]

GENERATED = ("_code", "_lineno_map", "_prologue_start")


class _Asked:
    """Stands in a module's class for what its code gives: generates it, and is gone. (Each GraphModule has a class.)"""

    def __init__(self, name: str, generate: Callable[[Any], Any]) -> None:
        self.name, self.generate = name, generate

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        if module is None:
            return self
        self.generate(module)
        return getattr(module, self.name)


class _Later:
    """What `recompile` returns: the code, generated when something of it is wanted."""

    def __init__(self, module: Any, generate: Callable[[Any], Any]) -> None:
        self._module, self._generate = module, generate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generate(self._module), name)


@contextlib.contextmanager
def code_when_asked_for() -> Iterator[None]:
    """In here a changed graph has new code when it is called or read; those that are left at the end get it then."""
    from torch.fx import GraphModule
    from torch.fx.graph import _PyTreeCodeGen

    waiting: weakref.WeakSet[Any] = weakref.WeakSet()
    original = GraphModule.recompile

    def generate(module: Any) -> Any:
        waiting.discard(module)
        for name in GENERATED:
            if isinstance(vars(type(module)).get(name), _Asked):
                delattr(type(module), name)
        return original(module)

    def recompile(module: Any) -> Any:
        if isinstance(module._graph._codegen, _PyTreeCodeGen):
            module._in_spec = module._graph._codegen.pytree_info.in_spec
            module._out_spec = module._graph._codegen.pytree_info.out_spec
        type(module).forward = _Asked("forward", generate)
        for name in GENERATED:
            module.__dict__.pop(name, None)
            setattr(type(module), name, _Asked(name, generate))
        module._recompile_submodules()
        waiting.add(module)
        return _Later(module, generate)

    GraphModule.recompile = recompile  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        GraphModule.recompile = original  # type: ignore[method-assign]
        for module in list(waiting):
            generate(module)
