"""Bundled programs: a .pte with inputs and the outputs it should give in one file (.bpte), for checks on the phone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.targets.executorch.lowering import import_exir
from mobileclip_deploy.targets.foreign.executorch import LOAD_BUNDLE
from mobileclip_deploy.targets.quiet import hold_back, quiet

__all__ = ["check_bundled_program", "write_bundled_program"]

METHOD = "forward"


def write_bundled_program(artifact: Path, inputs: npt.NDArray[np.generic], expected: npt.NDArray[np.float32]) -> Path:
    """Write `<artifact>.bpte` beside a .pte: one test case an input.

    Args:
        inputs: of the tower, [N, ...].
        expected: what it should answer, [N, D].
    """
    with quiet():
        import_exir()
        from executorch.devtools import BundledProgram
        from executorch.devtools.bundled_program.config import MethodTestCase, MethodTestSuite
        from executorch.devtools.bundled_program.serialize import (
            serialize_from_bundled_program_to_flatbuffer as serialize,
        )

        rows = (torch.from_numpy(np.ascontiguousarray(array)).split(1) for array in (inputs, expected))
        cases = [MethodTestCase([row.clone()], [output.clone()]) for row, output in zip(*rows, strict=True)]
        bundled = BundledProgram(None, [MethodTestSuite(METHOD, cases)], pte_file_path=str(artifact))
        path = artifact.with_suffix(".bpte")
        path.write_bytes(serialize(bundled))
    return path


def check_bundled_program(path: Path, cases: int, tolerance: float) -> None:
    """Run every test case with the runtime's own comparison.

    Args:
        tolerance: by how much one value of an output may differ. The runtime's defaults (relative 1e-5, absolute 1e-8)
            are tighter than float32 rounding.

    Raises:
        ExportError: an output is further from the expected one, or the file is damaged.
    """
    with quiet(), hold_back():
        bundled = LOAD_BUNDLE()(path.read_bytes())
        for case in range(cases):
            try:
                bundled.verify_result_with_bundled_expected_output(METHOD, case, 0.0, tolerance)
            except RuntimeError as error:
                raise ExportError(
                    f"{path.name}: test case {case} of {cases} is not within {tolerance:.2g}: {error}"
                ) from error
