"""`Artifact`: one opened file, shared by all checks. Also `Compiled`, an artifact compiled for one place such as a GPU,
and `Attached`, an optional file next to an artifact."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mobileclip_deploy.errors import InvalidInput, NotRun

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mobileclip_deploy.targets.benchmarking import Session, SessionSetup
    from mobileclip_deploy.targets.graph import Graph
    from mobileclip_deploy.targets.grids.decode import StoredWeight
    from mobileclip_deploy.targets.inspection import PackageInspection
    from mobileclip_deploy.targets.mil import Program
    from mobileclip_deploy.targets.mil.lint.report import LintReport
    from mobileclip_deploy.targets.quantized import QuantizedFile
    from mobileclip_deploy.targets.values import Expected, Runner, TensorInfo
    from mobileclip_deploy.targets.weights import WeightTable


class Artifact(ABC):
    """One tower in a file, or one function of a file that holds several; made by `Target.open`.

    Contents are read on first use and cached until `drop`. A format returns None for what it does not have.

    - Members that read the file raise InvalidInput if it is damaged or in another format.
    - Members that load it to run raise NotRun if nothing on this machine can run it, and RuntimeFailed if the runtime
      refuses it.

    Attributes:
        path: the file or folder.
        function: the function's name; None if the file holds this tower only.
        has_functions: True if the format has files with several functions.

    Raises:
        InvalidInput: a function is named, and the format has none.
    """

    has_functions: ClassVar[bool] = False

    def __init__(self, path: Path, function: str | None = None) -> None:
        if function is not None and not self.has_functions:
            raise InvalidInput(f"{path.suffix} artifacts have no functions; the manifest names {function!r}")
        self.path, self.function = path, function

    def drop(self) -> None:
        """Forgets all cached contents, which may be as large as the file; they are read again on next use."""
        members = (item for kind in type(self).__mro__ for item in vars(kind).items())
        cached = {name for name, value in members if isinstance(value, cached_property)}
        for name in cached & vars(self).keys():
            del self.__dict__[name]

    # Declarations of the file

    @property
    @abstractmethod
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Inputs as the file declares them; a free dimension is 0."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[TensorInfo, ...]:
        """Outputs as the file declares them; for a Core ML classifier only its probabilities."""

    @property
    def ports(self) -> tuple[TensorInfo, TensorInfo]:
        """The only input and the only output.

        Raises:
            InvalidInput: there is another number of inputs or outputs.
        """
        inputs, outputs = self.inputs, self.outputs
        if len(inputs) != 1 or len(outputs) != 1:
            counts = f"{len(inputs)} inputs and {len(outputs)} outputs"
            raise InvalidInput(f"{self.path}: {counts} instead of one each")
        return inputs[0], outputs[0]

    @property
    def operators(self) -> dict[str, int]:
        """Number of operations by type, counted in `graph` by default; empty without a graph."""
        graph = self.graph
        return {} if graph is None else dict(Counter(node.type for node in graph.nodes))

    @property
    def contents(self) -> dict[str, dict[str, int]] | None:
        """Counts and bytes of the file's parts, by kind, for the manifest."""
        return None

    @property
    def facts(self) -> dict[str, str]:
        """Further facts for `inspect` and the model card, in words, by subject, such as the device named in the
        file."""
        return {}

    @property
    def applied(self) -> str | None:
        """Mean and std that the file says an app has applied to its pixels, as JSON. None if it takes pixels in [0,
        1]."""
        return None

    @property
    def inspection(self) -> PackageInspection | None:
        """Full report of the file for `inspect`. None if there is nothing beyond inputs, outputs and operators."""
        return None

    # Computation

    @property
    def graph(self) -> Graph | None:
        """Operations and constants, independent of the file's names, order and encoding."""
        return None

    @property
    def weight_table(self) -> WeightTable | None:
        """Positions of weights in the graph, and how they are restored."""
        return None

    @cached_property
    def weights(self) -> tuple[StoredWeight, ...] | None:
        """Weights of convolutions, products and tables, dequantized. None without a graph or a weight table."""
        from mobileclip_deploy.targets.weights import read_weights

        table = self.weight_table
        graph = None if table is None else self.graph
        return None if table is None or graph is None else read_weights(graph, table, self.path)

    def unlike(self, other: Artifact) -> str | None:
        """Returns a description of a difference from an artifact of the same graph that is outside the graph, such as
        in a compiled binary. None if there is no difference."""
        return None

    @property
    def program(self) -> Program | None:
        """The file as a program that can be run operation by operation (Core ML), not yet prepared for that."""
        return None

    def lint(self, device: str) -> tuple[LintReport, ...]:
        """Returns one report per function of the operations that would leave a device's accelerator. For files without
        `program`; empty for formats that do not run on the device.

        Raises:
            UsageError: the device is unknown.
        """
        return ()

    # Execution on a device

    def compiled_for(self, chip: str, shape: tuple[int, ...]) -> tuple[Path, str]:
        """Returns the binary in this artifact that a chip's own tools run, and the chip's architecture.

        Args:
            chip: its maker's code, such as sm8650.
            shape: shape of the input.

        Raises:
            NotRun: there is no binary for the chip, or the format is never compiled.
        """
        raise NotRun(f"{self.path.name} is not compiled for a chip")

    # Execution on this machine

    @abstractmethod
    def runner(self) -> Runner:
        """Loads the artifact for running."""

    def lazy_runner(self) -> Runner:
        """Returns a runner that may load the artifact on first use."""
        return self.runner()

    def runners(self) -> Iterator[Callable[[], Runner]]:
        """Yields a loader for every engine of this machine that may run the artifact, so that each is checked.

        A loader raises NotRun and RuntimeFailed like `runner`.
        """
        yield self.runner

    @property
    def unasked(self) -> str | None:
        """Description, for a report, of the part that no engine of this machine can ever test, and the reason. None if
        there is no such part."""
        return None

    def plain_runner(self) -> Runner | None:
        """Loads a runner that computes in float32 with the stored weights and rounds nothing else."""
        return None

    def stand_in(self) -> Runner | None:
        """Loads a much faster equivalent of a slow runtime, with activations quantized alike. None if there is none."""
        return None

    def quantized(self) -> QuantizedFile | None:
        """Loads the artifact so that its quantized activations can be traced."""
        return None

    def compiled(self, place: str, inputs: npt.NDArray[np.generic] | None = None) -> Compiled:
        """Compiles the artifact for one of its target's `compiled` places, and runs it there.

        Args:
            inputs: inputs of the tower, [N, ...]; only the first ones are used.

        Raises:
            NotRun: this machine lacks the compiler, or it did not return in time.
        """
        raise NotImplementedError(f"{type(self).__name__} is not compiled for the device {place}")

    def layer_noise(self, inputs: npt.NDArray[np.generic]) -> Iterator[LayerNoise]:
        """Yields, per layer, the noise of its result where the artifact is compiled. Yields nothing if the format is
        compiled for no place here.

        Args:
            inputs: inputs of the tower, [N, ...].
        """
        yield from ()

    def session(self, setup: SessionSetup) -> Session:
        """Loads the artifact to measure its speed."""
        from mobileclip_deploy.targets.benchmarking import RunnerSession

        return RunnerSession(self.runner())


