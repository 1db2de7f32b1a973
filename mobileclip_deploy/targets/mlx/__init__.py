"""MLX: one function per tower, which Python, Swift and C++ import, for Apple's GPUs and CPUs."""

from mobileclip_deploy.targets.mlx.target import MlxTarget

__all__ = ["MlxTarget"]
