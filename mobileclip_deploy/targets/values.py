"""What targets are given and what they give back: jobs, tensors, files, and runners of artifacts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

from mobileclip_deploy.errors import InvalidInput

if TYPE_CHECKING:  # `export --help` lists the options of every target, and must not wait for torch
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor, nn

    from mobileclip_deploy.artifacts.layouts import Layout
    from mobileclip_deploy.network.model.variants import TowerName, Variant

T = TypeVar("T")


Shared = dict[str, Any]
"""What conversions of one tower have in common, whatever their precision: made for the first, kept for the next.

Kept by whoever converts the same module with the same options more than once, such as an artifact and its float32 twin;
given to each of their jobs. It may hold another copy of the weights, so it is cleared as soon as nothing more is
converted.
"""


@dataclass(frozen=True)
class Form:
    """What is wanted of an artifact beside its numbers.

    `labels`: how many a classifier has. `normalised`: embeddings have length 1. `pictures`: the image tower takes one
    picture of any size as bytes and resizes, crops and scales it itself. `layout`: an app's names. `contexts`: the
    lengths in tokens that the text tower takes, the longest last; none where it takes its full length alone.
    """

    labels: int = 0
    normalised: bool = False
    pictures: bool = False
    layout: Layout | None = None
    contexts: tuple[int, ...] = ()


PLAIN = Form()

Precisions = Mapping["TowerName", str]
"""A precision for each of the towers that are exported."""


@dataclass(frozen=True)
class TensorInfo:
    """An artifact's input or output, as the manifest tells it. A dimension of 0 is free (the batch)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    range: tuple[float, float] | None = None
    colour: str | None = None
    normalised: bool | None = None


