"""Where something is to be written is tried before anything is computed, and refused in a line that says why."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.files import check_bundle_destination, check_file_destination

MARKER = "manifest.json"
NOBODY = 65534
Check = Callable[[Path], None]


def bundle(path: Path, force: bool = False) -> None:
    check_bundle_destination(path, MARKER, force)


def file(path: Path, force: bool = False) -> None:
    check_file_destination(path, force)


both = pytest.mark.parametrize("check", [bundle, file])


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """As an ordinary user: root may write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def a_bundle(path: Path) -> Path:
    path.mkdir()
    (path / MARKER).write_text("{}")
    return path


@both
def test_what_is_not_there_yet_can_be_written_and_nothing_is_left_by_asking(check: Check, tmp_path: Path) -> None:
    check(tmp_path / "new" / "deeper" / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_exists_is_refused_without_force(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--force"):
        bundle(a_bundle(tmp_path / "b"))
    bundle(tmp_path / "b", force=True)


def test_a_file_that_exists_is_refused_without_force(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(UsageError, match="--force"):
        file(tmp_path / "f")
    file(tmp_path / "f", force=True)


def test_a_folder_that_is_no_bundle_is_refused_even_with_force(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_text("x")
    with pytest.raises(UsageError, match="not a bundle"):
        bundle(tmp_path / "photos", force=True)


def test_a_link_is_refused_even_with_force_since_it_would_be_replaced_not_followed(tmp_path: Path) -> None:
    a_bundle(tmp_path / "b")
    (tmp_path / "link").symlink_to(tmp_path / "b")
    with pytest.raises(UsageError, match="not a folder"):
        bundle(tmp_path / "link", force=True)


def test_a_file_where_a_bundle_should_be_is_refused_even_with_force(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(UsageError, match="not a folder"):
        bundle(tmp_path / "f", force=True)


def test_a_folder_where_a_file_should_be_is_refused_even_with_force(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        file(tmp_path, force=True)


@both
def test_a_folder_that_is_a_file_is_refused(check: Check, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        check(tmp_path / "f" / "x")


@both
def test_a_folder_that_cannot_be_written_is_refused(check: Check, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    with unprivileged(), pytest.raises(UsageError, match="not writable"):
        check(locked / "x")


@both
def test_a_folder_that_cannot_be_looked_into_is_refused(check: Check, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    hidden.chmod(0)
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    with unprivileged(), pytest.raises(UsageError, match="not writable"):
        check(hidden / "deeper" / "x")


@both
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_file_system_that_takes_no_files_is_refused_to_root_too(check: Check) -> None:
    with pytest.raises(UsageError, match="not writable"):
        check(Path("/proc/out"))
