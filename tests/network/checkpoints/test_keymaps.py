"""Key maps: one key of theirs for one of ours, in every variant and layout, and shapes that go there and back."""

import pytest
import torch
from golden_checkpoints import GOLDEN_NAMES, GoldenCheckpoint

from mobileclip_deploy.network.checkpoints import apple, open_clip
from mobileclip_deploy.network.checkpoints.fitting import LAYOUTS, CandidateIdentity
from mobileclip_deploy.network.checkpoints.keymap import KeyMap, KeyRule, flatten_leading, transposed
from mobileclip_deploy.network.model.architecture import build_model
from mobileclip_deploy.network.model.variants import load_variant, variant_names

PAIRS = [(name, layout) for name in variant_names() for layout in load_variant(name).layouts]


@pytest.mark.parametrize(("name", "layout"), PAIRS)
def test_names_and_shapes_go_there_and_back(name: str, layout: str) -> None:
    table = CandidateIdentity(load_variant(name), layout).expected
    assert len({entry.key for entry in table.values()}) == len(table)
    definition = load_variant(name).for_layout(layout)
    for ours, tensor in build_model(definition, "meta").state_dict().items():
        _, convert = LAYOUTS[layout].keymap(definition).theirs(ours)
        assert convert.ours(convert.theirs(tensor)).shape == tensor.shape


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_keys_and_shapes_are_the_references(name: str) -> None:
    golden = GoldenCheckpoint(name)
    wanted = CandidateIdentity(load_variant(golden.variant), golden.layout)
    table = {entry.key: list(entry.shape) for entry in wanted.expected.values()}
    assert table == {key: shape for key, (shape, _) in golden.card["keys"].items()}


def test_values_go_there_and_back() -> None:
    matrix, row = torch.randn(3, 5), torch.randn(4)
    assert torch.equal(transposed.ours(transposed.theirs(matrix)), matrix)
    assert flatten_leading(2).theirs(row).shape == (1, 1, 4)
    assert torch.equal(flatten_leading(2).ours(flatten_leading(2).theirs(row)), row)


def test_a_key_that_no_rule_knows() -> None:
    with pytest.raises(KeyError, match="image"):
        KeyMap([KeyRule(r"^text\.", "t.")]).theirs("image.x")


@pytest.mark.parametrize("module", [apple, open_clip])
def test_layouts_do_not_recognise_ours(module: object) -> None:
    ours = build_model(load_variant("mobileclip_s0"), "meta").state_dict()
    assert not any(map(module.KEYS.match, ours))  # type: ignore[attr-defined]
