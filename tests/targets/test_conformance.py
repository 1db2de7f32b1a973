"""Every target keeps what `Target` promises: ours, and the example's that is installed as anybody's is."""

import gc
import getpass
import re
import tempfile
import textwrap
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from conversions import Store
from coreai_assets import require_coreai
from litert_files import require_litert
from mlx_files import require_mlx
from qnn_files import require_qnn
from third_party import installed
from tiny import PIECES, ROTARY_WORDS
from writing import chosen, small_bundle

from mobileclip_deploy import targets as registry
from mobileclip_deploy.network.model.variants import TOWERS, TowerName
from mobileclip_deploy.targets import get_target, targets
from mobileclip_deploy.targets import target as interface
from mobileclip_deploy.testing import check_target

pytestmark = pytest.mark.converts
ROOT = Path(__file__).parents[2]
NEEDS = {"coreai": require_coreai, "litert": require_litert, "mlx": require_mlx, "qnn": require_qnn}
FEWER = {"qnn": {"chip": "v75"}}
"""Options that leave out what is the same again: each chip is compiled for and emulated."""
CASES: list[tuple[str, TowerName, tuple[str, ...]]] = [
    ("onnx", "text", ("w8",)),
    ("coreml", "image", ("w8",)),
    ("executorch", "text", ("fp32",)),
    ("coreai", "text", ("w4p",)),
    ("litert", "text", ("fp32",)),
    ("qnn", "text", ("fp16",)),
    ("mlx", "text", ("w8",)),
]
# That the example is exported and verified, test_third_party.py shows.
OTHERS: list[tuple[str, TowerName, tuple[str, ...]]] = [
    ("onnx", "image", ("w8a8",)),
    ("coreml", "text", ("fp16", "w4p-p50")),
    ("executorch", "image", ("fp32",)),
    ("coreai", "image", ("w4",)),
    ("litert", "image", ("w8a8",)),
    ("qnn", "image", ("w8a8",)),
    ("mlx", "image", ("w4",)),
    ("torchscript", "text", ("fp32",)),
]
"""The other tower. Other precisions are exported, of nano, by the files of faults/."""


@pytest.fixture(scope="module", autouse=True)
def with_example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(tmp_path_factory.mktemp("site-packages")):
        yield


@pytest.mark.parametrize(
    ("name", "tower", "precisions", "thorough"),
    [
        *((*case, False) for case in CASES),
        *(pytest.param(*case, True, marks=pytest.mark.slow) for case in OTHERS),
    ],
)
def test_a_target_keeps_its_promises(
    name: str,
    tower: TowerName,
    precisions: tuple[str, ...],
    thorough: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    NEEDS.get(name, lambda: None)()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # this process has asked for it before
    print(*check_target(chosen(name, **FEWER.get(name, {})), precisions, [tower], thorough=thorough), sep="\n")
    gc.collect()
    # torch makes an empty folder for the code of kernels.
    assert {path.name for path in tmp_path.iterdir()} <= {f"torchinductor_{getpass.getuser()}"}


def test_every_target_is_held_to_them_with_both_towers() -> None:
    held = {(name, tower) for name, tower, _ in (*CASES, *OTHERS)}
    assert {(name, tower) for name in targets() if name != "torchscript" for tower in TOWERS} <= held


def test_the_smallest_target_is_shown_in_thirty_lines() -> None:
    code = (ROOT / "examples" / "smallest_target.py").read_text(encoding="utf-8").partition("annotations\n\n")[2]
    _, *classes = code.split("\n\n\n")
    assert sum(bool(line.strip()) for line in "\n".join(classes).splitlines()) <= 32
    shown = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "extend.md").read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    assert shown[1] == code
    assert textwrap.indent("\n\n\n".join(classes[:2]), "    ") in (interface.__doc__ or "")


@pytest.mark.slow
def test_the_smallest_target_keeps_its_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    entry, known = EntryPoint("plain", "smallest_target:PlainTarget", registry.GROUP), registry._registered_in
    monkeypatch.setattr(registry, "_registered_in", lambda path: (*known(path), entry))
    registry.targets.cache_clear()  # a test before may have filled it
    try:
        assert check_target(get_target("plain")) == ()
    finally:
        registry.targets.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "precision"), [*((name, None) for name, _, _ in CASES), ("executorch", "w8a8"), ("litert", "w8a8")]
)
def test_a_tower_with_rotary_positions_and_a_pooled_query_is_proven(
    target: str, precision: str | None, store: Store, tmp_path: Path
) -> None:
    """A tower as PE-Core's: what no input reaches, converters compute, each in its own way. In int8, the norm that is
    pooled behind shares its input with a sum."""
    NEEDS.get(target, lambda: None)()
    options = FEWER.get(target, {})
    with store.conversions():
        bundle = small_bundle(ROTARY_WORDS, target, precision, tmp_path, tower="image", options=options)
    held = {check.step: check.status for check in bundle.parity if check.tower == "image"}
    assert held["weights"] == held["graph"] == held["shipped"] == "passed"
    assert "failed" not in held.values()


PRECISIONS = {"executorch": "fp32", "litert": "fp32"}
"""Where it is not fp16."""


@pytest.mark.slow
@pytest.mark.parametrize("target", [name for name, _, _ in CASES])
def test_a_text_tower_as_siglip2_s_is_proven(target: str, store: Store, tmp_path: Path) -> None:
    """GELU by tanh, pooling at the last token, a projection with a bias: some converters know the exact GELU alone."""
    NEEDS.get(target, lambda: None)()
    precision, options = PRECISIONS.get(target, "fp16"), FEWER.get(target, {})
    with store.conversions():
        bundle = small_bundle(PIECES, target, precision, tmp_path, tower="text", options=options)
    assert {check.status for check in bundle.parity} == {"passed"}
    assert [path.name for path in (bundle.path / "tokenizer").iterdir()] == ["tokenizer.json"]
