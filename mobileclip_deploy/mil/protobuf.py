"""coremltools' protobuf classes, without importing coremltools.

`import coremltools.proto` runs the whole of coremltools first: seconds, and a dozen lines of warnings on Linux. The
generated modules only need each other, so they are imported under a private package name from where coremltools is
installed. protobuf's descriptor pool hands the same classes to coremltools when it is imported later.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any

from mobileclip_deploy.errors import DependencyMissing, worded
from mobileclip_deploy.mil.faults import InvalidInput

__all__ = ["parse_model"]

_PRIVATE = "_mobileclip_deploy_coremltools_proto"


@cache
def _model_class() -> Any:
    if "coremltools.proto" in sys.modules:
        return importlib.import_module("coremltools.proto.Model_pb2").Model
    spec = importlib.util.find_spec("coremltools")
    if spec is None or spec.origin is None:
        raise DependencyMissing("reading a Core ML package needs coremltools: pip install coremltools")
    package = types.ModuleType(_PRIVATE)
    package.__path__ = [str(Path(spec.origin).parent / "proto")]
    sys.modules[_PRIVATE] = package
    return importlib.import_module(f"{_PRIVATE}.Model_pb2").Model


def parse_model(data: bytes, what: str) -> Any:
    """Parse a serialized CoreML.Specification.Model.

    Raises:
        InvalidInput: the bytes are not such a message.
        DependencyMissing: coremltools is not installed.
    """
    model = _model_class()()
    from google.protobuf.message import DecodeError

    try:
        model.ParseFromString(data)
    except (DecodeError, RecursionError, ValueError) as error:
        raise InvalidInput(f"{what} is not a Core ML specification: {worded(error)}") from None
    return model
