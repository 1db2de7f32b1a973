"""coremltools as it is imported here: without the packages that it would look for, which stay importable."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from mobileclip_deploy.targets.coremltools_alone import import_coremltools
coremltools = import_coremltools()
assert coremltools is sys.modules["coremltools"] is import_coremltools()
assert not {"sklearn", "executorch"} & set(sys.modules)
import executorch.exir
from coremltools.converters.mil.mil import Builder
"""


def test_what_is_left_out_of_the_import_is_neither_imported_nor_in_the_way_later() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
