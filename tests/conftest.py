"""What all tests share."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # also where a test imports ONNX Runtime before the package
os.environ.pop("COLUMNS", None)  # tests that need a width set one
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported; see mobileclip_deploy.cli.main
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    # Each process its share of the cores: with all of them for each they wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):  # for those that tests start, too; the Makefile says why
    sys.dont_write_bytecode = False

# Java's programs end before its second compiler, or a collector for several cores, is worth what they take.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")

import pytest
from building import ROOT
from levels import ALL, QUICK, all_rooms, mark_slow
from swift_package import HARNESS_CORE

if TYPE_CHECKING:  # the process that starts the others and sums up needs neither, and they wait for it
    from conversions import Store
    from exports import Exports

gc.disable()  # until all is imported: a quarter of what that takes goes into looking for garbage that is not there

# The files that take longest in either level, the longest first, so that all processes end together. Swift's and those
# of the ready runners stand behind others, which go on while what they need is built.
LONGEST = (
    "targets/test_conformance.py",
    "spaces/test_forms.py",
    "faults/test_kinds.py",
    "clients/test_kotlin.py",
    "golden/test_goldens.py",
    "network/checkpoints/test_filled_towers.py",
    "benchmark/android/test_harness.py",
    "clients/test_js.py",
    "hostile/test_rows.py",
    "end_to_end/test_nano.py",
    "clients/test_swift.py",
    "benchmark/ios/test_failures.py",
    "targets/qnn/test_qnn.py",
    "targets/coreml/test_coreml_golden.py",
    "clients/test_java.py",
    "ios_harness/test_package.py",
    "faults/test_attachment_faults.py",
    "targets/executorch/test_executorch.py",
    "docs/test_release.py",
    "benchmark/android/test_ready.py",
    "artifacts/towers/test_classifier.py",
    "network/checkpoints/test_siglip2.py",
    "faults/test_field_fuzz.py",
    "search/test_library.py",
    "targets/onnx/test_onnx_contexts.py",
    "training/trainer/test_training.py",
    "training/language/test_distilling.py",
    "targets/executorch/test_executorch_goldens.py",
    "export/test_relatives.py",
    "network/checkpoints/test_against_open_clip.py",
    "export/smallest/test_search.py",
    "targets/test_third_party.py",
    "rounding/test_rounding.py",
    "targets/litert/test_litert.py",
    "targets/mlx/test_mlx.py",
    "benchmark/android/test_disconnection.py",
    "targets/coreml/test_coreml_multifunction.py",
    "faults/test_qnn_faults.py",
    "targets/coreml/test_coreml_compression.py",
    "export/test_compact.py",
    "targets/test_vendor_executorch.py",
    "examples/test_notebook.py",
    "targets/test_tables.py",
)


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files in that order, then the others; marked for the two levels."""
    mark_slow(items)
    config.stash[ALL] = all_rooms(items)
    config.stash[QUICK] = [
        item for item in items if isinstance(item, pytest.Function) and item.get_closest_marker("slow") is None
    ]
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def own_garbage() -> None:
    """In each file garbage is looked for among what came since the one before: in all modules it takes long."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For what several files of tests read."""
    return tmp_path_factory.mktemp("session", numbered=False)


@pytest.fixture(scope="module", autouse=True)
def own_folders(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, session_folder: Path
) -> Iterator[None]:
    """What a file of tests wrote goes with it, unless one of them failed: all together write 19 GB."""
    base, failed = tmp_path_factory.getbasetemp(), request.session.testsfailed
    before = {session_folder, *base.iterdir()}
    yield
    if request.session.testsfailed == failed:
        for path in set(base.iterdir()) - before:
            path.unlink() if path.is_symlink() else shutil.rmtree(path)


@pytest.fixture(scope="module", autouse=True)
def own_temporary_folder(own_folders: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs that tests start, such as compilers and browsers, leave folders here, and ours, where a test kills
    them, what the next one removes with a line on stderr: no other file of tests reads that line."""
    tempfile.gettempdir()  # this process keeps its own
    with pytest.MonkeyPatch.context() as patched:
        folder = tmp_path_factory.mktemp("temp")
        patched.setenv("TMPDIR", str(folder))
        patched.setenv("JAVA_TOOL_OPTIONS", f"{os.environ['JAVA_TOOL_OPTIONS']} -Djava.io.tmpdir={folder}")
        yield


@pytest.fixture(scope="module", autouse=True)
def own_variants() -> Iterator[None]:
    """A process reads the card of a name once: the next file of tests may know another one by that name."""
    from mobileclip_deploy.network.model.variants import load_variant

    yield
    load_variant.cache_clear()


@pytest.fixture(autouse=True)
def own_random_numbers() -> None:
    """The same for a test whatever ran before it in its process."""
    import torch

    torch.default_generator.manual_seed(0)  # `torch.manual_seed` formats a traceback for each kind of GPU


ADB_SERVER = ("127.0.0.1", 5037)


@pytest.fixture(scope="module", autouse=True)
def no_adb_server_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """The computer's own adb starts a server, which outlives the test: `without_phones`, or a stand-in's namespace."""
    before = answers(ADB_SERVER)
    yield
    if not before and answers(ADB_SERVER):
        pytest.fail(f"a test of {request.node.name}, or of a file that ran beside it, started an adb server")


def answers(address: tuple[str, int]) -> bool:
    """Whether a program listens there."""
    with socket.socket() as client:
        return client.connect_ex(address) == 0


@pytest.fixture
def without_phones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adb that knows no phone. The real one starts a server, which would outlive the tests."""
    adb = tmp_path / "bin" / "adb"
    adb.parent.mkdir()
    adb.write_text("#!/bin/sh\necho 'List of devices attached'\n")
    adb.chmod(0o755)
    monkeypatch.setenv("PATH", f"{adb.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture(scope="session")
def store() -> Store:
    """What is made once for all processes, and kept for the next run of the same sources."""
    from conversions import Store

    return Store.open(ROOT / "build" / "tests")


@pytest.fixture(scope="session")
def exports(store: Store) -> Exports:
    """Bundles of the built-in network, exported once."""
    from exports import Exports

    return Exports(store)


@pytest.fixture(scope="module", autouse=True)
def stored_conversions(request: pytest.FixtureRequest, store: Store) -> Iterator[None]:
    """The same conversion is not made again (see conversions.py), but by files of tests that are marked `converts`."""
    with contextlib.nullcontext() if request.node.get_closest_marker("converts") else store.conversions():
        yield


@pytest.fixture(scope="module")
def stored_embeddings(store: Store) -> Iterator[None]:
    """For tests of what comes after accuracy was measured: the same images are not embedded again by the same tower."""
    with store.embeddings():
        yield


@pytest.fixture(scope="session")
def swift() -> Path:
    """The folder with the Swift programs and tests of ios_harness."""
    return HARNESS_CORE.built()


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str, str], str]:
    """Name of a program and how to install it -> its path; without it the test is skipped, and in CI it fails."""

    def find(name: str, install: str) -> str:
        path = shutil.which(name)
        if path is None:
            missing = f"needs {name}: {install}"
            pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
        return path

    return find
