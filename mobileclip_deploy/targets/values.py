"""Inputs and outputs of targets: jobs, tensors, files, and runners of artifacts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

from mobileclip_deploy.base.scheduling.tasks import available_cores
from mobileclip_deploy.errors import InvalidInput

if TYPE_CHECKING:  # `export --help` lists the options of every target, and must not wait for torch
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor, nn

    from mobileclip_deploy.artifacts.layouts import Layout
    from mobileclip_deploy.network.model.variants import TowerName, Variant

T = TypeVar("T")


Shared = dict[str, Any]
"""Values that conversions of one tower share at every precision: made by the first conversion, reused by the next.

Its owner converts the same module with the same options several times, for example an artifact and its float32 twin. It
passes the value to each job. The value may hold another copy of the weights, so its owner clears it after the last
conversion.
"""


@dataclass(frozen=True)
class Form:
    """Form of an artifact apart from its weights.

    Attributes:
        labels: number of a classifier's labels.
        normalised: True if embeddings have length 1.
        pictures: True if the image tower takes one picture of any size as bytes, and resizes, crops and scales it
            itself.
        layout: an app's names.
        contexts: lengths in tokens that the text tower takes, the longest last; empty for its full length only.
        pads_inside: True if the text tower ends each row of ids at its first end token: the rest counts as padding, and
            a row without that token gets one.
    """

    labels: int = 0
    normalised: bool = False
    pictures: bool = False
    layout: Layout | None = None
    contexts: tuple[int, ...] = ()
    pads_inside: bool = False


PLAIN = Form()

Precisions = Mapping["TowerName", str]
"""Precision of each exported tower."""


@dataclass(frozen=True)
class TensorInfo:
    """An artifact's input or output, as recorded in the manifest. A free dimension (the batch) is 0."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    range: tuple[float, float] | None = None
    colour: str | None = None
    normalised: bool | None = None


