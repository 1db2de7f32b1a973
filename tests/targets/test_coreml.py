"""Core ML packages: the names, types, shapes and sizes that Apple's app relies on, and reproducible bytes."""

from __future__ import annotations

from exports import Exports

from mobileclip_deploy.files import artifact_bytes


def test_pixels_are_divided_by_255_inside(exports: Exports) -> None:
    """coremltools puts the scale into the program: bytes times 1/255 are the graph's first step."""
    from mobileclip_deploy.mil import load

    first = next(op for op in load(exports.bundle("coreml", "fp16").artifact("image")).operations if op.type == "mul")
    constants = [value for value in first.inputs.values() if "scale" in repr(value).lower() or "0.0039" in repr(value)]
    assert constants


def test_nano_passes_its_gates_by_the_evaluator(exports: Exports) -> None:
    checks = exports.bundle("coreml", "fp16").parity
    assert {(check.step, check.status) for check in checks} >= {("twin", "passed"), ("shipped", "passed")}
    assert all(check.status == "passed" for check in checks)


def test_the_manifest_counts_what_is_there(exports: Exports) -> None:
    bundle = exports.bundle("coreml", "fp16")
    for tower, entry in bundle.manifest.towers.items():
        assert entry.file == f"nano_{tower}.mlpackage"
        assert entry.bytes == artifact_bytes(bundle.path / entry.file)
