"""What is public is meant to be, documented, and cheap to import."""

import ast
import importlib
import inspect
import pkgutil
import sys
from pathlib import Path

import pytest
from programs import output

import mobileclip_deploy

HEAVY = ("torch", "torchvision", "numpy", "coremltools", "onnx", "onnxruntime", "onnxscript", "executorch", "open_clip")
TYPES = [
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
    "EmbeddingsReport",
    "EvaluationResult",
    "Explanation",
    "FoldReport",
    "ForeignReport",
    "Gates",
    "Index",
    "IndexFile",
    "Inspection",
    "LabelHead",
    "Languages",
    "Layout",
    "LintComparison",
    "LintReport",
    "MobileCLIP",
    "MobileClipDeployError",
    "OpenBundle",
    "ParityReport",
    "Reinforced",
    "Runner",
    "SearchResult",
    "SuiteResult",
    "SweepResult",
    "TowerTest",
    "Trained",
    "Variant",
]


def test_type_checkers_see_the_names_that_python_has() -> None:
    stub = Path(mobileclip_deploy.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    imports = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]
    doors = {f"{node.module}".partition(".")[2]: {alias.name for alias in node.names} for node in imports}
    assert doors == {door: set(names.split()) for door, names in mobileclip_deploy.DOORS.items()}


def modules() -> list[str]:
    found = pkgutil.walk_packages(mobileclip_deploy.__path__, "mobileclip_deploy.")
    elsewhere = ("mobileclip_deploy.cli.", "mobileclip_deploy.benchmark.host.windows")
    return [module.name for module in found if not module.name.startswith(elsewhere)]


def test_the_public_names_are_these_and_no_others() -> None:
    """Whoever adds a type adds it here too, on purpose; a function to a table (docs/test_python.py)."""
    assert sorted(name for name in mobileclip_deploy.__all__ if name[0].isupper()) == sorted(TYPES)
    assert sorted(dir(mobileclip_deploy)) == sorted(mobileclip_deploy.__all__)


@pytest.mark.parametrize("name", mobileclip_deploy.__all__)
def test_a_public_name_exists_and_has_a_docstring_of_its_own(name: str) -> None:
    thing = getattr(mobileclip_deploy, name)
    assert (thing.__doc__ or "").strip()
    if inspect.isfunction(thing):
        assert "Raises:" in (thing.__doc__ or "")


@pytest.mark.parametrize("name", [name for name in mobileclip_deploy.__all__ if name[0].islower()])
def test_the_types_of_a_public_function_can_be_read_at_run_time(name: str) -> None:
    signature = inspect.signature(getattr(mobileclip_deploy, name))
    unannotated = [p.name for p in signature.parameters.values() if p.annotation is inspect.Parameter.empty]
    assert (unannotated, signature.return_annotation is inspect.Signature.empty) == ([], False)


def test_a_name_that_is_not_public_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'exprot'"):
        _ = mobileclip_deploy.exprot


def test_what_every_room_offers_exists() -> None:
    offered = [(name, item) for name in modules() for item in getattr(importlib.import_module(name), "__all__", ())]
    assert len(offered) > 100
    assert [(name, item) for name, item in offered if not hasattr(sys.modules[name], item)] == []


@pytest.mark.parametrize("program", ["import mobileclip_deploy", "import mobileclip_deploy.cli"])
def test_importing_brings_in_nothing_heavy(program: str) -> None:
    check = f"import sys; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    assert output(sys.executable, "-c", f"{program}; {check}").strip() == "[]"
