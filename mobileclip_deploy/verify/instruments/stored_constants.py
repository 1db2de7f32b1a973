"""Runs a tower with the constants of its code, such as the scale of attention, rounded as a file stores them."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.network.model.architecture.attention import AttentionPool
from mobileclip_deploy.targets.graph import Constant, Graph
from mobileclip_deploy.verify.instruments.tower_settings import Settings, graph_settings


class StoredConstants(TorchFunctionMode):
    """Context manager in which torch computes with the float16 constants of a graph instead of its own.

    A constant is replaced only if the graph contains exactly its float16 rounding. So a wrong constant in the file
    still differs from the reference.

    Args:
        graph: None for a format without a graph; then nothing is replaced.
    """

    def __init__(self, graph: Graph | None) -> None:
        super().__init__()
        self.settings = Settings() if graph is None else graph_settings(graph)
        self._graph, self._stored = graph, {*self.settings.factors, *self.settings.epsilons}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = {name: self._as_stored(value) for name, value in (kwargs or {}).items()}
        if func is F.scaled_dot_product_attention:
            named["scale"] = self.attention_scale(args[0].shape[-1])
        return func(*map(self._as_stored, args), **named)

    def _as_stored(self, value: Any) -> Any:
        rounded = half(value) if isinstance(value, float) else None
        return rounded if rounded in self._stored else value

    def attention_scale(self, size: int) -> float:
        """Returns the factor of the logits of heads of `size`. Exporters to ONNX multiply its root into both sides."""
        scale = 1 / math.sqrt(size)
        root = half(math.sqrt(scale))
        return root * root if root in self._stored else float(self._as_stored(scale))

    @torch.no_grad()
    def set_queries(self, rounded: nn.Module, tower: nn.Module) -> None:
        """Sets the learned query of every pooling of `rounded` to the query stored in the file, in place.

        Converters multiply the scale of attention, or its root, into the query before they round it to float16.

        Args:
            tower: the tower with the checkpoint's own values.
        """
        pools = [
            (pool, original)
            for pool, original in zip(_pools(rounded), _pools(tower), strict=True)
            if original.asked is not None
        ]
        sizes = {original.question().numel() for _, original in pools}
        stored = {values.tobytes() for values in self._halves() if values.size in sizes}
        for pool, original in pools:
            query = original.question().double().numpy()
            size = query.size // original.heads
            scale = 1 / math.sqrt(size)
            for factor, rest in ((scale, 1.0), (math.sqrt(scale), half(math.sqrt(scale)))):
                values = (query * factor).astype(np.float16)
                if values.tobytes() in stored:
                    rescaled = values.astype(np.float64) * (rest / self.attention_scale(size))
                    pool.question().copy_(torch.from_numpy(rescaled))

    def _halves(self) -> Iterator[Floats]:
        for node in () if self._graph is None else self._graph.nodes:
            for _, value in node.inputs:
                if isinstance(value, Constant) and value.values.dtype == np.float16:
                    yield value.values


def half(value: float) -> float:
    """Returns a value rounded to float16."""
    with np.errstate(over="ignore"):
        return float(np.float16(value))


def _pools(tower: nn.Module) -> list[AttentionPool]:
    return [module for module in tower.modules() if isinstance(module, AttentionPool)]
