"""The rule that says which cases `make test` runs."""

import re

import pytest

pytest_plugins = ["pytester"]
CONFTEST = """
import pytest
from levels import mark_slow

@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    mark_slow(items)
"""
TESTS = """
import pytest

@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_lists(name, size): pass

@pytest.mark.parametrize("tower", ["image", "text"])
def test_towers(tower): pass

@pytest.mark.once("edit")
@pytest.mark.parametrize(("tower", "edit"), [("image", "x"), ("text", "x"), ("text", "y")])
def test_edits(tower, edit): pass

@pytest.mark.once(by=lambda given: given["number"] % 2)
@pytest.mark.parametrize("number", range(9))
def test_groups(number): pass

@pytest.mark.once
@pytest.mark.parametrize("number", range(9))
def test_once(number): pass

@pytest.mark.parametrize("number", range(9))
def test_all(number): pass
"""


def test_make_test_runs_as_few_cases_as_show_every_entry(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_of_it=TESTS)
    marks = ("-o", "markers=once\nslow", "--strict-markers", "-p", "no:cacheprovider", "-p", "no:xdist")
    found = pytester.runpytest("--collect-only", "-q", "-m", "not slow", *marks).stdout.str()
    kept = dict[str, list[str]]()
    for name, case in re.findall(r"::test_(\w+)\[(.*)\]", found):
        kept.setdefault(name, []).append(case)
    assert sorted(kept.pop("lists")) == ["a-1", "b-2", "c-1"]
    assert len(kept.pop("towers")) == 1
    assert kept == {
        "edits": ["image-x", "text-y"],
        "groups": ["0", "1"],
        "once": ["0"],
        "all": [str(number) for number in range(9)],
    }
