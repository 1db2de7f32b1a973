"""coremltools, imported alone, and what it keeps for itself; the files of a .mlpackage, the same bytes for the same
content: of Core ML, and of those inside a .pte; and what it does in its 80 passes over a program that does not change
the program: half of their time.

- It checks the whole program after each pass. One check after each pipeline of passes stays.
- It writes the whole program as text, for a log that nobody keeps.
- Whenever a pass is left it finds anew, for every value, which compressed weights it comes from, since what depends on
  one may not be replaced by what does not: also of constants, which come from nothing, and of programs without any.
"""

from __future__ import annotations

import contextlib
import json
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from mobileclip_deploy.targets.foreign import Private, exchanged

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
    """Have coremltools take these ranges of activations instead of measuring.

    coremltools 9.0 would run the model through Core ML, which exists on macOS only, and keeps only the last sample
    (`_update_tensor_range` overwrites before it compares; fixed after 9.0).
    """
    STATISTICS()
    with exchanged(sys.modules[STATISTICS.module], STATISTICS.name, lambda *_: ranges):
        yield


@contextlib.contextmanager
def lean_passes() -> Iterator[None]:
    """In here coremltools' passes do what they do to a program, and no more; and the names that it gives are counted
    from 0, whatever programs this process has made before: a conversion clears the counts when it ends, not before."""
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
        if var.op is None or var.op.op_type != "const":  # a constant comes from nothing
            upstream(var)

    with (
        exchanged(PassPipelineManager, "apply_pipeline", staticmethod(apply_pipeline)),
        exchanged(Block, "_propagate_nonreplaceable_vars", propagate_if_any),
        exchanged(Var, "_set_nonreplaceable_vars_upstream", upstream_of_results),
    ):
        yield


# Any constant will do: identifiers that coremltools draws at random are derived from it and a path instead.
NAMESPACE = uuid.UUID("5d1c7f2e-6c0b-5f8e-9a55-3c1f6f0b9a10")
SPECIFICATION = Path("Data") / "com.apple.CoreML" / "model.mlmodel"


def make_reproducible(path: Path) -> None:
    """Replace the random identifiers of the package's manifest, order the specification's maps, drop debug files."""
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


# What nothing here is converted from, and what coremltools imports to learn whether it is there. It keeps torch.
OTHERS = ("sklearn", "executorch", "torchvision", "torchao", "transformers")


def import_coremltools() -> ModuleType:
    """The package, without what it would import for nothing: after torch that takes less than half of the time.

    Converters from scikit-learn are then missing from it, as they are with a scikit-learn newer than 1.5.
    """
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    hidden = {name: modules.get(name) for name in OTHERS if name not in modules}
    if "executorch.exir" not in modules:  # the compiler, which is imported where the runtime is there
        hidden["executorch"] = modules.get("executorch")
    if "coremltools" in modules:
        hidden = {}
    modules |= dict.fromkeys(hidden)  # an import of None fails as that of a package that is not installed
    try:
        import coremltools
    finally:
        for name, module in hidden.items():
            modules[name] = module
            if module is None:
                del modules[name]
    found: ModuleType = coremltools
    return found