@dataclass(frozen=True)
class Left:
    """An operation that stays on the CPU, and the compiler's reason; empty if it gives none."""

    type: str
    name: str
    reason: str


@dataclass(frozen=True)
class Extreme:
    """The largest absolute value of some elements, and the layer that computed it."""

    value: float
    name: str


@dataclass(frozen=True)
class LayerNoise:
    """Signal-to-noise ratios in dB of a layer's result, against float32 with the same weights.

    `compiled` is computed at the compiled place, `interpreted` from the same file by a runtime on the CPU.
    """

    layer: str
    compiled: float
    interpreted: float


@dataclass(frozen=True)
class Compiled:
    """An artifact compiled for one place.

    Attributes:
        engine: compiler with its version, and the device.
        operations: number of operations of the artifact.
        left: operations that stay on the CPU.
        refusal: reason why nothing runs there, which may be a crashed driver; None if something runs.
        answers: outputs for as many inputs as the time allowed, [N, D]; None if there are none, with the reason in
            `silence`.
        largest: largest of all values that the artifact computes on the inputs; None if not measured.
        largest_sum: largest sum inside a mean; None if not measured.
    """

    engine: str
    operations: int
    left: tuple[Left, ...] = ()
    refusal: str | None = None
    answers: npt.NDArray[np.float32] | None = None
    silence: str | None = None
    largest: Extreme | None = None
    largest_sum: Extreme | None = None


class Attached(ABC):
    """An optional file next to an artifact, of one kind; made by `Target.open_attached`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def write(self, artifact: Path, expected: Expected) -> None:
        """Writes the attachment for an artifact.

        Raises:
            ExportError: it cannot be written, or fails its check.
        """

    @abstractmethod
    def runner(self) -> Runner:
        """Loads the attachment.

        Raises:
            NotRun, RuntimeFailed: nothing here can run it.
            InvalidInput: it is damaged.
        """

    @abstractmethod
    def difference(self, artifact: Path) -> str | None:
        """Returns a description of how the attachment differs from one written from the artifact now. None if they
        agree. Other versions of packages may write another one.

        Raises:
            InvalidInput: it is damaged.
            NotRun: the package that writes it is missing.
            ExportError: it cannot be written again.
        """


def counted(operators: Mapping[str, int], weights: Iterable[tuple[str, int]]) -> dict[str, dict[str, int]]:
    """Returns `Artifact.contents`: `operators` by type, and `weight_bytes` by element type, the largest first.

    Args:
        weights: element type and bytes of each constant.
    """
    stored = Counter[str]()
    for dtype, size in weights:
        stored[dtype] += size
    ranked = dict(sorted(stored.items(), key=lambda item: (-item[1], item[0])))
    return {"operators": dict(sorted(operators.items())), "weight_bytes": ranked}
