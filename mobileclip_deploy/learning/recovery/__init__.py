"""Recovery of what aggressive quantization loses: towers trained on the grid of a precision."""

from mobileclip_deploy.learning.recovery.plan import RecoveryPlan, RecoveryRequest, Settings, plan_recovery
from mobileclip_deploy.learning.recovery.recovering import Recovery, TowerRecovery, recover

__all__ = ["Recovery", "RecoveryPlan", "RecoveryRequest", "Settings", "TowerRecovery", "plan_recovery", "recover"]
