"""Bundled programs: a .pte with inputs and expected outputs in one file (.bpte), for checks on the phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.errors import ExportError, Malformed
from mobileclip_deploy.targets.artifact import Attached, Origin
from mobileclip_deploy.targets.executorch.program_file import Fields, numbers_of
from mobileclip_deploy.targets.flatbuffer import read_file, schema
from mobileclip_deploy.targets.foreign.executorch import LOAD_BUNDLE, import_exir
from mobileclip_deploy.targets.quiet import hold_back, quiet
from mobileclip_deploy.targets.values import Expected

METHOD = "forward"
VERSION = 2
SCHEMA = schema("bundled")


class BundledProgram(Attached):
    """A .bpte file: the artifact's own bytes, the inputs, and the checkpoint's answers.

    Args:
        runs: True if the runtime here has the backend, and can make its own comparison.
    """

    by_versions = False

    def __init__(self, path: Path, runs: bool) -> None:
        super().__init__(path)
        self._runs = runs

    def write(self, artifact: Path, expected: Expected) -> None:
        """Writes one test case per input."""
        with quiet():
            import_exir()
            from executorch import devtools
            from executorch.devtools.bundled_program.config import MethodTestCase, MethodTestSuite
            from executorch.devtools.bundled_program.serialize import (
                serialize_from_bundled_program_to_flatbuffer as serialize,
            )

            pairs = expected.inputs, expected.outputs
            rows = (torch.from_numpy(np.ascontiguousarray(array)).split(1) for array in pairs)
            cases = [MethodTestCase([row.clone()], [output.clone()]) for row, output in zip(*rows, strict=True)]
            bundled = devtools.BundledProgram(None, [MethodTestSuite(METHOD, cases)], pte_file_path=str(artifact))
            self.path.write_bytes(serialize(bundled))
        if self._runs and (failure := self.failing(len(cases), expected.tolerance)) is not None:
            raise ExportError(failure)

    def failing(self, cases: int, tolerance: float) -> str | None:
        """Describes the first test case that fails the runtime's own comparison. None if all pass.

        Args:
            tolerance: largest deviation of an output element. The runtime's defaults (relative 1e-5, absolute 1e-8) are
                tighter than float32 rounding.
        """
        with quiet(), hold_back():
            bundled: Any = LOAD_BUNDLE()(self.path.read_bytes())
            for case in range(cases):
                try:
                    bundled.verify_result_with_bundled_expected_output(METHOD, case, 0.0, tolerance)
                except RuntimeError as error:
                    return f"{self.path.name}: test case {case} of {cases} is not within {tolerance:.2g}: {error}"
        return None

    def difference(self, origin: Origin) -> str | None:
        fields, tests = read_file(self.path, ".bpte", _read)
        methods = [suite["method"] for suite in fields["suites"]]
        if methods != [METHOD] or fields["version"] != VERSION:
            return f"its test cases are for {methods} in version {fields['version']}, not for {METHOD} in {VERSION}"
        if fields["program"] != origin.artifact.read_bytes():
            return f"the program in it is not {origin.artifact.name}"
        inputs, outputs = origin.expected.inputs, origin.expected.outputs
        if len(tests) != len(inputs):
            return f"it has {len(tests)} test cases, not {len(inputs)}"
        for index, case in enumerate(tests):
            expected = (inputs[index : index + 1], outputs[index : index + 1])
            for what, have, want in zip(("takes", "expects"), case, expected, strict=True):
                if have.dtype != want.dtype or not np.array_equal(have, want):
                    return f"test case {index} of {len(tests)} {what} other values than the bundle's golden answers"
        return self.failing(len(tests), origin.expected.tolerance) if self._runs else None


def _read(data: bytes) -> tuple[Fields, list[tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]]]:
    """Returns the tables, and input and output of each test case, [1, ...] each."""
    fields = SCHEMA.decoded(data)
    cases = [case for suite in fields["suites"] for case in suite["cases"]]
    if any((len(case["inputs"]), len(case["expected"])) != (1, 1) for case in cases):
        raise Malformed("a test case has more or fewer than one input and one output")
    return fields, [(_tensor(case["inputs"][0]), _tensor(case["expected"][0])) for case in cases]


def _tensor(value: Fields) -> npt.NDArray[np.generic]:
    entry: tuple[str | None, Fields] = value["value"] or (None, {})
    kind, fields = entry
    if kind != "Tensor":
        raise Malformed(f"a test case contains a {kind}")
    if tuple(fields["dim_order"]) != tuple(range(len(fields["sizes"]))):
        raise Malformed(f"a test case contains a tensor in the order {list(fields['dim_order'])}")
    return numbers_of(fields, fields["data"])
