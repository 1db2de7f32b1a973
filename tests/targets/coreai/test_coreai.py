"""Core AI: what is written holds our numbers, is read back as it stands, and is run by Apple's own runtime."""

import asyncio
import hashlib
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from conversions import Store
from coreai_assets import Assets, require_coreai
from tiny import inputs
from writing import job_of

from mobileclip_deploy.base.files import artifact_bytes
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.variants import TOWERS
from mobileclip_deploy.targets import get_target, restored_target
from mobileclip_deploy.targets.coreai.asset import TensorType, _spelled
from mobileclip_deploy.targets.coreai.authoring import metadata_of
from mobileclip_deploy.targets.coreai.runner import CoreAIRunner
from mobileclip_deploy.targets.graph import Constant, Graph, first_difference

require_coreai()


@pytest.fixture(scope="module")
def assets(store: Store) -> Assets:
    return Assets(store.folder / "coreai")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["w6p", "w4"])
def test_weights_restored_once_give_the_answers_of_the_file_itself(assets: Assets, precision: str) -> None:
    """What the runner leaves out of every inference is what Apple's operations compute, to the last bit."""
    from mobileclip_deploy.targets.coreai.runner import CoreAIRunner

    path, ids = assets.path("text", precision), inputs("text")
    once = CoreAIRunner(path)(ids)
    with mock.patch("mobileclip_deploy.targets.coreai.runner.restore_weights", return_value=False):
        assert np.array_equal(CoreAIRunner(path)(ids), once)


def test_an_asset_says_what_it_is_and_where_its_weights_came_from(assets: Assets) -> None:
    told = json.loads((assets.path("image", "w8") / "metadata.json").read_text(encoding="utf-8"))
    own = told["creatorDefinedMetadata"]
    assert (own["variant"], own["tower"], own["precision"]) == ("tiny_mci", "image", "w8")
    assert own["embedding_space"].startswith("test-")
    assert own["checkpoint_sha256"]


def test_inspect_tells_functions_ports_and_storage(assets: Assets) -> None:
    target, path = get_target("coreai"), assets.path("image", "w4p")
    told = target.open(path).inspection
    (function,) = told.functions.values()
    assert told.bytes == artifact_bytes(path)
    assert [(port.name, port.dtype, port.shape) for port in function.inputs] == [("image", "float32", (1, 3, 64, 64))]
    assert [(port.name, port.shape) for port in function.outputs] == [("final_emb_1", (1, 24))]
    assert {"lut_to_dense uint4", "blockwise_shift_scale int8", "const float16"} <= set(function.weights)
    source, result = target.open(path).ports
    assert (source.name, source.dtype, result.name, result.dtype) == ("image", "float32", "final_emb_1", "float32")
    assert target.open(path).operators["conv2d"] > 0


def two_towers(assets: Assets, path: Path) -> None:
    """An asset with a function for each tower, as versions until 0.3 wrote them."""
    import coreai_torch

    converter = coreai_torch.TorchConverter(mode=coreai_torch.TorchConverter.Mode.RELEASE)
    for tower in TOWERS:
        job = job_of(assets.model, tower, "fp32")
        example = job.example if tower == "image" else job.example.to(torch.int32)
        exported = torch.export.export(job.module, (example,)).run_decompositions(coreai_torch.get_decomp_table())
        converter = converter.add_exported_program(
            exported, input_names=[tower], output_names=["final_emb_1"], entrypoint_name=tower
        )
    converter.to_coreai().save_asset(path, metadata_of("both towers", "any", {"variant": "tiny_mci"}))


@pytest.mark.slow
def test_a_file_of_both_towers_is_read_and_run_by_its_functions(assets: Assets, tmp_path: Path) -> None:
    target, path = get_target("coreai"), tmp_path / "both.aimodel"
    two_towers(assets, path)
    for tower in TOWERS:
        alone, own = target.open(assets.path(tower, "fp32")), target.open(path, tower)
        assert own.ports == alone.ports
        assert first_difference(own.graph, alone.graph) is None
        np.testing.assert_array_equal(own.runner()(inputs(tower)), alone.runner()(inputs(tower)))
    with pytest.raises(InvalidInput, match="has the functions image, text; name one of them"):
        _ = target.open(path).ports
    with pytest.raises(InvalidInput, match="has the functions main; expected image, text"):
        _ = target.open(assets.path("text", "fp32"), "text").graph


def test_operations_keep_quiet(assets: Assets, capfd: pytest.CaptureFixture[str]) -> None:
    get_target("coreai").open(assets.path("text", "w4")).runner()(inputs("text"))
    assert capfd.readouterr() == ("", "")


