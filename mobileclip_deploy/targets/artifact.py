"""An artifact, opened once and asked by every check: what it declares, what it computes, and what runs it here; what a
compiler made of it for one place, such as a GPU; and what was written beside it because it was asked for."""

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
    """One tower in a file, or the function of a file that holds several; made by `Target.open`.

    Nothing is read before it is asked for, and what was read is kept until `drop`. Whatever reads the file raises
    InvalidInput where it is damaged or of another format. Whatever loads it to be run raises NotRun where this machine
    has nothing that can run it, and RuntimeFailed where the runtime refuses it. What a format does not have is None.

    Attributes:
        path: the file or folder.
        function: the one of a file that holds several; None of one that holds the tower alone.
        has_functions: the format has such files.

    Raises:
        InvalidInput: a function is named, and the format has none.
    """

    has_functions: ClassVar[bool] = False

    def __init__(self, path: Path, function: str | None = None) -> None:
        if function is not None and not self.has_functions:
            raise InvalidInput(f"{path.suffix} artifacts have no functions; the manifest names {function!r}")
        self.path, self.function = path, function

    def drop(self) -> None:
        """Forget what was read, which may be as large as the file; it is read again when it is asked for again."""
        members = (item for kind in type(self).__mro__ for item in vars(kind).items())
        kept = {name for name, made in members if isinstance(made, cached_property)}
        for name in kept & vars(self).keys():
            del self.__dict__[name]

    # What it declares

    @property
    @abstractmethod
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Every input as the file declares it; a free dimension is 0."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[TensorInfo, ...]:
        """Every output as the file declares it; of a classifier in Core ML its probabilities alone."""

    @property
    def ports(self) -> tuple[TensorInfo, TensorInfo]:
        """The one input and the one output.

        Raises:
            InvalidInput: there is another number of them.
        """
        inputs, outputs = self.inputs, self.outputs
        if len(inputs) != 1 or len(outputs) != 1:
            counts = f"{len(inputs)} inputs and {len(outputs)} outputs"
            raise InvalidInput(f"{self.path}: {counts} instead of one each")
        return inputs[0], outputs[0]

    @property
    def operators(self) -> dict[str, int]:
        """How often each operator type occurs; by default as the graph says, none where there is no graph."""
        graph = self.graph
        return {} if graph is None else dict(Counter(node.type for node in graph.nodes))

    @property
    def contents(self) -> dict[str, dict[str, int]] | None:
        """For the manifest: what it is made of, by kind, in counts and bytes."""
        return None

    @property
    def facts(self) -> dict[str, str]:
        """What else `inspect` and the model card tell of it, in words: by subject, such as the device that stands in
        the file."""
        return {}

    @property
    def inspection(self) -> PackageInspection | None:
        """What `inspect` tells of the whole file, where that is more than input, output and operators."""
        return None

    # What it computes

    @property
    def graph(self) -> Graph | None:
        """Operations and constants, whatever names, order and encoding the file says them with."""
        return None

    @property
    def weight_table(self) -> WeightTable | None:
        """Where weights stand in the graph, and how they are restored."""
        return None

    @cached_property
    def weights(self) -> tuple[StoredWeight, ...] | None:
        """The weights of convolutions, products and tables, dequantized; None without a graph or a table of them."""
        from mobileclip_deploy.targets.weights import read_weights

        table = self.weight_table
        graph = None if table is None else self.graph
        return None if table is None or graph is None else read_weights(graph, table, self.path)

    def unlike(self, other: Artifact) -> str | None:
        """How it differs from an artifact of the same graph in what no graph says, such as a compiled binary; None
        where it does not.
        """
        return None

    @property
    def program(self) -> Program | None:
        """The file as a program that can be followed operation by operation (Core ML), not yet prepared for that."""
        return None

    def lint(self, device: str) -> tuple[LintReport, ...]:
        """What of a file that is no `program` would leave the accelerator of a device, one report per function; none
        for formats that do not run there.

        Raises:
            UsageError: no such device.
        """
        return ()

    # What runs it on a device

    def compiled_for(self, chip: str, shape: tuple[int, ...]) -> tuple[Path, str]:
        """The file of it that a chip's own tools run, and the chip's architecture.

        Args:
            chip: by its maker's code, such as sm8650.
            shape: of what goes in.

        Raises:
            NotRun: it holds none for the chip, or its format is compiled for no chip.
        """
        raise NotRun(f"{self.path.name} is compiled for no chip")

    # What runs it here

    @abstractmethod
    def runner(self) -> Runner:
        """Load it."""

    def runners(self) -> Iterator[Callable[[], Runner]]:
        """A loader for every engine of this machine that it may meet, to be checked one by one.

        A loader raises NotRun and RuntimeFailed as `runner` does.
        """
        yield self.runner

    @property
    def unasked(self) -> str | None:
        """What of it no engine of this machine can ever be asked for, and why, as a report says it; None: nothing."""
        return None

    def plain_runner(self) -> Runner | None:
        """Load it to be computed with the numbers that stand in it, in float32, nothing else rounded."""
        return None

    def stand_in(self) -> Runner | None:
        """Load what computes the same much faster than its own slow runtime, activations quantized as in it; None where
        there is none.
        """
        return None

    def quantized(self) -> QuantizedFile | None:
        """Load it to follow the activations that it quantizes."""
        return None

    def compiled(self, place: str, inputs: npt.NDArray[np.generic] | None = None) -> Compiled:
        """Compile it for one of its target's `compiled_places`, and ask it for answers there.

        Args:
            inputs: of the tower, [N, ...]; the first of them are asked for.

        Raises:
            NotRun: this machine lacks what compiles for it, or it did not return in time.
        """
        raise NotImplementedError(f"{type(self).__name__} is not compiled for the place {place}")

    def layer_noise(self, inputs: npt.NDArray[np.generic]) -> Iterator[LayerNoise]:
        """How far what is behind each layer is from its own numbers where it is compiled for; nothing of a format that
        is compiled for no place here.

        Args:
            inputs: of the tower, [N, ...].
        """
        yield from ()

    def session(self, setup: SessionSetup) -> Session:
        """Load it to be timed."""
        from mobileclip_deploy.targets.benchmarking import RunnerSession

        return RunnerSession(self.runner())


