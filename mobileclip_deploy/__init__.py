"""mobileclip-deploy: a trained MobileCLIP checkpoint to an app's format, proven to be the same model.

import mobileclip_deploy as mcd

model = mcd.load_model("mobileclip_s0", "mobileclip_s0.pt")
report = mcd.reparameterize(model)
bundle = mcd.export(model, target="coreml", precision="fp16", output="out/")
result = mcd.verify(bundle)
runner = mcd.load_runner(bundle, tower="image")
embeddings = runner(mcd.preprocess(["cat.jpg"], bundle))

Every command of the command line has its function here; it stands in the `door` of its room. What a function is given
is held against its annotations on the way through this package (`arguments.checked`), and there alone.
"""

from __future__ import annotations

import functools
import importlib
import sys
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from mobileclip_deploy.arguments import checked

if TYPE_CHECKING:
    from mobileclip_deploy.benchmark.doctor import Diagnosis, doctor
    from mobileclip_deploy.benchmark.door import (
        BenchmarkOutcome,
        BenchmarkResult,
        DeviceListing,
        benchmark,
        devices,
        write_job,
    )
    from mobileclip_deploy.benchmark.report import report
    from mobileclip_deploy.bundle import Bundle
    from mobileclip_deploy.checkpoints.convert import Conversion, convert
    from mobileclip_deploy.checkpoints.door import load_model
    from mobileclip_deploy.embeddings.door import (
        BridgeResult,
        EmbeddingFile,
        IndexFile,
        SearchResult,
        bridge,
        embed,
        export_index,
        search,
    )
    from mobileclip_deploy.embeddings.index import Index
    from mobileclip_deploy.errors import MobileClipDeployError
    from mobileclip_deploy.evaluation.classification import Classification, Classifications, classify
    from mobileclip_deploy.evaluation.door import (
        EvaluationResult,
        SuiteResult,
        evaluate,
        evaluate_suite,
        load_runner,
    )
    from mobileclip_deploy.evaluation.inputs import preprocess, tokenize
    from mobileclip_deploy.export.door import export, export_all
    from mobileclip_deploy.folding import FoldReport
    from mobileclip_deploy.inspect.door import (
        Inspection,
        LintComparison,
        LintReport,
        Variant,
        compare_lint,
        inspect,
        lint,
        variants,
    )
    from mobileclip_deploy.layouts import Layout, layouts, read_layout
    from mobileclip_deploy.learning.door import (
        AugmentationPolicy,
        DistilledTower,
        Recovery,
        RecoverySettings,
        Reinforced,
        Trained,
        recover,
        reinforce,
        train,
        train_text_tower,
    )
    from mobileclip_deploy.model.architecture import MobileCLIP
    from mobileclip_deploy.parity import Gates, ParityReport
    from mobileclip_deploy.sweep.door import SweepResult, sweep
    from mobileclip_deploy.targets import Runner
    from mobileclip_deploy.towers.door import reparameterize
    from mobileclip_deploy.verify.door import Comparison, Explanation, compare, explain, verify
    from mobileclip_deploy.web.demo import demo, write_demo

__all__ = [
    "AugmentationPolicy",
    "BenchmarkOutcome",
    "BenchmarkResult",
    "BridgeResult",
    "Bundle",
    "Classification",
    "Classifications",
    "Comparison",
    "Conversion",
    "DeviceListing",
    "DistilledTower",
    "Diagnosis",
    "EmbeddingFile",
    "EvaluationResult",
    "Explanation",
    "FoldReport",
    "Gates",
    "Index",
    "IndexFile",
    "Inspection",
    "Layout",
    "LintComparison",
    "LintReport",
    "MobileCLIP",
    "MobileClipDeployError",
    "ParityReport",
    "Recovery",
    "RecoverySettings",
    "Reinforced",
    "Runner",
    "SearchResult",
    "SuiteResult",
    "SweepResult",
    "Trained",
    "Variant",
    "benchmark",
    "bridge",
    "classify",
    "compare",
    "compare_lint",
    "convert",
    "demo",
    "devices",
    "doctor",
    "embed",
    "evaluate",
    "evaluate_suite",
    "explain",
    "export",
    "export_all",
    "export_index",
    "inspect",
    "layouts",
    "lint",
    "load_model",
    "load_runner",
    "preprocess",
    "read_layout",
    "recover",
    "reinforce",
    "reparameterize",
    "report",
    "search",
    "sweep",
    "tokenize",
    "train",
    "train_text_tower",
    "variants",
    "verify",
    "write_demo",
    "write_job",
]

# Where each name comes from. Imported when it is first used: the command line's --help needs none of torch.
DOORS = {
    "benchmark.doctor": ("Diagnosis", "doctor"),
    "benchmark.door": ("BenchmarkOutcome", "BenchmarkResult", "DeviceListing", "benchmark", "devices", "write_job"),
    "benchmark.report": ("report",),
    "bundle": ("Bundle",),
    "checkpoints.convert": ("Conversion", "convert"),
    "checkpoints.door": ("load_model",),
    "embeddings": ("Index",),
    "embeddings.door": (
        "BridgeResult",
        "EmbeddingFile",
        "IndexFile",
        "SearchResult",
        "bridge",
        "embed",
        "export_index",
        "search",
    ),
    "errors": ("MobileClipDeployError",),
    "evaluation.classification": ("Classification", "Classifications", "classify"),
    "evaluation.door": (
        "EvaluationResult",
        "SuiteResult",
        "evaluate",
        "evaluate_suite",
        "load_runner",
    ),
    "evaluation.inputs": ("preprocess", "tokenize"),
    "export.door": ("export", "export_all"),
    "folding": ("FoldReport",),
    "inspect.door": (
        "Inspection",
        "LintComparison",
        "LintReport",
        "Variant",
        "compare_lint",
        "inspect",
        "lint",
        "variants",
    ),
    "layouts": ("Layout", "layouts", "read_layout"),
    "learning.door": (
        "AugmentationPolicy",
        "DistilledTower",
        "Recovery",
        "RecoverySettings",
        "Reinforced",
        "Trained",
        "recover",
        "reinforce",
        "train",
        "train_text_tower",
    ),
    "model.architecture": ("MobileCLIP",),
    "parity": ("Gates", "ParityReport"),
    "sweep.door": ("SweepResult", "sweep"),
    "targets": ("Runner",),
    "towers.door": ("reparameterize",),
    "verify.door": ("Comparison", "Explanation", "compare", "explain", "verify"),
    "web.demo": ("demo", "write_demo"),
}


_checked = functools.cache(checked)


class _Package(ModuleType):
    """`mobileclip_deploy.export` is a room and a public function; whoever asks the package for it means the function.

    Importing a room would put the room's module in the function's place. `from mobileclip_deploy.export import ...`
    looks the room up by its whole name and is not concerned.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    for door, names in DOORS.items():
        if name in names:
            found = getattr(importlib.import_module(f"{__name__}.{door}"), name)
            return _checked(found) if isinstance(found, FunctionType) else found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
