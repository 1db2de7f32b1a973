"""Parity: distance of an artifact's embeddings from the checkpoint's, and the gates that it must pass."""

from mobileclip_deploy.parity.gates import Bound, Gates, parse_gates
from mobileclip_deploy.parity.metrics import Deviation, compare, value_tolerance
from mobileclip_deploy.parity.report import Check, ParityReport, StoredWeights

__all__ = [
    "Bound",
    "Check",
    "Deviation",
    "Gates",
    "ParityReport",
    "StoredWeights",
    "compare",
    "parse_gates",
    "value_tolerance",
]
