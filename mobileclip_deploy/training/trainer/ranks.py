"""Choice of the one process of a training that prints; works before torch is imported."""

import os

from mobileclip_deploy.errors import MobileClipDeployError


class PeerFailed(MobileClipDeployError):
    """Error of a process that ends because another process of the training failed. Carries the other's text and exit
    code."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code  # type: ignore[misc]  # the other's


def is_rank_zero() -> bool:
    """Returns whether this process prints and writes: the first one, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0
