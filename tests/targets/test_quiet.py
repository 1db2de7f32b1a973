"""What a conversion changes in Python and torch while it runs is as before when it has ended."""

from __future__ import annotations

import gc

import pytest
from torch.fx.traceback import NodeSource

from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.targets.quiet import conversion


def test_garbage_and_origins_of_nodes_are_handled_as_before_even_after_a_failure() -> None:
    gc.unfreeze()
    with pytest.raises(ExportError, match="outer failed: ValueError: no"), conversion("outer"):
        with conversion("inner"):
            assert gc.get_freeze_count() > 0
        assert gc.get_freeze_count() > 0
        assert hasattr(NodeSource, "__deepcopy__")
        raise ValueError("no")
    assert gc.get_freeze_count() == 0
    assert not hasattr(NodeSource, "__deepcopy__")


def test_what_others_froze_stays_frozen() -> None:
    gc.freeze()
    with conversion("one"):
        pass
    assert gc.get_freeze_count() > 0
