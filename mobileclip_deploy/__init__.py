"""Takes a trained MobileCLIP checkpoint to an app's format, and proves that it is still the same model.

import mobileclip_deploy as mcd

model = mcd.load_model("mobileclip_s0", "mobileclip_s0.pt")
report = mcd.reparameterize(model)
bundle = mcd.export(model, target="coreml", precision="fp16", output="out/")
result = mcd.verify(bundle)
runner = mcd.load_runner(bundle, tower="image")
embeddings = runner(mcd.preprocess(["cat.jpg"], bundle))

Each command of the command line has its function here. A module is imported when one of its names is first used, so
that this import is quick. Functions refuse wrong arguments in one sentence (`base/arguments.py`).
"""

import functools
import importlib
import os
import sys
from types import FunctionType, ModuleType
from typing import Any

from mobileclip_deploy.base.arguments import checked

# Otherwise ONNX Runtime 1.29 and newer reports to Microsoft which models a process loads. A value of yours is kept.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Otherwise Hugging Face's packages send their version and your user agent with each download.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

DOORS = {
    "artifacts.bundle": "Bundle",
    "artifacts.layouts": "Layout layouts read_layout",
    "artifacts.towers.door": "reparameterize",
    "artifacts.heads.label_head": "LabelHead",
    "benchmark.doctor": "Diagnosis doctor",
    "benchmark.door": "BenchmarkOutcome BenchmarkResult DeviceListing benchmark devices write_job",
    "benchmark.report": "report",
    "benchmark.suite.door": "SuiteResult evaluate_suite",
    "benchmark.sweep.door": "SweepResult sweep",
    "errors": "MobileClipDeployError",
    "evaluation.classification": "Classification Classifications classify",
    "evaluation.door": "EvaluationResult evaluate load_runner",
    "export.door": "export export_all",
    "network.checkpoints.convert": "Conversion convert",
    "network.checkpoints.cutting": "Languages",
    "network.checkpoints.door": "load_model",
    "network.folding": "FoldReport",
    "network.model.architecture": "MobileCLIP",
    "parity": "Gates ParityReport",
    "pictures.inputs": "preprocess tokenize",
    "search.door": "BridgeResult EmbeddingFile IndexFile SearchResult bridge embed export_index search",
    "search.index": "Index",
    "spaces.tags.door": "learn_labels",
    "targets": "Runner",
    "training.door": "AugmentationPolicy DistilledTower Reinforced Trained reinforce train train_text_tower",
    "evaluation.opened": "OpenBundle TowerTest open_bundle",
    "verify.door": "Comparison Explanation compare explain verify",
    "verify.audit.embeddings": "EmbeddingsReport verify_embeddings",
    "verify.audit.door": "ForeignReport audit verify_file",
    "verify.inspect.door": "Inspection LintComparison LintReport Variant compare_lint inspect lint variants",
    "web.demo": "demo write_demo",
}
"""Public names by the module that defines them. `__init__.pyi` has the same names for editors and type checkers."""
_DOOR_OF = {name: door for door, names in DOORS.items() for name in names.split()}
__all__ = sorted(_DOOR_OF)

_checked = functools.cache(checked)


class _Package(ModuleType):
    """This package, in which `mobileclip_deploy.export` is the public function and not the room of the same name.

    An import of a room sets the room as an attribute; such an assignment is ignored. `from mobileclip_deploy.export
    import ...` finds the room by its whole name.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _DOOR_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f"{__name__}.{_DOOR_OF[name]}"), name)
    except ModuleNotFoundError as error:  # torch, for what makes bundles
        from mobileclip_deploy.errors import missing_extra

        raise missing_extra(error) or error from error
    return _checked(value) if isinstance(value, FunctionType) else value


def __dir__() -> list[str]:
    return __all__
