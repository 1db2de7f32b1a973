"""What a conversion changes in Python and torch while it runs is as before when it has ended."""

import gc

import pytest
import torch
import torch._export.utils
from torch.fx import GraphModule, symbolic_trace
from torch.fx.traceback import NodeSource

from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.targets.quiet import conversion
from mobileclip_deploy.targets.vendor_internals.torch import lean_tracing


def test_garbage_and_origins_of_nodes_are_handled_as_before_even_after_a_failure() -> None:
    gc.unfreeze()
    materialize = torch._export.utils._materialize_cpp_cia_ops
    with pytest.raises(ExportError, match="outer failed: ValueError: no"), conversion("outer"):
        with conversion("inner"):
            assert gc.get_freeze_count() > 0
        assert gc.get_freeze_count() > 0
        assert hasattr(NodeSource, "__deepcopy__")
        assert torch._export.utils._materialize_cpp_cia_ops is not materialize
        raise ValueError("no")
    assert gc.get_freeze_count() == 0
    assert not hasattr(NodeSource, "__deepcopy__")
    assert torch._export.utils._materialize_cpp_cia_ops is materialize


def test_what_others_froze_stays_frozen() -> None:
    gc.freeze()
    with conversion("one"):
        pass
    assert gc.get_freeze_count() > 0


def doubled(module: GraphModule) -> None:
    """Change an addition of a graph into a multiplication."""
    (node,) = module.graph.find_nodes(op="call_function", target=torch.add)
    node.target = torch.mul
    module.recompile()


def test_code_is_that_of_the_graph_whenever_it_is_asked_for() -> None:
    before, x = GraphModule.recompile, torch.tensor([2.0, 3.0])
    with pytest.raises(ValueError, match="no"), lean_tracing():
        called, read, left = (symbolic_trace(lambda x: torch.add(x, x)) for _ in range(3))
        assert called(x).tolist() == [4, 6]
        for module in (called, read, left):
            doubled(module)
            assert "_code" not in vars(module)
        assert called(x).tolist() == [4, 9]
        assert "torch.mul(x, x)" in read.code
        raise ValueError("no")
    assert GraphModule.recompile is before
    assert "torch.mul" in vars(left)["_code"]
    assert left(x).tolist() == [4, 9]


def test_a_converter_is_told_in_one_sentence_without_colours() -> None:
    with pytest.raises(ExportError, match=r"^it failed: ValueError: The graph is \[odd\]$"), conversion("it"):
        raise ValueError("The graph is \x1b[96m[odd]\x1b[0m. \x1b[1mNext steps:\x1b[0m file a bug\nwith all lines")
    with pytest.raises(ExportError, match=r"^it failed: ValueError$"), conversion("it"):
        raise ValueError


def test_ctrl_c_is_no_failure_of_the_converter() -> None:
    def convert() -> None:
        with conversion("it"):
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt as error:
                raise RuntimeError("Failed to export") from error

    with pytest.raises(KeyboardInterrupt):
        convert()


def test_ctrl_c_that_was_handled_before_is_not_the_conversions() -> None:
    def convert() -> None:
        with conversion("it"):
            raise ValueError("no")

    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        with pytest.raises(ExportError, match=r"^it failed: ValueError: no$"):
            convert()
