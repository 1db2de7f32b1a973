"""What tests of Core ML packages share: conversions made once, and the size of weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobileclip_deploy.base.files.staging import remove
from mobileclip_deploy.targets.coreml import package


@contextmanager
def shared_conversions() -> Iterator[None]:
    """Export a tower once, and convert it once for a deployment target, however many precisions it is compressed to."""
    converted: dict[tuple[int, str, str, bool], Any] = {}
    programs: dict[tuple[int, str], Any] = {}
    original, export, keep = package.convert, package.exported, package._kept

    def exported(job):  # type: ignore[no-untyped-def]
        key = id(job.variant), job.tower
        if key not in programs:
            programs[key] = export(job)
        return programs[key]

    def convert(job, target, *names):  # type: ignore[no-untyped-def]
        key = id(job.variant), job.tower, target, job.precision == "fp32"
        if key not in converted:
            converted[key] = original(job, target, *names)
        return converted[key]

    def kept(packages, model):  # type: ignore[no-untyped-def]
        return model if any(model is one for one in converted.values()) else keep(packages, model)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "exported", exported)
        patch.setattr(package, "convert", convert)
        patch.setattr(package, "_kept", kept)
        yield
    for model in converted.values():
        remove(Path(model.package_path))


def specification(path: Path) -> Any:
    """The package's model description as Core ML reads it."""
    from coremltools.proto import Model_pb2

    return Model_pb2.Model.FromString((path / "Data" / "com.apple.CoreML" / "model.mlmodel").read_bytes())


def weight_file(path: Path) -> tuple[int, int]:
    """Bytes of a package's weights without the header and metadata (64 bytes each) of the file; how many there are."""
    data = (path / "Data/com.apple.CoreML/weights/weight.bin").read_bytes()
    count = int(np.frombuffer(data[:4], np.uint32)[0])
    return len(data) - 64 * (count + 1), count
