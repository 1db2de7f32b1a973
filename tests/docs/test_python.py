"""The Python of the README and of docs/python.md runs, from another folder and as it stands; so do the table's calls.

What takes minutes is answered by what the suite has exported; each call is held to the function's own signature.
"""

import inspect
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exports import Exports

import mobileclip_deploy as mcd
from mobileclip_deploy.network.samples import image_paths

ROOT = Path(__file__).parents[2]
BLOCKS = [
    pytest.param(block, id=f"{page}-{number}")
    for page in ("README.md", "docs/python.md")
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S))
]


def answered(function: Callable[..., Any], answer: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
    """The function with another body: what it is called with has to fit its signature."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        return answer(inspect.signature(function).bind(*arguments, **keywords).arguments)

    return call


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs_as_it_stands(
    block: str, exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, model = exports.bundle("onnx", "fp16"), mcd.load_model(None, exports.checkpoint)
    shutil.copytree(bundle.path, tmp_path / "out" / "nano-onnx-fp16")
    (tmp_path / "photos").mkdir()
    for name, image in zip(("cat.jpg", "dog.jpg", "photos/one.png"), image_paths(), strict=False):
        shutil.copy(image, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for name, answer in {
        "load_model": lambda _: model,
        "export": lambda _: bundle,
        "export_all": lambda _: (bundle, bundle),
        "verify": lambda _: None,
    }.items():
        monkeypatch.setitem(vars(mcd), name, answered(getattr(mcd, name), answer))
    found: dict[str, Any] = {}
    exec(compile(block, "block", "exec"), found)
    if "cosines" in found:
        assert found["cosines"].shape == (2, 2)
    assert "mcd" in found


def test_the_table_names_functions_and_results_that_exist() -> None:
    table = [line for line in (ROOT / "docs" / "python.md").read_text(encoding="utf-8").splitlines() if "|" in line]
    calls = re.findall(r"`(\w+)\(([^)]*)\)`", "\n".join(table))
    wanted = {name for name in mcd.__all__ if name[0].islower()} - {"load_model", "load_runner"}
    assert {name for name, _ in calls} == wanted - {"preprocess", "tokenize"}
    for name, arguments in calls:
        taken = inspect.signature(getattr(mcd, name)).parameters
        given = [argument.partition("=")[0].strip() for argument in arguments.split(",") if argument]
        assert set(given) <= set(taken)
    results = {span for line in table[2:] for span in re.findall(r"`([A-Z]\w+)`", line)}
    assert results <= set(mcd.__all__)
