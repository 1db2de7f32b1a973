"""Parity: how far an artifact's embeddings are from the checkpoint's, and whether that is near enough."""

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
