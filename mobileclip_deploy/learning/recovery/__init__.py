"""Recovery of what aggressive quantization loses: towers trained on the grid of a precision."""

from mobileclip_deploy.learning.recovery.recovering import Recovery, TowerRecovery, check_recovery, recover
from mobileclip_deploy.learning.recovery.settings import Settings

__all__ = ["Recovery", "Settings", "TowerRecovery", "check_recovery", "recover"]
