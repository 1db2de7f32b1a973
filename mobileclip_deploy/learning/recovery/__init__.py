"""Recovery of what aggressive quantization loses: towers trained on the grid of a precision."""

from mobileclip_deploy.learning.recovery.plan import RecoveryPlan, RecoveryRequest, plan_recovery
from mobileclip_deploy.learning.recovery.recovering import Recovery, TowerRecovery, recover
from mobileclip_deploy.learning.recovery.settings import Settings

__all__ = ["Recovery", "RecoveryPlan", "RecoveryRequest", "Settings", "TowerRecovery", "plan_recovery", "recover"]
