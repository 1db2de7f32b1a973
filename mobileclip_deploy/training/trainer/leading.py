"""Which process of a training tells a user anything; known before torch is imported."""

from __future__ import annotations

import os

from mobileclip_deploy.errors import MobileClipDeployError


class OtherFailed(MobileClipDeployError):
    """Another process of this training cannot go on, and says why; this one ends with it."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code  # type: ignore[misc]  # the other's


def leads() -> bool:
    """Whether this process is the one that tells a user anything: the first one, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0
