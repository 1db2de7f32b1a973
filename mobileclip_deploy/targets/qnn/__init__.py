"""Qualcomm's NPU: a context binary for each chip, compiled from the ONNX target's model and proven by Qualcomm's own
emulator."""

from mobileclip_deploy.targets.qnn.target import QnnTarget

__all__ = ["QnnTarget"]