def damaged(path: Path, folder: Path, kind: str) -> Path:
    """A copy of an asset that is not what it should be."""
    copy = Path(shutil.copytree(path, folder / f"{kind}.aimodel"))
    program = copy / "main.mlirb"
    content = bytearray(program.read_bytes())
    if kind == "truncated":
        content = content[: len(content) // 2]
    elif kind == "edited":
        content[len(content) // 2] ^= 255
    elif kind == "garbled":
        content[200:264] = b"\xff" * 64
    elif kind == "foreign":
        content = bytearray(b"not bytecode at all" * 10)
    elif kind == "empty":
        content = bytearray()
    elif kind == "unhashed":
        (copy / "main.hash").unlink()
    elif kind == "nameless":
        (copy / "metadata.json").write_text("[]", encoding="utf-8")
    program.write_bytes(content)
    if kind in ("truncated", "garbled", "foreign", "empty"):  # whoever wants it to go unseen writes the hash anew
        (copy / "main.hash").write_bytes(hashlib.sha256(content).digest())
    return copy


@pytest.mark.parametrize("kind", ["truncated", "edited", "foreign", "empty", "unhashed", "nameless"])
def test_a_damaged_asset_is_refused_in_one_line(
    assets: Assets, tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    artifact = get_target("coreai").open(damaged(assets.path("text", "w4"), tmp_path, kind))
    for asked in ("ports", "inspection", "graph", "weights", "runner"):
        with pytest.raises(InvalidInput) as caught:
            getattr(artifact, asked)()
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_lint_shares_rules_with_core_ml_and_has_apples_own(assets: Assets) -> None:
    target = get_target("coreai")
    (whole,), (text,) = (target.open(assets.path(*which)).lint("a17") for which in (("image", "fp32"), ("text", "w4")))
    assert whole.share("leaves").of_operations == 1  # float32
    assert {finding.rule for op in text.found("gather") for finding in op.findings} == {"gather"}
    assert text.found("gather")[0].weight_bytes == 92 * 32 // 2 + 92 * 2 * (2 + 2 + 1)  # int4, scales, offsets, shifts
    assert not text.found("float32")  # of layer norms, which are declared as such
    assert {"half-head", "linear", "unaligned"} <= {rule.name for rule in text.rules}
    assert sum(op.weight_bytes for op in whole.operations) == pytest.approx(
        artifact_bytes(assets.path("image", "fp32")), rel=0.2
    )


def test_lint_finds_what_is_known_to_answer_wrongly(assets: Assets) -> None:
    """An infinity, 8-bit blocks: planted into a graph, since no export writes them."""

    from mobileclip_deploy.targets.coreai.linting import OWN_RULES, Op

    graph = get_target("coreai").open(assets.path("image", "w8")).graph
    rules = {rule.name: rule for rule in OWN_RULES}

    def planted(kind: str, place: int, values: np.ndarray, number: int = 0) -> Op:
        at = [number for number, node in enumerate(graph.nodes) if node.type == kind][number]
        inputs = list(graph.nodes[at].inputs)
        inputs[place] = (inputs[place][0], Constant(values))
        nodes = list(graph.nodes)
        nodes[at] = replace(nodes[at], inputs=tuple(inputs))
        return Op(Graph(graph.inputs, tuple(nodes), graph.outputs, graph.results), at)

    *_, last = (node for node in graph.nodes if node.type == "blockwise_shift_scale")
    data = last.inputs[0][1]
    assert data.values.shape[1] > 2
    scales = np.ones((1, 2, *[1] * (data.values.ndim - 2)), np.float16)
    assert rules["byte-blocks"].check(planted("blockwise_shift_scale", 1, scales, -1)) is not None
    assert rules["byte-blocks"].check(planted("blockwise_shift_scale", 1, scales[:, :1], -1)) is None
    assert rules["infinity"].check(planted("pad", 2, np.array(-np.inf, np.float16))) == "a constant of -inf"
    assert rules["stride"].check(planted("conv2d", 2, np.array([5, 5], np.uint32))) == "stride 5"
    assert rules["stride"].check(planted("conv2d", 2, np.array([4, 6], np.uint32))) is None


def test_operations_that_apples_reader_cannot_read_do_not_end_the_process(assets: Assets, tmp_path: Path) -> None:
    """It aborts on them; another process has tried them before."""
    copy = damaged(assets.path("text", "w4"), tmp_path, "garbled")
    with pytest.raises(InvalidInput, match=r"Apple's reader cannot read main\.mlirb"):
        _ = get_target("coreai").open(copy).ports


@pytest.mark.parametrize("option", ["as_maps", "image_entry"])
def test_a_bundle_written_with_an_option_that_is_gone_is_refused(option: str) -> None:
    with pytest.raises(UsageError, match=f"written with `{option}`"):
        restored_target("coreai", {option: "on"})


def test_a_table_of_900_rows_is_no_hexadecimal_number() -> None:
    """As the zero points of a vocabulary's table are told: the type of what is told has an x of its own."""
    assert not _spelled("dense<0> : tensor<900x2xsi4>", TensorType("int4", (900, 2))).any()
    assert _spelled("dense<[1, -2]> : tensor<2xsi4>", TensorType("int4", (2,))).tolist() == [1, -2]


def test_an_interruption_waits_for_what_the_runtime_computes_and_begins_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_coreai()
    begun, ended, handed = [], [], asyncio.run_coroutine_threadsafe
    all_began, finish = threading.Event(), asyncio.Event()

    async def function(values: dict[str, int]) -> None:
        begun.append(values["x"])
        if len(begun) == torch.get_num_threads():
            all_began.set()
        await finish.wait()
        ended.append(values["x"])

    def interrupted(work: Any, loop: asyncio.AbstractEventLoop) -> Any:
        monkeypatch.undo()
        asked = handed(work, loop)
        assert all_began.wait(60)

        def cancel() -> None:
            asked.cancel()
            loop.call_soon_threadsafe(loop.call_later, 0.1, finish.set)  # what is computed goes on for a while

        return SimpleNamespace(result=mock.Mock(side_effect=KeyboardInterrupt), cancel=cancel)

    asked = CoreAIRunner.__new__(CoreAIRunner)
    asked._loop, asked._function, asked._input = asyncio.new_event_loop(), function, "x"
    threading.Thread(target=asked._loop.run_forever, daemon=True).start()
    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asked._wait(asked._answers(list(range(100))))
    assert sorted(begun) == sorted(ended) == list(range(torch.get_num_threads()))
    asked._loop.call_soon_threadsafe(asked._loop.stop)
