"""A text tower's table of words at a precision of its own: in the file, and refused where it cannot be had."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tiny import filled
from torch import Tensor, nn
from writing import chosen, job_of

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.executorch import embedding
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import layers, stored_in_half
from mobileclip_deploy.verify.instruments.matching import matched_weights

TABLE = "encoder.token_embedding.weight"
PRODUCT = "encoder.blocks.0.fc1.weight"
# What is asked for -> kind and bits of the table and of a product.
CASES = {
    ("onnx", "w4-table-w8"): (("integers", 8), ("integers", 4)),
    ("onnx", "w8a8-table-w4"): (("integers", 4), ("integers", 8)),
    ("coreml", "w4-table-w6p"): (("table", 6), ("integers", 4)),
    ("coreai", "w6p-table-w4"): (("integers", 4), ("table", 6)),
    ("executorch", "w8-table-w6p"): (("table", 6), ("integers", 8)),
}


@pytest.fixture(scope="module")
def model() -> mcd.MobileCLIP:
    network = filled("tiny_twin")
    mcd.reparameterize(network)
    return network


def few_words() -> npt.NDArray[np.int64]:
    """Ids [4, 8] of a vocabulary of 92, which the packaged prompts are not of."""
    return np.random.default_rng(0).integers(0, 92, (4, 8))


@pytest.mark.slow  # faults/test_reading.py reads a file of two
@pytest.mark.once("name")
@pytest.mark.parametrize(
    ("name", "precision"),
    # ExecuTorch's files are those of the test below.
    [pytest.param(*case, marks=[pytest.mark.slow] * (case[0] == "executorch")) for case in CASES],
)
def test_a_file_has_its_table_at_one_precision_and_all_else_at_the_other(
    model: mcd.MobileCLIP, name: str, precision: str, tmp_path: Path
) -> None:
    target = get_target(name).settled({"text": precision})
    target.require({"text": precision})
    module = make_tower(model, "text")
    said = storage_of(target, "text", module, precision)
    rest, _, other = precision.partition("-table-")
    assert said == storage_of(target, "text", module, rest) | {TABLE: storage_of(target, "text", module, other)[TABLE]}
    path = tmp_path / target.artifact_name(model.variant, "text", precision)
    job = replace(job_of(model, "text", "fp32"), precision=precision, calibration=few_words())
    target.write(job, path)
    found, lost = matched_weights(module, target.open(path).weights or ())
    stored = {match.layer: match.stored for match in found}
    assert not lost
    kinds = [(stored[layer].kind, stored[layer].bits) for layer in (TABLE, PRODUCT)]
    assert kinds == [*CASES[name, precision]]
    half = stored_in_half(said)
    assert all(match.wrong(said[match.layer], half) is None for match in found)
    alone = storage_of(target, "text", module, rest)  # a file with the table at the other precision is not this one
    assert [match.layer for match in found if match.wrong(alone[match.layer], half) is not None] == [TABLE]


@pytest.mark.slow
def test_an_executorch_file_of_before_whose_rows_index_reads_is_still_read(
    model: mcd.MobileCLIP, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As version 0.3.0 wrote it: `index` for every look-up, and the 64 entries in one row."""

    def index_rows(self: embedding.Int8Embedding, ids: Tensor) -> Tensor:
        return self.table[ids].float() * self.scale[ids]

    def index_entries(self: embedding.PaletteEmbedding, ids: Tensor) -> Tensor:
        return self.entries[embedding.unpacked(self.packed[ids])]

    def in_one_row(self: embedding.PaletteEmbedding, words: nn.Embedding) -> None:
        made(self, words)
        self.entries = self.entries.flatten()

    made = embedding.PaletteEmbedding.__init__
    monkeypatch.setattr(embedding.Int8Embedding, "forward", index_rows)
    monkeypatch.setattr(embedding.PaletteEmbedding, "forward", index_entries)
    monkeypatch.setattr(embedding.PaletteEmbedding, "__init__", in_one_row)
    target, precision = get_target("executorch"), "w8-table-w6p"
    path = tmp_path / "before.pte"
    job = replace(job_of(model, "text", "fp32"), precision=precision, calibration=few_words())
    target.write(job, path)
    assert {node.type.partition(".")[0] for node in target.open(path).graph.nodes} >= {"aten::index"}
    module = make_tower(model, "text")
    found, lost = matched_weights(module, target.open(path).weights or ())
    said = storage_of(target, "text", module, precision)
    assert not lost
    assert all(match.wrong(said[match.layer], stored_in_half(said)) is None for match in found)
    assert {match.layer: match.stored.kind for match in found}[TABLE] == "table"


@pytest.mark.parametrize(
    ("name", "precision", "complaint"),
    [
        ("onnx", "w4-table-w6p", "onnx has no precision w4-table-w6p; .* at w4 the token embedding can have w8$"),
        ("onnx", "w8a8-table-w8", "at w8a8 the token embedding can have w4$"),
        ("coreai", "w8a8-table-w4", "coreai has no precision w8a8-table-w4; it has fp32, fp16, w8, w6p, w4p, w4$"),
        ("litert", "w4-table-w8", "litert cannot store the token embedding at another precision; give w4 instead of"),
        ("executorch", "w4-table-w8", "executorch has .* at w4 the token embedding can have w6p$"),
        ("executorch-vulkan", "w8-table-w6p", "has no precision w8-table-w6p"),
    ],
)
def test_a_table_that_a_target_does_not_have_is_refused_with_those_it_has(
    name: str, precision: str, complaint: str
) -> None:
    assert not get_target(name).has({"text": precision})
    with pytest.raises(UsageError, match=complaint):
        get_target(name).require({"text": precision})


def test_the_deployment_target_is_what_both_parts_need() -> None:
    coreml = get_target("coreml")
    for precision, needed in {"w4p-table-w6p": "iOS16", "w6p-table-w4": "iOS18", "w4-table-w8": "iOS18"}.items():
        assert vars(coreml.settled({"text": precision}).options)["deployment_target"] == needed
    assert "raised from iOS16 to iOS18, which w6p-table-w4 needs" in str(coreml.advice({"text": "w6p-table-w4"}))
    assert "w4: 4-bit weights are reported" in str(coreml.advice({"text": "w6p-table-w4"}))
    with pytest.raises(UsageError, match="precision w4 needs iOS18"):
        chosen("coreml", deployment_target="iOS17").require({"text": "w6p-table-w4"})


def test_what_is_reported_of_integers_in_blocks_is_said_where_core_ai_is_given_them() -> None:
    coreai = get_target("coreai")
    for precisions in ({"image": "w4"}, {"text": "w4p"}, {"text": "w6p-table-w4"}, {"image": "w8", "text": "w4"}):
        assert "8-bit integers with a scale per block are reported to give wrong results" in str(
            coreai.advice(precisions)
        )
    for precisions in ({"image": "w4p"}, {"text": "w4p-table-w6p"}, {"image": "w8", "text": "w6p"}):
        assert coreai.advice(precisions) is None


def test_a_tower_without_a_table_is_stored_as_the_rest(model: mcd.MobileCLIP) -> None:
    module = make_tower(model, "image")
    assert not any(layer.is_table for layer in layers(module))
    for name in ("onnx", "coreml", "coreai"):
        target = get_target(name)
        assert storage_of(target, "image", module, "w4-table-w8") == storage_of(target, "image", module, "w4")
