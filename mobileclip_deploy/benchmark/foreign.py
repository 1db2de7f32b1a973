"""Competitors: files that this project did not write. Their inputs and outputs are matched to a tower."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.benchmark.job import Tensor
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import Target, TensorInfo, targets
from mobileclip_deploy.verify.audit.opening import OpenedFile


@dataclass(frozen=True)
class Fitted:
    """A tower that a foreign file implements. `comparable`: True if its output has the size of the tower's
    embedding."""

    tower: TowerName
    input: Tensor
    output: Tensor
    comparable: bool


def foreign_target(path: Path) -> Target:
    """Returns the target for a file's suffix.

    Raises:
        UsageError: no target reads foreign files of this suffix.
        InvalidInput: the file does not exist.
    """
    every = [(target.capabilities.formats.foreign_suffix, target) for target in targets().values()]
    readers = {suffix: target for suffix, target in every if suffix}
    if path.suffix not in readers:
        kinds = " or ".join(f"{'an' if suffix[1] in 'aeiou' else 'a'} {suffix}" for suffix in readers)
        raise UsageError(f"`against` {path}: a competitor is {kinds} file")
    if not path.is_file():
        raise InvalidInput(f"`against` {path}: no such file")
    return readers[path.suffix]


def declared(path: Path) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Returns inputs and outputs of a foreign file, as the target's runtime reads them; a free dimension is 0.

    Raises:
        InvalidInput: the file is damaged.
        RuntimeFailed: the runtime cannot load it.
    """
    with contextlib.closing(OpenedFile(path)) as file:
        inputs, outputs = (
            tuple(TensorInfo(port.name, port.dtype, port.shape) for port in ports)
            for ports in (file.inputs, file.outputs)
        )
    return inputs, outputs


def fit(
    path: Path, inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...], size: int, length: int, embedding: int
) -> Fitted:
    """Identifies the tower of a file by shapes, and fills in its free dimensions.

    Args:
        size: pixels of an image's side, for a free dimension.
        length: number of tokens of a text, for a free dimension.
        embedding: size of the embeddings that the outputs could be compared with.

    Raises:
        InvalidInput: the file does not have exactly one input of an image's or a text's shape, or has no float output.
    """
    takes = "; ".join(f"{tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in inputs)
    if len(inputs) != 1:
        raise InvalidInput(f"`against` {path}: {len(inputs)} inputs ({takes}); give a file with one tower")
    source = inputs[0]
    tower: TowerName
    free: tuple[int, ...]
    pictures = source.dtype in ("float32", "float16") and len(source.shape) == 4
    last = pictures and source.shape[3] == 3 != source.shape[1]  # TensorFlow's order, of most .tflite files
    if pictures and (last or source.shape[1] in (0, 3)):
        tower, free = "image", (1, size, size, 3) if last else (1, 3, size, size)
    elif source.dtype in ("int32", "int64") and len(source.shape) == 2:
        tower, free = "text", (1, length)
    else:
        forms = "neither pixels [1, 3, S, S] or [1, S, S, 3] nor ids"
        raise InvalidInput(f"`against` {path}: its input ({takes}) is {forms}")
    floats = [tensor for tensor in outputs if tensor.dtype in ("float32", "float16") and tensor.shape]
    if not floats:
        raise InvalidInput(f"`against` {path}: it has no float output")
    filled = tuple(actual if actual else default for actual, default in zip(source.shape, free, strict=True))
    matching = [tensor for tensor in floats if len(tensor.shape) == 2 and tensor.shape[-1] == embedding]
    output = matching[0] if matching else floats[0]
    return Fitted(
        tower=tower,
        input=Tensor.model_validate({"name": source.name, "dtype": source.dtype, "shape": filled}),
        output=Tensor.model_validate(
            {"name": output.name, "dtype": output.dtype, "shape": [dimension or 1 for dimension in output.shape]}
        ),
        comparable=bool(matching) and filled == free,
    )
