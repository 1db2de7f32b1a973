"""Core AI: one `.aimodel` per tower, Apple's format for neural networks from iOS 27 and macOS 27 on."""

from mobileclip_deploy.targets.coreai.target import CoreAITarget

__all__ = ["CoreAITarget"]
