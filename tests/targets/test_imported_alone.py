"""coremltools and ExecuTorch's runtime as they are imported here: without what they would import for nothing."""

import sys

import pytest
from programs import output

PROGRAM = """
import sys
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.vendor_internals.coremltools import import_coremltools
if before:
    import executorch
coremltools = import_coremltools()
assert coremltools is sys.modules["coremltools"] is import_coremltools()
assert not {"sklearn", "torchvision", "torchao", "transformers"} & set(sys.modules)
assert ("executorch" in sys.modules) == before
get_target("executorch").capabilities.packages.import_runtime()  # as for a benchmark's round
from mobileclip_deploy.targets.executorch.bindings import runtime
assert "XnnpackBackend" in runtime.Runtime.get().backend_registry.registered_backend_names
assert not [name for name in sys.modules if name.startswith("executorch.exir")]
import executorch.exir
assert executorch.exir.to_edge_transform_and_lower
from coremltools.converters.mil.mil import Builder
"""


@pytest.mark.slow
@pytest.mark.parametrize("before", [False, True])
def test_what_is_left_out_of_an_import_is_neither_imported_nor_in_the_way_later(before: bool) -> None:
    output(sys.executable, "-c", f"before = {before}{PROGRAM}")