@dataclass(frozen=True)
class Ports:
    """A target's names of inputs and outputs, where no layout chooses names, and their types.

    Attributes:
        image, text: names of the inputs.
        embedding, probabilities: names of the float32 outputs.
        pixels: type of the image input: float32 is RGB in [0, 1], uint8 in 0 ... 255.
        ids: type of the text input.
        batch: 0 if it is free.
        named: True if inputs and outputs have names in the file, by which an app addresses them.
        input_types: by tower, the types that a layout may choose for the input; only the target's own type if a tower
            is missing.
        why_no_pictures: reason why image towers cannot take pictures of any size (`Form.pictures`); None if they can.
        why_no_contexts: reason why text towers cannot take ids of several lengths (`Form.contexts`); None if they can.
        pads_inside: True if a text tower's graph cuts and pads ids itself (`Form.pads_inside`).
        undoes_applied: True if an image tower's graph can undo a mean and std that an app has applied to the pixels.
    """

    image: str = "image"
    text: str = "text"
    embedding: str = "embedding"
    probabilities: str = "probabilities"
    pixels: str = "float32"
    ids: str = "int32"
    batch: int = 1
    named: bool = True
    input_types: Mapping[TowerName, tuple[str, ...]] = field(default_factory=dict)
    why_no_pictures: str | None = "its artifacts take pixels of one size only"
    why_no_contexts: str | None = "its text towers take ids of one length only"
    pads_inside: bool = False
    undoes_applied: bool = False

    def of(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        """Returns input and output: see `Target.tensors`."""
        if tower == "image":
            high = 255.0 if self.pixels == "uint8" else 1.0
            source = TensorInfo(self.image, self.pixels, (self.batch, *variant.image_input_shape), (0.0, high), "RGB")
        else:
            source = TensorInfo(self.text, self.ids, (self.batch, variant.tokens.context_length))
        if labels:
            return source, TensorInfo(self.probabilities, "float32", (self.batch, labels))
        return source, TensorInfo(self.embedding, "float32", (self.batch, variant.embed_dim), normalised=False)


@dataclass(frozen=True)
class Expected:
    """Expected answers of an artifact.

    Attributes:
        inputs: inputs of the tower, [N, ...].
        outputs: the checkpoint's answers, float32 [N, D].
        tolerance: largest deviation of one output element.
    """

    inputs: npt.NDArray[np.generic]
    outputs: npt.NDArray[np.float32]
    tolerance: float


@dataclass(frozen=True)
class Attachment:
    """An optional file written next to an artifact on request.

    `tolerance` is the largest deviation of an output from the value that the file expects; None if it expects nothing.
    """

    kind: str
    path: Path
    tolerance: float | None = None


ComputeUnits = Literal[
    "cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all", "default", "preferCPU", "preferGPU", "preferNeuralEngine"
]
"""Core ML's (MLComputeUnits); from "default" on Core AI's (SpecializationOptions), which has `cpuOnly` too."""


@dataclass(frozen=True)
class RuntimePlace:
    """A runtime, and the place in it where a file runs.

    Attributes:
        backend: the runtime's own name (ONNX Runtime: cpu; ExecuTorch: xnnpack).
        compute_units: Apple's name.
        options: passed to the runtime unchanged.
        arithmetic: precision in which it computes, whatever a file stores; None for the file's. Answers are held to
            this precision's gate if it is looser than the file's.
    """

    runtime: str
    backend: str | None = None
    compute_units: ComputeUnits | None = None
    options: tuple[tuple[str, str], ...] = ()
    arithmetic: str | None = None

    @property
    def label(self) -> str:
        """Name of the place, such as `onnxruntime-cpu`."""
        return "-".join(part for part in (self.runtime, self.backend, self.compute_units) if part)


@dataclass(frozen=True)
class Place:
    """Location of a tower in its bundle: a file, and the function in it if the file holds several."""

    file: str
    function: str | None = None


@dataclass(frozen=True)
class TowerJob:
    """One tower to write: the module in eval mode, an input to trace it with, and its description.

    Attributes:
        calibration: inputs of the tower, for precisions that measure activations; None for others.
        labels: labels of a classifier, whose module returns probabilities [N, L] in this order; empty if the tower
            returns embeddings.
        four_bit: for precision "mixed", names in `module` of the weights to store at 4 bits; all others have 8.
        embedding_space, checkpoint_sha256: of the source, for formats that record where their weights came from.
        form: form of the module's output and of the artifact. With contexts the module takes ids of each of these
            lengths.
        shared: cache shared with jobs of other precisions of the same module, by the same target and options; None for
            a single job.
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
        """Returns the cached result of `make`, computed once for all jobs that share it. It must not depend on the
        precision, and must not be changed."""
        cache = {} if self.shared is None else self.shared
        if what not in cache:
            cache[what] = make()
        value: T = cache[what]
        return value

    @property
    def artifact(self) -> str:
        """Name of the artifact: its tower, or "classifier"."""
        return "classifier" if self.labels else self.tower


def require_shape(inputs: npt.NDArray[Any], shape: Sequence[int | str]) -> None:
    """Refuses inputs of another shape than a file takes; their number is free.

    Args:
        shape: [N, ...]; a free size is 0 or has a name.

    Raises:
        InvalidInput: the shapes differ.
    """
    fits = inputs.ndim == len(shape) and all(
        isinstance(size, str) or size in (0, actual) for size, actual in zip(shape[1:], inputs.shape[1:], strict=True)
    )
    if not fits:
        expected = ", ".join(str(size) for size in shape[1:])
        raise InvalidInput(f"input of shape {list(inputs.shape)}; the model takes [N, {expected}]")


def as_bytes(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Converts pixels [N, 3, S, S] in [0, 1] to bytes [N, S, S, 3]: the original bytes, or the nearest ones.

    Raises:
        InvalidInput: a value is outside [0, 1].
    """
    steps = (pixels.astype("float32") * 255).round()
    if not (steps.min(initial=0) >= 0 and steps.max(initial=0) <= 255):  # NaN is neither
        raise InvalidInput("an image input of bytes takes pixels in [0, 1]")
    return steps.astype("uint8").transpose(0, 2, 3, 1)


@dataclass(frozen=True)
class Pace:
    """Number of inputs for a runtime that computes for proof, not for speed.

    Attributes:
        seconds: CPU seconds for 10^9 operations by element type, roughly and on one machine. They are announced before
            the run, and decide nothing.
        asked: number of inputs by a tower's arithmetic operations: (largest number of operations, inputs), ascending;
            the last entry is for all others. The table is fixed, so verdicts depend on no machine or clock.
    """

    seconds: Mapping[str, float]
    asked: tuple[tuple[float, int], ...] = ((1e8, 16), (1e9, 8), (8e9, 4), (float("inf"), 2))

    def inputs(self, operations: int) -> int:
        """Returns the number of inputs for a tower with this many arithmetic operations."""
        return next(inputs for most, inputs in self.asked if operations <= most)


class Runner(Protocol):
    """Runs an artifact on this machine.

    Image towers take float32 [N, 3, S, S] in [0, 1], text towers int64 [N, L]; callers prepare them. The public
    `load_runner` validates users' inputs (`towers/taken.py`). Both return float32 [N, D], not normalised; a classifier
    returns probabilities [N, L]. `engine` names the runtime and its version.
    """

    engine: str

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]: ...


@runtime_checkable
class ThreadedRunner(Runner, Protocol):
    """Runner of a tower that many threads may call at once."""

    def alone(self) -> Runner:
        """Returns a runner of the same tower with the same answers that computes on the calling thread only.

        Raises:
            RuntimeFailed: the runtime refused it.
        """
        ...


@runtime_checkable
class PictureRunner(Runner, Protocol):
    """Runner of an image tower that takes pictures of any size (`Form.pictures`)."""

    def picture(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embeds one picture, RGB or RGBA [H, W, 3 or 4]. Returns its embedding [D]."""
        ...


def compute_threads() -> int:
    """Returns the number of threads that torch uses, so that runners use as many; without torch, of usable cores."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return int(limit) if limit.isdecimal() and int(limit) > 0 else available_cores()
