"""coremltools, imported alone; and the files of a .mlpackage, the same bytes for the same content: of Core ML, and of
those inside a .pte."""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from types import ModuleType

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
