"""`ForeignFile`: a file that other tools wrote, loaded with all its inputs, outputs and constants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.graph import Constant, Graph
from mobileclip_deploy.targets.values import TensorInfo


@dataclass(frozen=True)
class StoredConstant:
    """A stored tensor; integers are `(value - zero) * scale`. `scale` is None for floats, or if it is unknown."""

    name: str
    values: Array
    scale: Array | None = None
    zero: Array | float = 0


@dataclass(frozen=True)
class ForeignFile:
    """A loaded file of unknown origin; made by `Target.open_foreign` in a separate process.

    Attributes:
        inputs, outputs: in the file's order; a free dimension is 0.
        engine: runtime and its version.
        call: runs the file on one array per input, and returns one array per output. Raises whatever the runtime
            raises.
        constants: yields each stored tensor.
        operators: names of the file's operations.
        unrounded: loads the same file without the rounding of activations. Raises NotRun if it scales integers in an
            unknown way. None if the file rounds none.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    engine: str
    call: Callable[[Sequence[Array]], list[Array]]
    constants: Callable[[], Iterator[StoredConstant]]
    operators: frozenset[str] = frozenset()
    unrounded: Callable[[], ForeignFile] | None = None


def opened_artifact(artifact: Artifact) -> ForeignFile:
    """Loads a file of one input and one output as an export of its target.

    Raises:
        InvalidInput: damaged, or of other inputs and outputs.
        NotRun: its runtime is missing.
    """
    runner = artifact.runner()

    def call(values: Sequence[Array]) -> list[Array]:
        return [runner(value) for value in values]

    def constants() -> Iterator[StoredConstant]:
        return iter(()) if (graph := artifact.graph) is None else constants_of(graph)

    return ForeignFile(artifact.inputs, artifact.outputs, runner.engine, call, constants, frozenset(artifact.operators))


def constants_of(graph: Graph) -> Iterator[StoredConstant]:
    """Yields the constants of a graph, each once."""
    seen: set[int] = set()
    for node in graph.nodes:
        for name, value in node.inputs:
            if isinstance(value, Constant) and id(value.values) not in seen:
                seen.add(id(value.values))
                yield StoredConstant(value.name or f"{node.name} {name}", value.values)
