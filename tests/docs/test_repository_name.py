"""One script writes the repository's name wherever the placeholder is, and knows every such file."""

import runpy
import subprocess
from pathlib import Path

import pytest
from conversions import ROOT

SCRIPT = runpy.run_path(str(ROOT / ".github" / "scripts" / "name_repository.py"))
OWN = {".github/scripts/name_repository.py", "tests/docs/test_repository_name.py"}


def test_the_script_knows_every_file_with_the_placeholder_and_writes_the_name(tmp_path: Path) -> None:
    found = subprocess.run(
        ["git", "grep", "-l", "-I", SCRIPT["PLACEHOLDER"]], cwd=ROOT, capture_output=True, text=True
    ).stdout.splitlines()
    if not set(found) - OWN:
        return  # the name was written
    assert set(found) - OWN == set(SCRIPT["FILES"])
    for file in SCRIPT["FILES"]:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((ROOT / file).read_text(encoding="utf-8"), encoding="utf-8")
    SCRIPT["main"]("someone/mobileclip-deploy", tmp_path)
    texts = [(tmp_path / file).read_text(encoding="utf-8") for file in SCRIPT["FILES"]]
    assert all("someone/mobileclip-deploy" in text for text in texts)
    assert not any("REPOSITORY" in text for text in texts)


@pytest.mark.parametrize("name", ["OWNER/REPOSITORY", "someone", "some one/name", "a/b/c", "-a/b"])
def test_what_is_no_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is not OWNER/NAME"):
        SCRIPT["main"](name, tmp_path)