@dataclass(frozen=True)
class Left:
    """An operation that stays on the CPU, and what the compiler says of it; nothing where it gives no reason."""

    type: str
    name: str
    reason: str


@dataclass(frozen=True)
class Extreme:
    """The largest of some numbers, without its sign, and the layer that gave it."""

    value: float
    name: str


@dataclass(frozen=True)
class LayerNoise:
    """How near the value behind a layer is to float32 with the same weights, as signal-to-noise ratios in dB:
    `compiled` as the place computes it, `interpreted` as a runtime on the CPU computes the same file."""

    layer: str
    compiled: float
    interpreted: float


@dataclass(frozen=True)
class Compiled:
    """An artifact compiled for one place.

    `engine`: what compiled it, with its version, and for which device. `operations`: how many the artifact has, `left`:
    those that stay on the CPU. `refusal`: why nothing of it runs there, a driver that died among the reasons; None
    where something does. `answers`: to as many of the inputs as there was time for, [N, D]; None where there are none,
    and `silence` says why. `largest`: of all values that the artifact computes on the inputs, and `largest_sum`: of
    those that a mean adds up; None where they were not measured.
    """

    engine: str
    operations: int
    left: tuple[Left, ...] = ()
    refusal: str | None = None
    answers: npt.NDArray[np.float32] | None = None
    silence: str | None = None
    largest: Extreme | None = None
    largest_sum: Extreme | None = None


@dataclass(frozen=True)
class Origin:
    """What an attachment should have been made of.

    Attributes:
        artifact: the file beside which it stands.
        expected: what it is to answer.
        folder: an empty one, to write into.
        converted: the artifact written once more, with what a conversion writes beside it. Raises NotRun.
    """

    artifact: Path
    expected: Expected
    folder: Path
    converted: Callable[[], Path]


class Attached(ABC):
    """An attachment of one kind; made by `Target.open_attached`.

    Attributes:
        by_conversion: only a conversion of the tower writes it, which takes long.
        tolerates: the manifest says by how much one value of an answer may differ from an expected one.
        by_versions: another version of the packages may write it otherwise, so that a difference says nothing there.
    """

    by_conversion: ClassVar[bool] = False
    tolerates: ClassVar[bool] = True
    by_versions: ClassVar[bool] = True

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def write(self, artifact: Path, expected: Expected) -> None:
        """Write it, of the artifact beside which it is to stand.

        Raises:
            ExportError: it cannot be written, or does not hold.
        """

    def runner(self) -> Runner | None:
        """Load it; None of what is no program.

        Raises:
            NotRun, RuntimeFailed: nothing here can run it.
            InvalidInput: it is damaged.
        """
        return None

    @abstractmethod
    def difference(self, origin: Origin) -> str | None:
        """How it is not what comes of its origin, in words; None where it says the same.

        Raises:
            InvalidInput: it is damaged.
            NotRun: what writes it is not here.
            ExportError: it cannot be written again.
        """


def counted(operators: Mapping[str, int], weights: Iterable[tuple[str, int]]) -> dict[str, dict[str, int]]:
    """`Artifact.contents`: `operators` by type, and `weight_bytes` by type of number, the most first.

    Args:
        weights: of each constant its type and its bytes.
    """
    stored = Counter[str]()
    for dtype, size in weights:
        stored[dtype] += size
    ranked = dict(sorted(stored.items(), key=lambda item: (-item[1], item[0])))
    return {"operators": dict(sorted(operators.items())), "weight_bytes": ranked}
