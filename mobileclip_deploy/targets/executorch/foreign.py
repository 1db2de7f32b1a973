"""Any .pte of unknown origin: ExecuTorch's runtime with all inputs and outputs of `forward`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.errors import InvalidInput, NotRun, listed
from mobileclip_deploy.targets.executorch.opening import ExecuTorchArtifact
from mobileclip_deploy.targets.executorch.program_file import ProgramFile
from mobileclip_deploy.targets.executorch.runner import declared
from mobileclip_deploy.targets.flatbuffer import read_file
from mobileclip_deploy.targets.foreign_file import ForeignFile, StoredConstant, constants_of
from mobileclip_deploy.targets.quiet import hold_back, quiet


def open_foreign(path: Path) -> ForeignFile:
    """Loads a file.

    Raises:
        InvalidInput: not a readable .pte.
        NotRun: it needs a backend that this build of ExecuTorch lacks.
    """
    program: ProgramFile = read_file(path, ".pte", ProgramFile.parse)
    with quiet(), hold_back():
        from executorch.version import __version__

        from mobileclip_deploy.targets.executorch.bindings import runtime

        available = runtime.Runtime.get().backend_registry.registered_backend_names
        missing = [name for name in program.backends if name not in available]
        if missing:
            raise NotRun(f"{path} needs {listed(missing)}, which this build of ExecuTorch lacks; give an XNNPACK file")
        inputs, outputs = declared(path)
        loaded = runtime.Runtime.get().load_program(path)
        method = loaded.load_method("forward")
    assert method is not None

    def call(values: Sequence[Array]) -> list[Array]:
        with hold_back():
            results = method.execute([torch.from_numpy(np.ascontiguousarray(value)) for value in values])
        return [result.numpy() for result in results]

    def constants() -> Iterator[StoredConstant]:
        try:
            return constants_of(ExecuTorchArtifact(path, readable=True).graph)
        except InvalidInput:  # parts that no export here writes: the weights are not read
            return iter(())

    engine = f"ExecuTorch {__version__} ({', '.join(program.backends) or 'portable kernels'})"
    return ForeignFile(inputs, outputs, engine, call, constants, frozenset(program.operators))
