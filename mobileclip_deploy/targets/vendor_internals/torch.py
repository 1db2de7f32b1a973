"""Faster tracing: work that torch repeats while a converter exports, decomposes and rewrites a graph is done once.

A graph's Python code is generated on first use. Otherwise each of the hundred passes of a lowering generates and
compiles its graph's source. For nano's text tower in int8 by ExecuTorch this happens 1,256 times, and only 51 results
are used. It was a fifth of that export, and a tenth of LiteRT's.
"""

import contextlib
import functools
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mobileclip_deploy.targets.vendor_internals import Private, exchanged

MATERIALIZE = Private("torch", "2.13.0", "torch._export.utils", "_materialize_cpp_cia_ops")
REGISTRATIONS = Private("torch", "2.13.0", "torch", "_C._dispatch_get_registrations_for_dispatch_key")
TREE_CODE = Private("torch", "2.13.0", "torch.fx.graph", "_PyTreeCodeGen")
SUBMODULES = Private("torch", "2.13.0", "torch.fx", "GraphModule._recompile_submodules")
DISPATCH = Private("torch", "2.13.0", "torch.utils._python_dispatch", "TorchDispatchMode")
REGISTRY = Private("torch", "2.13.0", "torch.onnx._internal.exporter._registration", "ONNXRegistry")
GENERATED = ("_code", "_lineno_map", "_prologue_start")


class _Asked:
    """Descriptor on a module's class that generates the module's code on first access, and then removes itself. (Each
    GraphModule has a class.)"""

    def __init__(self, name: str, generate: Callable[[Any], Any]) -> None:
        self.name, self.generate = name, generate

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        if module is None:
            return self
        self.generate(module)
        return getattr(module, self.name)


class _Later:
    """Result of `recompile`: the code, generated on first access to an attribute."""

    def __init__(self, module: Any, generate: Callable[[Any], Any]) -> None:
        self._module, self._generate = module, generate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generate(self._module), name)


@contextlib.contextmanager
def lean_tracing() -> Iterator[None]:
    """Context manager in which torch traces as usual, without work whose results are unused."""
    from torch.fx import GraphModule
    from torch.fx.traceback import NodeSource

    if hasattr(NodeSource, "__deepcopy__"):  # already active: nested use
        yield
        return
    materialize = MATERIALIZE()
    with (
        # Every pass copies every node with its whole chain of source nodes, which are never changed: a seventh of an
        # ExecuTorch export.
        exchanged(NodeSource, "__deepcopy__", lambda self, _: self),
        exchanged(sys.modules[MATERIALIZE.module], MATERIALIZE.name, _when_new(materialize)),
        _code_when_asked_for(GraphModule),
    ):
        yield


def _when_new(materialize: Callable[[], None]) -> Callable[[], None]:
    """Returns a `materialize` that runs only after new registrations. Torch looks up every operation of its registry
    once for each namespace, forty times in a decomposition."""
    registrations = REGISTRATIONS()
    seen: list[str] = []

    def once() -> None:
        nonlocal seen
        registered = registrations("CompositeImplicitAutograd")
        if registered != seen:
            materialize()
            seen = registered

    return once


@contextlib.contextmanager
def _code_when_asked_for(kind: Any) -> Iterator[None]:
    """Context manager that delays the code generation of a changed graph until it is called or read, or the block
    ends."""
    tree_code, submodules = TREE_CODE(), SUBMODULES()
    waiting: weakref.WeakSet[Any] = weakref.WeakSet()
    original = kind.recompile

    def generate(module: Any) -> Any:
        waiting.discard(module)
        for name in GENERATED:
            if isinstance(vars(type(module)).get(name), _Asked):
                delattr(type(module), name)
        return original(module)

    def recompile(module: Any) -> Any:
        if isinstance(module._graph._codegen, tree_code):
            module._in_spec = module._graph._codegen.pytree_info.in_spec
            module._out_spec = module._graph._codegen.pytree_info.out_spec
        type(module).forward = _Asked("forward", generate)
        for name in GENERATED:
            module.__dict__.pop(name, None)
            setattr(type(module), name, _Asked(name, generate))
        submodules(module)
        waiting.add(module)
        return _Later(module, generate)

    try:
        with exchanged(kind, "recompile", recompile):
            yield
    finally:
        for module in list(waiting):
            generate(module)


@contextlib.contextmanager
def torchlib_read_once() -> Iterator[None]:
    """Context manager in which the ONNX exporter reads its library of operators, whose Python source it parses, once
    for each opset.

    Otherwise it reads the library for every export: a third of that of a small tower. Exports only look up operators in
    it.
    """
    registry = REGISTRY()
    with exchanged(registry, "from_torchlib", staticmethod(functools.partial(_torchlib, registry.from_torchlib))):
        yield


@functools.cache
def _torchlib(read: Callable[..., Any], opset_version: int) -> Any:
    return read(opset_version=opset_version)


@contextlib.contextmanager
def operations_told(called: Callable[[str, tuple[Any, ...], Mapping[str, Any]], None]) -> Iterator[None]:
    """Context manager that calls `called` for every torch operation that runs, with its name, such as `mul.Tensor`, and
    its arguments."""

    class Told(DISPATCH()):  # type: ignore[misc]  # torch's class, looked up by its private name
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            called(str(func).removeprefix("aten."), args, kwargs or {})
            return func(*args, **(kwargs or {}))

    with Told():
        yield
