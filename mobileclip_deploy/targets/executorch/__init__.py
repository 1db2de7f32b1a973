"""ExecuTorch: one .pte per tower, lowered to a backend; XNNPACK on any CPU, Core ML and Vulkan ahead of time."""

from mobileclip_deploy.targets.executorch.target import ExecuTorchTarget

__all__ = ["ExecuTorchTarget"]
