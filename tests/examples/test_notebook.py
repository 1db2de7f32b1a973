"""The notebook runs from its first cell to its last, and stands in git without what it printed."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from conversions import ROOT

NOTEBOOK = ROOT / "examples" / "from_checkpoint_to_search.ipynb"


def test_it_holds_no_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    codes = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(codes) >= 5
    assert [(cell["outputs"], cell["execution_count"]) for cell in codes] == [([], None)] * len(codes)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}


@pytest.mark.slow  # a kernel, and an export of its own
def test_it_runs_and_finds_a_pizza(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="pip install 'mobileclip-deploy[dev]'")
    nbformat = pytest.importorskip("nbformat", reason="pip install 'mobileclip-deploy[dev]'")
    kernel = tmp_path / "kernels" / "python3"  # this environment's Python, whatever kernels the user has
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "here", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3")
    client.execute(cwd=str(tmp_path))
    shown = [text for cell in notebook.cells if cell.cell_type == "code" for text in map(said, cell.outputs)]
    assert "True" in shown
    assert any(text.startswith("{'pizza': ") for text in shown)
    assert any(text.startswith("a slice of pizza ['1f355'") for text in shown)


def said(output: Any) -> str:
    """What a cell showed."""
    return str(output.get("text") or output["data"]["text/plain"])
