"""Any .mlpackage of unknown origin: its default function in this package's evaluator, with all inputs and outputs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.errors import InvalidInput, NotRun
from mobileclip_deploy.targets.coreml.opening import CoreMLArtifact
from mobileclip_deploy.targets.foreign_file import ForeignFile, StoredConstant, constants_of
from mobileclip_deploy.targets.mil import Port, UnsupportedOperation
from mobileclip_deploy.targets.values import TensorInfo


def open_foreign(path: Path) -> ForeignFile:
    """Loads a package.

    Raises:
        InvalidInput: damaged, or not an ML program.
        NotRun: it has operations that the evaluator lacks, or is a neural network.
    """
    if path.suffix == ".mlmodel":
        raise NotRun(f"{path}: only a Mac runs the neural network of a .mlmodel; convert it to a .mlpackage")
    artifact = CoreMLArtifact(path)
    try:
        program = artifact.program.prepared()
    except UnsupportedOperation as error:
        raise NotRun(f"{path}: {error}; run it with Core ML on a Mac") from error

    def call(values: Sequence[Array]) -> list[Array]:
        feed = {port.name: value for port, value in zip(program.inputs, values, strict=True)}
        results = program(feed, precision=program.arithmetic)
        return [
            np.array(list(value.values()) if isinstance(value, dict) else value)
            for value in (results[port.name] for port in program.outputs)
        ]

    def constants() -> Iterator[StoredConstant]:
        try:
            return constants_of(artifact.graph)
        except InvalidInput:  # of another form than exports here have: the weights are not read
            return iter(())

    engine = f"mobileclip_deploy.mil ({program.arithmetic} arithmetic; not Core ML)"
    inputs, outputs = (tuple(map(_info, ports)) for ports in (program.inputs, program.outputs))
    return ForeignFile(inputs, outputs, engine, call, constants, frozenset(artifact.operators))


def _info(port: Port) -> TensorInfo:
    shape = tuple(size or 0 for size in port.shape)
    if port.kind == "image":  # a caller gives bytes [H, W, 3]
        return TensorInfo(port.name, "uint8", (*shape[2:], 3))
    return TensorInfo(port.name, port.dtype if port.kind == "tensor" else "dictionary", shape)
