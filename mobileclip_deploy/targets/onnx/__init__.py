"""ONNX: one file per tower in the layout that transformers.js and optimum expect, run by ONNX Runtime."""

from mobileclip_deploy.targets.onnx.target import OnnxTarget

__all__ = ["OnnxTarget"]
