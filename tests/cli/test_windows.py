"""Windows: the command line where the package finds only what Windows has (tests/on_windows)."""

import json
import os
import shutil
from pathlib import Path

import pytest
from command_line import Outcome, spawn
from exports import Exports

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "models" / "nano" / "evaluation" / "images"
# Names that are looked for and need not be there: a flag of `open`, another way to count cores, root's user number.
OPTIONAL = {"os.O_NOFOLLOW", "os.O_NONBLOCK", "os.sched_getaffinity", "os.geteuid"}


class Windows:
    """Runs commands, each in a process that sees Windows, and keeps what they looked for in vain."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "lacking"
        places = (str(ROOT / "tests" / "on_windows"), str(ROOT), os.environ.get("PYTHONPATH", ""))
        self._environment = {"PYTHONPATH": ":".join(filter(None, places)), "LACKING": str(self._log)}
        self._environment["LOCALAPPDATA"] = str(folder / "AppData")

    def __call__(self, *arguments: str | Path) -> Outcome:
        outcome = spawn(*arguments, environment=self._environment)
        assert "Traceback" not in outcome.stderr, outcome.stderr
        assert outcome.code == 0, outcome.stderr
        return outcome

    @property
    def lacking(self) -> set[str]:
        return set(self._log.read_text(encoding="utf-8").split())


@pytest.fixture
def windows(tmp_path: Path) -> Windows:
    return Windows(tmp_path)


@pytest.mark.slow
def test_a_bundle_is_read_searched_by_and_measured(exports: Exports, windows: Windows, tmp_path: Path) -> None:
    bundle, photos, index = exports.unverified("onnx", "fp16", "both").path, tmp_path / "photos", tmp_path / "a.mcdx"
    photos.mkdir()
    for name in ("1f355", "1f431"):
        shutil.copy(PICTURES / f"{name}.png", photos)
    assert json.loads(windows("embed", bundle, photos, "-o", index, "--json").stdout)["added"] == 2
    (answer,) = json.loads(windows("search", index, "pizza", "--json").stdout)["answers"]
    assert Path(answer["matches"][0]["id"]).name == "1f355.png"
    windows("classify", bundle, PICTURES / "1f355.png", "--labels", "pizza,rocket")
    (photos / "1f355.png").unlink()
    # Index and lock are the same file: it is extended, then replaced while nothing has it open.
    told = json.loads(windows("embed", bundle, photos, "-o", index, "--incremental", "--prune", "--json").stdout)
    assert (told["removed"], told["count"]) == (1, 1)
    assert sorted(path.name for path in tmp_path.iterdir() if ".partial" in path.name) == []
    windows("benchmark", bundle, "--device", "host", "--quick", "--tower", "image", "--json", tmp_path / "result.json")
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["device"]["os"] == "Windows"
    assert {one["status"] for one in result["cells"]} == {"done"}
    assert result["device"]["memory_bytes"] == 16 << 30
    assert windows.lacking <= OPTIONAL


@pytest.mark.usefixtures("without_phones")
@pytest.mark.slow  # a conversion; the names that it needs are those of the test above
def test_a_checkpoint_is_exported_verified_and_told_of(windows: Windows, tmp_path: Path) -> None:
    windows("export", "--target", "onnx", "--tower", "image", "-o", tmp_path / "out", "--quiet")
    windows("inspect", tmp_path / "out" / "nano-onnx-fp16")
    listed = json.loads(windows("devices", "--json").stdout)
    assert {one["state"] for one in listed if one["device"].startswith("host")} == {"ready"}
    windows("doctor")
    assert windows.lacking <= OPTIONAL
