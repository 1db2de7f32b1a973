"""A Snapdragon's own NPU in this machine (Windows or Linux on Arm), through the provider in its wheel."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import RuntimeFailed, first_sentence
from mobileclip_deploy.targets.benchmarking import KernelTime, Session, SessionSetup
from mobileclip_deploy.targets.onnx.runner import OnnxSession
from mobileclip_deploy.targets.qnn.process import open_session, options_for

if TYPE_CHECKING:
    from mobileclip_deploy.targets.qnn.context import Context

ARM = ("arm64", "aarch64")


def has_npu() -> bool:
    """Returns whether the provider is installed on a processor that may have an NPU. On x86 it contains the emulator,
    whose time means nothing."""
    return platform.machine().lower() in ARM and importlib.util.find_spec("onnxruntime_qnn") is not None


class NpuSession(OnnxSession):
    """Session of the first binary that the NPU accepts, running wholly on it.

    Raises:
        RuntimeFailed: it accepts none.
    """

    def __init__(self, contexts: Sequence[Context], setup: SessionSetup) -> None:
        self._setup, self._names = setup, [setup.output.name]
        refused = []
        for context in contexts:
            chip = context.chip
            try:
                options = options_for(f"{chip.architecture}", f"{chip.soc}", {"htp_performance_mode": "burst"}, False)
                self._session = open_session(f"{context.path}", options)
                return
            except Exception as error:  # the runtime's own exceptions have no common base
                refused.append(f"{chip.code}: {first_sentence(error)}")
        raise RuntimeFailed(f"the NPU of this machine rejects every binary of the bundle ({'; '.join(refused)})")

    def profile(self) -> tuple[KernelTime, ...]:
        return Session.profile(self)
