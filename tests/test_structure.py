"""The shape of the package: rooms, the arrows between them, circles of files, and the core without its wings."""

import subprocess
import sys
from pathlib import Path

import pytest
from exports import Exports
from structure import WINGS, Structure

from mobileclip_deploy.network.model.variants import models_dir

ROOT = Path(__file__).parents[1]
# These only fall: a commit that raises one lowers another by as much.
MOST_ROOMS, MOST_ARROWS = 17, 85
MOST_CORE_LINES = 39_950
MOST_CIRCLES = 0
MOST_PACKAGE_LINES = 75_800
"""Lines of the package; each room has its share of what is free."""
MOST_LINES = {
    "targets": 20_320,
    "benchmark": 11_200,
    "network": 7_100,
    "training": 5_378,
    "verify": 8_700,
    "cli": 3_280,
    "search": 2_500,
    "base": 2_700,
    "artifacts": 2_815,
    "export": 2_180,
    "evaluation": 2_490,
    "pictures": 1_353,
    "parity": 1_020,
    "rounding": 1_010,
    "spaces": 1_745,
    "web": 865,
    "package": 525,
    "testing": 407,
}
"""Lines of each room; `package` has the files outside of rooms."""
PICTURE = models_dir() / "nano" / "evaluation" / "images" / "1f431.png"

# Runs the command line where a wing cannot be imported.
HIDDEN = f"""
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[:2] in [["mobileclip_deploy", wing] for wing in {WINGS!r}]:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
from mobileclip_deploy.cli import main
main()
"""


def without_wings(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDDEN, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )


@pytest.fixture(scope="module")
def structure() -> Structure:
    return Structure(ROOT)


def test_rooms_and_the_arrows_between_them_are_few(structure: Structure) -> None:
    assert len({room for arrow in structure.arrows for room in arrow}) <= MOST_ROOMS
    assert len(structure.arrows) <= MOST_ARROWS
    assert [arrow for arrow in structure.arrows if arrow[::-1] in structure.arrows] == []
    assert structure.core_lines <= MOST_CORE_LINES
    assert sum(structure.lines.values()) <= MOST_PACKAGE_LINES
    assert {room: lines for room, lines in structure.lines.items() if lines > MOST_LINES.get(room, 0)} == {}


def test_files_that_import_each_other_do_not_become_more(structure: Structure) -> None:
    assert len(structure.circles) <= MOST_CIRCLES


def test_the_core_imports_no_wing_and_no_wing_another(structure: Structure) -> None:
    assert [arrow for arrow in structure.arrows if arrow[1] in WINGS] == []


def test_help_lists_what_is_installed_and_a_missing_command_names_its_wing() -> None:
    shown = without_wings("--help")
    assert shown.returncode == 0, shown.stderr
    assert "  export " in shown.stdout
    assert "  embed " not in shown.stdout
    refused = without_wings("embed", "bundle", "photos")
    assert refused.returncode == 2
    assert "`embed` belongs to the wing search, which is not installed" in refused.stderr


@pytest.mark.slow
def test_the_core_exports_verifies_inspects_and_classifies_without_its_wings(exports: Exports, tmp_path: Path) -> None:
    exported = without_wings("export", "--target", "onnx", "--tower", "image", "-o", tmp_path)
    assert exported.returncode == 0, exported.stderr
    bundle = exports.bundle("onnx", "fp16").path
    for arguments in (
        ("verify", bundle, "--checks", "quick"),
        ("inspect", bundle),
        ("classify", bundle, PICTURE, "--labels", "cat face,pizza"),
    ):
        done = without_wings(*arguments)
        assert done.returncode == 0, done.stderr
