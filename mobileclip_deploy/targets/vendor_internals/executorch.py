"""Private parts of ExecuTorch, and a faster lowering that skips passes without effect on the networks here.

A pass of XNNPACK searches for operations and then traces its part again, whether it found any or not: nine of seventeen
times without effect. Two of the passes first export examples of the operations that they search for. With them nano's
image and text tower took 10.0 and 5.0 seconds of processor time in float32, without them 6.5 and 3.4; the bytes are the
same.
"""

import contextlib
import functools
import gc
import importlib
from collections.abc import Callable, Iterator
from typing import Any

from mobileclip_deploy.targets.vendor_internals import Private, exchanged

# This package's module, which imports the runtime quickly.
BINDINGS = "mobileclip_deploy.targets.executorch.bindings"
LOAD = Private("executorch", "1.5.1", BINDINGS, "portable_lib._load_for_executorch")
SET_THREADS = Private("executorch", "1.5.1", BINDINGS, "portable_lib._unsafe_reset_threadpool")
PASSES = "executorch.backends.xnnpack._passes"

BATCH_NORM = ("aten.native_batch_norm.default", "aten._native_batch_norm_legit_no_training.default")
# Operations that a pass of XNNPACK (executorch 1.5) searches: without any of them in its part it changes nothing.
LOOKS_FOR = {
    "ConvertToUpsampleBilinear2d": ("aten.upsample_bilinear2d.vec",),
    "ConvertToSDPAPass": ("aten.any.dim",),  # from a softmax that handles fully masked rows
    "FuseBatchNormPass": BATCH_NORM,
    "DecomposeBatchNorm": BATCH_NORM,
    "FuseActivationPass": ("aten.relu.default", "aten.hardtanh.default"),
    "DecomposeConcatenate": ("aten.cat.default",),
    "RemoveGetItemPass": ("aten.max_pool2d_with_indices.default", "aten.max.dim"),
    "InsertPadQDQPass": ("aten.constant_pad_nd.default",),
    "Conv1dUnsqueezePass": ("aten.convolution.default",),
    "PReLUReshapePass": ("aten._prelu_kernel.default", "aten.prelu.default"),
}

IDLE = {name: Private("executorch", "1.5.1", PASSES, name) for name in LOOKS_FOR}


def import_exir() -> None:
    """Imports the base of executorch's compiler in three quarters of the time. Must run before any other import of it.

    It reads 8,000 lines of YAML with a parser in Python; PyYAML has a parser in C.
    """
    import yaml
    from ruamel.yaml import YAML

    if yaml.__with_libyaml__:
        with exchanged(YAML, "load", lambda _, text: yaml.load(text, yaml.CSafeLoader)):
            importlib.import_module("executorch.exir.dialects.edge._ops")


@contextlib.contextmanager
def released_weights() -> Iterator[None]:
    """Context manager around a lowering that frees its graphs, and with them the weights, at the end.

    Three caches would keep them, 1.3 GB of S4's image tower:

    - `is_same_node` (executorch 1.5) caches its results by node without a bound, and a node holds its graph.
    - torch 2.13 caches the shapes of a delegate's results by the delegate.
    - XNNPACK's partitioner remembers the node that it last left out.

    Graphs are reference cycles, which Python may collect much later, so they are collected here.
    """
    from executorch.exir.backend.utils import WhyNoPartition, is_same_node
    from torch._subclasses import FakeTensorMode

    def tell(self: Any, node: Any, reason: str) -> None:
        self.logger.debug("%s is not partitioned: %s", node, reason)

    try:
        with exchanged(WhyNoPartition, "__call__", tell):
            yield
    finally:
        is_same_node.cache_clear()
        FakeTensorMode.cache_clear()
        gc.collect()


@contextlib.contextmanager
def without_idle_passes() -> Iterator[None]:
    """Context manager in which a pass without matching operations leaves its part unchanged."""
    with contextlib.ExitStack() as leaner:
        for name, operations in LOOKS_FOR.items():
            kind = IDLE[name]()
            leaner.enter_context(exchanged(kind, "call", _unless_idle(kind.call, operations)))
        yield


def _unless_idle(call: Callable[..., Any], operations: tuple[str, ...]) -> Callable[..., Any]:
    from torch.fx.passes.infra.pass_base import PassResult

    @functools.wraps(call)
    def checked(self: Any, graph_module: Any) -> Any:
        names = {getattr(node.target, "__name__", "") for node in graph_module.graph.nodes}
        return PassResult(graph_module, False) if names.isdisjoint(operations) else call(self, graph_module)

    return checked
