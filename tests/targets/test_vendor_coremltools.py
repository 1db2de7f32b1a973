"""What coremltools' passes leave out changes nothing of a program, with compressed weights in it or not."""

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mobileclip_deploy.targets.quiet import quiet
from mobileclip_deploy.targets.vendor_internals.coremltools import import_coremltools, lean_passes


class Busy(nn.Module):
    """A table, a product whose scale may be folded into it, values that passes merge and remove, and a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.product = nn.Embedding(64, 48), nn.Linear(48, 48)

    def forward(self, ids: Tensor) -> Tensor:
        words = self.table(ids)
        found = self.product(words) * 0.5
        return torch.relu(found.transpose(1, 2).transpose(1, 2)) + torch.softmax(words, 2) + torch.relu(found)


def converted(how: AbstractContextManager[None]) -> list[str]:
    """The same network in float16, and with its weights in tables of 16: both programs line by line, so that a
    difference is seen in the line where it is."""
    import coremltools.optimize.coreml as cto

    ct = import_coremltools()
    torch.manual_seed(0)
    program = torch.export.export(Busy().eval(), (torch.zeros(1, 5, dtype=torch.int32),)).run_decompositions({})
    with quiet(), how:
        plain: Any = ct.convert(program, minimum_deployment_target=ct.target.iOS18, skip_model_load=True)
        tables = cto.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=64)
        small = cto.palettize_weights(plain, cto.OptimizationConfig(global_config=tables))
    return [line for model in (plain, small) for line in str(model.get_spec()).splitlines()]


def test_programs_are_those_that_all_of_the_work_gives() -> None:
    """Also where this process has made programs before, whose names coremltools goes on counting."""
    import_coremltools()
    from coremltools.converters.mil.mil import Builder

    Builder.name_count["slice_by_index"] = 6
    assert converted(lean_passes()) == converted(contextlib.nullcontext())


def test_values_know_which_compressed_weights_they_come_from() -> None:
    """The programs above would not show it if values did not know."""
    ct = import_coremltools()
    from coremltools.converters.mil import Builder as mb

    @mb.program(input_specs=[mb.TensorSpec((4,))], opset_version=ct.target.iOS16)
    def program(x: Any) -> Any:
        table, indices = np.arange(16, dtype=np.float16), np.array([0x10, 0x32], np.uint8)
        weight = mb.constexpr_lut_to_dense(indices=indices, lut=table, shape=np.array([4], np.uint32), name="weight")
        return mb.relu(x=mb.mul(x=mb.cast(x=x, dtype="fp16"), y=weight))

    (block,) = program.functions.values()
    values = [value for op in block.operations for value in op.outputs]

    def found() -> dict[str, set[str]]:
        for value in values:
            value.nonreplaceable_vars_upstream = set()
        block._propagate_nonreplaceable_vars()
        return {value.name: {one.name for one in value.nonreplaceable_vars_upstream} for value in values}

    wanted = found()
    assert [names for names in wanted.values() if names] == [{"weight"}] * 3
    with lean_passes():
        assert found() == wanted


def test_what_is_exchanged_is_put_back() -> None:
    import_coremltools()
    from coremltools.converters.mil.mil import Block, Program, Var
    from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipelineManager

    def held() -> list[object]:
        kept = (PassPipelineManager, "apply_pipeline"), (Block, "_propagate_nonreplaceable_vars"), (Program, "__str__")
        return [vars(kind)[name] for kind, name in (*kept, (Var, "_set_nonreplaceable_vars_upstream"))]

    before = held()
    with pytest.raises(ValueError, match="broken"), lean_passes():
        assert held() != before
        raise ValueError("broken")
    assert held() == before
