"""Every tolerance of `verify` and `parity` has a row in benchmarks/tolerances.py, whose margins margins.py shows."""

import importlib
import pkgutil
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from mobileclip_deploy.parity import Bound

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
PACKAGES = "mobileclip_deploy.verify", "mobileclip_deploy.parity"
OTHERS_FILES = "mobileclip_deploy.verify.audit."
"""It judges what others made: tests/verify/audit/judge_subjects.py and app_mistakes.py show their margins."""
NO_TOLERANCES = {
    "graph.SMALLEST": "the smallest probability with accurate digits",
    "place.HALF": "the largest number of float16",
    "place.LARGEST": "the largest number of float32",
    "ranges.SMALLEST": "the smallest range that is judged",
}


@pytest.fixture
def tolerances(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("tolerances")
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(SCRIPTS)):
            del sys.modules[name]


def constants() -> Iterator[str]:
    """MODULE.NAME of every constant with a fraction, a bound, or values of these."""
    for package in map(importlib.import_module, PACKAGES):
        for entry in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if entry.name.startswith(OTHERS_FILES):
                continue
            module = importlib.import_module(entry.name)
            source = Path(str(module.__file__)).read_text(encoding="utf-8")
            assigned = re.findall(r"^([A-Z_]+(?:, [A-Z_]+)*)(?:: .*?)? = ", source, re.M)
            for name in dict.fromkeys(", ".join(assigned).split(", ") if assigned else ()):
                value = getattr(module, name)
                values = [*value.values()] if isinstance(value, Mapping) else [value]
                if any(isinstance(each, (float, Bound)) for each in values):
                    yield f"{entry.name.rpartition('.')[2]}.{name}"


def test_every_tolerance_has_a_row(tolerances: ModuleType) -> None:
    rows = Counter(name.partition(" of ")[0] for name in tolerances.TOLERANCES)
    found = Counter(name.partition(".")[2] for name in constants() if name not in NO_TOLERANCES)
    assert not found - rows


def test_a_third_is_nearer_to_what_is_exact(tolerances: ModuleType) -> None:
    changed = {name: own for name, own in tolerances.TOLERANCES.items() if own.module is not None}
    assert len(changed) >= 10
    for name, own in changed.items():
        now, third = getattr(own.module, name.partition(" of ")[0]), own.third(name)
        if isinstance(now, Bound):
            assert (third.metric, third > now) == (now.metric, now.metric == "cosine")
        else:
            assert third == own.value / 3 == now / 3