@dataclass(frozen=True)
class Ports:
    """What a target calls inputs and outputs where no layout chooses names, and their types.

    `image` and `text` go in, as `pixels` (float32: RGB in [0, 1], uint8: in 0 ... 255) and `ids`; an `embedding` comes
    out, or the `probabilities` of labels, in float32. `batch`: 0 where it is free.
    """

    image: str = "image"
    text: str = "text"
    embedding: str = "embedding"
    probabilities: str = "probabilities"
    pixels: str = "float32"
    ids: str = "int32"
    batch: int = 1

    def of(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        """See `Target.tensors`."""
        if tower == "image":
            high = 255.0 if self.pixels == "uint8" else 1.0
            source = TensorInfo(self.image, self.pixels, (self.batch, *variant.image_input_shape), (0.0, high), "RGB")
        else:  # of a variant without texts nobody asks for this
            source = TensorInfo(self.text, self.ids, (self.batch, variant.tokens.context_length))
        if labels:
            return source, TensorInfo(self.probabilities, "float32", (self.batch, labels))
        return source, TensorInfo(self.embedding, "float32", (self.batch, *variant.answer_shape), normalised=False)


@dataclass(frozen=True)
class Expected:
    """What an artifact is to answer: `inputs` of the tower [N, ...], what the checkpoint answers to them, `outputs`
    float32 [N, D], and by how much one value of an output may differ from that, `tolerance`."""

    inputs: npt.NDArray[np.generic]
    outputs: npt.NDArray[np.float32]
    tolerance: float


@dataclass(frozen=True)
class Attachment:
    """A file that was written beside an artifact because it was asked for.

    `tolerance`: by how much an output may differ from what the file expects; None where it expects nothing.
    """

    kind: str
    path: Path
    tolerance: float | None = None


ComputeUnits = Literal[
    "cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all", "default", "preferCPU", "preferGPU", "preferNeuralEngine"
]
"""Core ML's (MLComputeUnits); from "default" on Core AI's (SpecializationOptions), which has `cpuOnly` as well."""


@dataclass(frozen=True)
class RuntimePlace:
    """A runtime, and where in it a file runs.

    `backend` is the runtime's own word (ONNX Runtime: cpu; ExecuTorch: xnnpack), `compute_units` Apple's;
    `options` go to the runtime as they are. `arithmetic`: the precision that it computes in, whatever a file stores;
    None: the file's. Answers are held to that precision's gate, where it is looser than the file's.
    """

    runtime: str
    backend: str | None = None
    compute_units: ComputeUnits | None = None
    options: tuple[tuple[str, str], ...] = ()
    arithmetic: str | None = None

    @property
    def label(self) -> str:
        """`onnxruntime-cpu`"""
        return "-".join(part for part in (self.runtime, self.backend, self.compute_units) if part)


@dataclass(frozen=True)
class Place:
    """Where a tower is in its bundle: a file, and a function in it where it holds several."""

    file: str
    function: str | None = None


@dataclass(frozen=True)
class TowerJob:
    """One tower to be written: the module in eval mode, an input to trace it with, and what it is called.

    `calibration`: inputs of the tower, for precisions that measure activations; None for the others. `labels`: of a
    classifier, whose module gives probabilities [N, L] in this order; none for a tower that gives embeddings.
    `four_bit`: for precision "mixed", the names in `module` of the weights to store at 4 bits; all others have 8.
    `embedding_space`, `checkpoint_sha256`: of the source, for formats that say where their weights came from.
    `form`: of what the module gives and of what is wanted beside that; with contexts the module takes ids of each of
    these lengths. `shared`: with the jobs of other precisions of the same module, by the same target and options; None
    for a job that stands alone.
    """

    variant: Variant
    tower: TowerName
    module: nn.Module
    example: Tensor
    precision: str
    licence: str
    calibration: npt.NDArray[np.generic] | None = None
    labels: tuple[str, ...] = ()
    four_bit: frozenset[str] = frozenset()
    embedding_space: str = ""
    checkpoint_sha256: str = ""
    form: Form = PLAIN
    shared: Shared | None = field(default=None, compare=False)

    def once(self, what: str, make: Callable[[], T]) -> T:
        """What `make` gives, or gave for a job before; no precision changes it, and nobody may."""
        kept = {} if self.shared is None else self.shared
        if what not in kept:
            kept[what] = make()
        found: T = kept[what]
        return found

    @property
    def artifact(self) -> str:
        """What the artifact is named after: its tower, or "classifier"."""
        return "classifier" if self.labels else self.tower


def require_shape(inputs: npt.NDArray[Any], shape: Sequence[int | str]) -> None:
    """Refuse inputs of another shape than a file takes, whatever their number.

    Args:
        shape: [N, ...]; a size that is free is 0 or has a name.

    Raises:
        InvalidInput: they do not fit.
    """
    fits = inputs.ndim == len(shape) and all(
        isinstance(size, str) or size in (0, found) for size, found in zip(shape[1:], inputs.shape[1:], strict=True)
    )
    if not fits:
        wanted = ", ".join(str(size) for size in shape[1:])
        raise InvalidInput(f"input of shape {list(inputs.shape)}; the model takes [N, {wanted}]")


def as_bytes(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Pixels [N, 3, S, S] in [0, 1] -> the bytes [N, S, S, 3] that they were made from, or those nearest to them.

    Raises:
        InvalidInput: they are no pixels.
    """
    steps = (pixels.astype("float32") * 255).round()
    if not (steps.min(initial=0) >= 0 and steps.max(initial=0) <= 255):  # NaN is neither
        raise InvalidInput("an image input of bytes takes pixels in [0, 1]")
    return steps.astype("uint8").transpose(0, 2, 3, 1)


@dataclass(frozen=True)
class Pace:
    """How much is asked of a runtime that computes for proof, not for speed.

    Attributes:
        seconds: CPU seconds for 10^9 operations by the type of the numbers, roughly and on one machine. They are told
            before they are spent, and decide nothing.
        asked: how many inputs of a tower, by its arithmetic operations: (most of them, inputs), ascending, the last for
            all others. A fixed table: verdicts do not depend on the machine or on a clock.
    """

    seconds: Mapping[str, float]
    asked: tuple[tuple[float, int], ...] = ((1e8, 16), (1e9, 8), (8e9, 4), (float("inf"), 2))

    def inputs(self, operations: int) -> int:
        """Inputs that a tower of so many arithmetic operations is asked."""
        return next(inputs for most, inputs in self.asked if operations <= most)


class Runner(Protocol):
    """Runs an artifact on this machine.

    Image towers take float32 [N, 3, S, S] in [0, 1], text towers int64 [N, L], which callers have prepared; what a
    user gives is held to that by the public `load_runner` (`towers/taken.py`). Both give float32 [N, D], not
    normalised; a classifier gives probabilities [N, L]. `engine` says what computed it, with its version.
    """

    engine: str

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]: ...


@runtime_checkable
class ThreadedRunner(Runner, Protocol):
    """Runs a tower that many threads may ask at once."""

    def alone(self) -> Runner:
        """The same tower, the same answers, computed on the thread that asks and on no other.

        Raises:
            RuntimeFailed: the runtime refused it.
        """
        ...


@runtime_checkable
class PictureRunner(Runner, Protocol):
    """Runs an image tower that takes pictures of any size (`Form.pictures`)."""

    def picture(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """One picture, RGB or RGBA [H, W, 3 or 4] -> its embedding [D]."""
        ...
