"""The two levels of tests: `make test` proves every promise once, `make test-all` runs every case there is.

A test with several lists of parameters runs in `make test` with as few of its cases as show every entry of each list;
the others are marked `slow`. Towers are no entries: a test of both runs with one, half of the tests with the image
tower and half with the text tower. `@pytest.mark.once("edit", "tower")` says that every value of these two counts and
nothing else does; `@pytest.mark.once(by=...)` names a function that takes a case's parameters and gives the value that
counts; `@pytest.mark.once` leaves one case. A test that takes long and shows another behaviour is marked by hand.
"""

import zlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path

import pytest

TOWERS = ("image", "text")
QUICK = pytest.StashKey[list[pytest.Function]]()
"""The tests that `make test` runs, of those that were collected."""
ALL = pytest.StashKey[bool]()
"""Whether tests of every folder were collected."""


def all_rooms(items: Iterable[pytest.Item]) -> bool:
    """Whether tests of every folder are among them."""
    return {item.path.parent for item in items} == {path.parent for path in Path(__file__).parent.rglob("test_*.py")}


def mark_slow(items: Iterable[pytest.Item]) -> None:
    """Mark the cases that `make test` does not need."""
    tests: defaultdict[str, list[tuple[pytest.Item, frozenset[Hashable]]]] = defaultdict(list)
    for item in items:
        chosen = isinstance(item, pytest.Function) and item.get_closest_marker("slow") is None
        if chosen and hasattr(item, "callspec"):
            tests[item.nodeid.partition("[")[0]].append((item, shown(item)))
    for name, cases in tests.items():
        first = TOWERS[zlib.crc32(name.encode()) % 2]
        cases.sort(key=lambda case: f"[{first}" not in case[0].name and f"-{first}" not in case[0].name)
        seen: set[Hashable] = set()
        needed = set()
        for whole in (True, False):  # first those that show new values alone
            for number, (_, values) in enumerate(cases):
                if number not in needed and (values.isdisjoint(seen) if whole else not values <= seen):
                    needed.add(number)
                    seen |= values
        for number, (item, _) in enumerate(cases):
            if number not in needed:
                item.add_marker(pytest.mark.slow)


def shown(item: pytest.Function) -> frozenset[Hashable]:
    """What a case shows that another one may show as well."""
    marker = item.get_closest_marker("once")
    if marker is None:
        names = enumerate(item.callspec._idlist)  # one for each list of parameters
        return frozenset((place, name) for place, name in names if name not in TOWERS) or frozenset([None])
    given = item.callspec.params
    by: Callable[[dict[str, object]], Hashable] = marker.kwargs.get("by", lambda _: None)
    return frozenset((name, given.get(name)) for name in marker.args) or frozenset([by(given)])
