"""Parity: how far an artifact's embeddings are from the checkpoint's, and whether that is near enough."""

from mobileclip_deploy.parity.baseline import ParityLock, check_drift, locked_figures, read_lock
from mobileclip_deploy.parity.gates import Bound, Gates, parse_gates
from mobileclip_deploy.parity.metrics import Deviation, compare, value_tolerance
from mobileclip_deploy.parity.report import Check, ParityReport, StoredWeights

__all__ = [
    "Bound",
    "Check",
    "Deviation",
    "Gates",
    "ParityLock",
    "ParityReport",
    "StoredWeights",
    "check_drift",
    "compare",
    "locked_figures",
    "parse_gates",
    "read_lock",
    "value_tolerance",
]
