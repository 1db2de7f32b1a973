"""coremltools: a fast import, its private parts, reproducible packages, and faster passes.

Written .mlpackage folders, for Core ML and inside a .pte, have the same bytes for the same content. Half of the time of
coremltools' 80 passes goes into work that does not change the program. That work is left out:

- It checks the whole program after each pass. One check after each pipeline of passes remains.
- It writes the whole program as text, for a log that nobody keeps.
- After each pass it searches again, for every value, the compressed weights that it depends on. A value that depends on
  one may not be replaced by one that does not. It does so even for constants, which depend on nothing, and for programs
  without compressed weights.
"""

import contextlib
import json
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from mobileclip_deploy.targets.vendor_internals import Private, exchanged

MIL = "coremltools.converters.mil.mil"
APPLY_PASSES = Private("coremltools", "9.0", "coremltools.models.utils", "_apply_graph_pass")
PROPAGATE = Private("coremltools", "9.0", MIL, "Block._propagate_nonreplaceable_vars")
UPSTREAM = Private("coremltools", "9.0", MIL, "Var._set_nonreplaceable_vars_upstream")
STATISTICS = Private(
    "coremltools",
    "9.0",
    "coremltools.optimize.coreml._post_training_quantization",
    "_get_activation_calibration_stats",
)


@contextlib.contextmanager
def measured(ranges: Mapping[str, Mapping[str, float]]) -> Iterator[None]:
    """Context manager that makes coremltools use these ranges of activations instead of measuring.

    coremltools 9.0 would run the model through Core ML, which exists on macOS only. It also keeps only the last sample
    (`_update_tensor_range` overwrites before it compares; fixed after 9.0).
    """
    STATISTICS()
    with exchanged(sys.modules[STATISTICS.module], STATISTICS.name, lambda *_: ranges):
        yield


@contextlib.contextmanager
def lean_passes() -> Iterator[None]:
    """Context manager in which coremltools' passes make their changes to a program, and no more.

    Generated names are counted from 0, whatever programs this process made before: a conversion resets the counts at
    its end, not at its start.
    """
    import_coremltools()
    from coremltools.converters.mil.mil import Block, Builder, Program, Var
    from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipelineManager

    apply, propagate, upstream = PassPipelineManager.apply_pipeline, PROPAGATE(), UPSTREAM()
    Builder.name_count.clear()

    def apply_pipeline(program: Any, pipeline: Any) -> None:
        program.validate = lambda **_: None
        try:
            with exchanged(Program, "__str__", lambda _: "a program"):
                apply(program, pipeline)
        finally:
            del program.validate
        program.validate()

    def propagate_if_any(block: Any) -> None:
        if any(op.op_type.startswith("constexpr_") for op in block.operations):
            propagate(block)

    def upstream_of_results(var: Any) -> None:
        if var.op is None or var.op.op_type != "const":  # a constant depends on nothing
            upstream(var)

    with (
        exchanged(PassPipelineManager, "apply_pipeline", staticmethod(apply_pipeline)),
        exchanged(Block, "_propagate_nonreplaceable_vars", propagate_if_any),
        exchanged(Var, "_set_nonreplaceable_vars_upstream", upstream_of_results),
    ):
        yield


# An arbitrary constant: identifiers that coremltools draws at random are derived from it and a path instead.
NAMESPACE = uuid.UUID("5d1c7f2e-6c0b-5f8e-9a55-3c1f6f0b9a10")
SPECIFICATION = Path("Data") / "com.apple.CoreML" / "model.mlmodel"


def make_reproducible(path: Path) -> None:
    """Replaces random identifiers in the package's manifest, orders the specification's maps, and deletes debug
    files."""
    from coremltools.proto import Model_pb2

    (path / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
    manifest = path / "Manifest.json"
    data = json.loads(manifest.read_text(encoding="utf-8"))
    names = {old: str(uuid.uuid5(NAMESPACE, entry["path"])).upper() for old, entry in data["itemInfoEntries"].items()}
    data["itemInfoEntries"] = {
        names[old]: entry for old, entry in sorted(data["itemInfoEntries"].items(), key=lambda item: item[1]["path"])
    }
    data["rootModelIdentifier"] = names[data["rootModelIdentifier"]]
    manifest.write_text(json.dumps(data, indent=4) + "\n", encoding="utf-8")
    specification = path / SPECIFICATION
    model = Model_pb2.Model.FromString(specification.read_bytes())
    specification.write_bytes(model.SerializeToString(deterministic=True))


# Packages that no conversion here uses, and that coremltools imports to test for their presence. torch is not hidden.
OTHERS = ("sklearn", "executorch", "torchvision", "torchao", "transformers")


def import_coremltools() -> ModuleType:
    """Imports the package without its unused imports; after torch this takes less than half of the time.

    Converters from scikit-learn are then missing from it, as they are with a scikit-learn newer than 1.5.
    """
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    hidden = {name: modules.get(name) for name in OTHERS if name not in modules}
    if "executorch.exir" not in modules:  # the compiler, which coremltools imports if the runtime is installed
        hidden["executorch"] = modules.get("executorch")
    if "coremltools" in modules:
        hidden = {}
    modules |= dict.fromkeys(hidden)  # importing a module set to None fails, as if it were not installed
    try:
        import coremltools
    finally:
        for name, module in hidden.items():
            modules[name] = module
            if module is None:
                del modules[name]
    package: ModuleType = coremltools
    return package
